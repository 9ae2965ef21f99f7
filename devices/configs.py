"""The configuration that a device is to run: versioned, in the event store (MongoDB).

A device without configuration is at version 0, which is empty. Versions count up from 1 without
a gap. Everything here raises StoreAway when the store is.
"""

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from devices import notices
from devices.key_cache import DeviceRecord
from devices.models import Device
from events import log, sinks
from events.kinds import Kind, Severity
from events.models import DeviceConfig, ReportedConfig
from iotflow.lib import json
from iotflow.lib.errors import Conflict
from iotflow.lib.jsondiff import Operation, diff

ATTEMPTS = 50
HISTORY_BYTES = 8 * 1024 * 1024
EVENT_PATHS = 50
EVENT_PATH_LENGTH = 200


def current(device_id: int) -> DeviceConfig:
    """The newest version; an unsaved one of number 0 where there is none."""
    with sinks.guarded():
        newest = DeviceConfig.objects.filter(device_id=device_id).order_by("-version").first()
    return newest or DeviceConfig(device_id=device_id, version=0)


def find(device_id: int, version: int) -> DeviceConfig | None:
    with sinks.guarded():
        return DeviceConfig.objects.filter(device_id=device_id, version=version).first()


def reported(device_id: int) -> ReportedConfig | None:
    """What the device last said it runs."""
    with sinks.guarded():
        return ReportedConfig.objects.filter(device_id=device_id).first()


def in_sync(version: int, report: ReportedConfig | None) -> bool:
    """Whether the device runs this version, as far as it said; where nothing is wanted, it does."""
    if report is None:
        return version == 0
    return report.version == version and report.status == ReportedConfig.Status.APPLIED


def history(
    device_id: int, *, offset: int, limit: int
) -> tuple[list[tuple[DeviceConfig, list[Operation]]], int]:
    """Versions, newest first, each with its difference to the one before; and how many there are.

    A page ends early at about HISTORY_BYTES of configurations, but is never empty for it.
    """
    versions = DeviceConfig.objects.filter(device_id=device_id).order_by("-version")
    rows: list[DeviceConfig] = []
    size = 0
    with sinks.guarded():
        total = versions.count()
        for row in versions[offset : offset + limit + 1].iterator(chunk_size=20):
            rows.append(row)
            size += len(json.dumps(row.config))
            if size > HISTORY_BYTES and len(rows) > 1:
                break
    older = [row.config for row in rows[1:]]
    if rows and rows[-1].version == 1 and len(rows) <= limit:
        older.append({})
    pairs = zip(rows, older, strict=False)  # one more may be there only to compare with
    return [(row, diff(before, row.config)) for row, before in pairs], total


def put(
    *,
    device: Device,
    config: dict[str, Any],
    actor: str,
    expected: int | None = None,
    rolled_back_to: int | None = None,
) -> tuple[DeviceConfig, list[Operation]]:
    """Make `config` the newest version; it and what changed, which is nothing where it was already.

    Two at the same time make two versions: the unique constraint decides, the loser goes again.
    Conflict when the newest version is not the `expected` one, or too many write at once.
    """
    for _ in range(ATTEMPTS):
        before = current(device.pk)
        if expected not in (None, before.version):
            raise Conflict(
                f"The configuration is at version {before.version}.",
                {"If-Match": f"The current version is {before.version}."},
            )
        changes = diff(before.config, config)
        if not changes:
            return before, []
        version = DeviceConfig(
            device_id=device.pk,
            version=before.version + 1,
            config=config,
            author=actor,
            created_at=timezone.now(),
            rolled_back_to=rolled_back_to,
        )
        try:
            # Its event first, so that without the event there is no version; the notice likewise.
            with transaction.atomic():
                _record_version(device, version, changes)
                notices.config_changed([device.pk])
                with sinks.guarded():
                    version.save(force_insert=True)
        except IntegrityError:
            continue
        return version, changes
    raise Conflict("Others are changing this configuration all the time; try again.")


def report(*, device: DeviceRecord, version: int, status: str, message: str) -> ReportedConfig:
    """Keep what the device says it runs; an event where that is news. `version` is one there was.

    The last report counts, whatever its version.
    """
    before = reported(device.id)
    said = ReportedConfig(
        device_id=device.id,
        version=version,
        status=status,
        message=message,
        reported_at=timezone.now(),
    )
    with transaction.atomic():
        if before is None or (before.version, before.status) != (version, status):
            _record_report(device, said)
        with sinks.guarded():
            _save(said)
    return said


def owners_of_any() -> set[int]:
    """The devices that have a configuration."""
    with sinks.guarded():
        return set(DeviceConfig.objects.values_list("device_id", flat=True).distinct())


def count(device_id: int) -> int:
    """How many versions there are."""
    with sinks.guarded():
        return DeviceConfig.objects.filter(device_id=device_id).count()


def erase(device_id: int) -> None:
    """Drop every version and what the device reported."""
    with sinks.guarded():
        ReportedConfig.objects.filter(device_id=device_id).delete()
        DeviceConfig.objects.filter(device_id=device_id).delete()


def _save(said: ReportedConfig) -> None:
    try:
        said.save()
    except IntegrityError:  # another first report came between; now there is one to update
        said.save(force_update=True)


def _record_version(device: Device, version: DeviceConfig, changes: list[Operation]) -> None:
    """The event tells which paths changed. Their values may be secrets of the device."""
    payload: dict[str, Any] = {
        "version": version.version,
        "changes": len(changes),
        "paths": [
            f"{change['op']} {change['path'][:EVENT_PATH_LENGTH]}"
            for change in changes[:EVENT_PATHS]
        ],
    }
    kind, what = Kind.DEVICE_CONFIG_CHANGED, "changed"
    if version.rolled_back_to is not None:
        kind, what = Kind.DEVICE_CONFIG_ROLLED_BACK, f"rolled back to {version.rolled_back_to}"
        payload["rolled_back_to"] = version.rolled_back_to
    log.record(
        kind,
        f"Configuration of device {device.name} {what}: version {version.version}",
        actor=version.author,
        user_id=device.owner_id,
        device_id=device.pk,
        payload=payload,
    )


def _record_report(device: DeviceRecord, said: ReportedConfig) -> None:
    failed = said.status == ReportedConfig.Status.FAILED
    log.record(
        Kind.DEVICE_CONFIG_REPORTED,
        f"Device {device.name} reports version {said.version} of its configuration: {said.status}",
        actor=f"device:{device.id}",
        user_id=device.owner_id,
        device_id=device.id,
        severity=Severity.WARNING if failed else Severity.INFO,
        payload={"version": said.version, "status": said.status},
    )
