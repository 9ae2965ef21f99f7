"""Restoring a backup into an installation that is set up and empty, on whatever stores it is."""

from collections.abc import Callable, Iterator
from datetime import UTC
from itertools import groupby
from pathlib import Path
from typing import Any

from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model
from django.utils.dateparse import parse_datetime

from devices.models import Device
from events import documents, log
from events.kinds import MASS, Kind
from events.models import Alert, AuditLink, EventLog, Outbox
from iotflow import health
from iotflow.backup import lines, manifest, tables
from iotflow.backup.lines import Row
from iotflow.backup.manifest import Manifest, Unfit
from iotflow.lib.batches import batched
from iotflow.lib.redis import forget_everything
from telemetry import clock, retention
from telemetry.alerting.models import LiveAlert
from telemetry.backfill import Backfill, Sample
from telemetry.importing import BadRow
from telemetry.ndjsonfile import NdjsonFile
from telemetry.stores import rollup_store, telemetry_store
from telemetry.stores.rollups import Mark
from telemetry.summaries import loads

ROLLUPS = 200
GROUP = 500
Advance = Callable[[int], object]


def check(directory: Path, *, other_pepper: bool = False, force: bool = False) -> Manifest:
    """The manifest of a whole backup that can be restored here. Raises Unfit, StoreAway."""
    found = manifest.read(directory)
    manifest.verify(directory, found)
    known = MigrationExecutor(connections["default"]).loader.disk_migrations
    newer = set(found.migrations) - {f"{app}.{name}" for app, name in known}
    if newer:
        raise Unfit(
            f"The backup was made by a newer version ({found.version}): this one does not know "
            f"{', '.join(sorted(newer))}."
        )
    if any(health.lacking(alias) for alias in ("default", "events")) or telemetry_store().faults():
        raise Unfit("The stores are not set up: run `python manage.py setup_stores` first.")
    if not other_pepper and set(found.peppers) - manifest.peppers():
        raise Unfit(
            "Devices' keys in the backup are under another pepper and would all be refused. Set "
            "API_KEY_PEPPER, or API_KEY_PEPPERS_OLD, to what it was; or say --other-pepper."
        )
    if not force and not _is_empty():
        raise Unfit(
            "This installation is not empty. Restore into new databases; or say --force, and "
            "everything that is here is deleted first."
        )
    return found


def restore(directory: Path, found: Manifest, advance: Advance) -> int:
    """Replace all there is by the backup; how many readings were refused.

    Nothing else may run. `advance` is told of lines. Raises StoreAway, DatabaseError, OSError and
    Unfit; then it has to be begun again.
    """
    forget_everything()
    if not _is_empty():
        telemetry_store().empty()
        for document in documents.MODELS:
            documents.empty(document)
    with tables.replacing():
        for model in tables.models():
            path = directory / f"tables/{model._meta.label_lower}.ndjson"
            if path.exists():  # else it is of a newer version
                for count in tables.insert(model, lines.read(path)):
                    advance(count)
        tables.advance(found.sequences)
        LiveAlert.objects.update(delivered=0)
    retention.rules.reload()
    for document in documents.MODELS:
        path = directory / f"documents/{document._meta.label_lower}.ndjson"
        for rows in batched(lines.read(path) if path.exists() else (), GROUP):
            documents.insert(document, _wanted(document, rows, found.began))
            advance(len(rows))
    _restore_rollups(directory / "rollups.ndjson", advance)
    refused = sum(_restore_readings(path, advance) for path in _telemetry(directory))
    log.record(
        Kind.INSTALLATION_RESTORED,
        f"Restored from a backup of {found.began}",
        payload={"began": found.began, "version": found.version, "refused": refused},
    )
    return refused


def _wanted(document: type[Model], rows: list[Row], began: str) -> list[Row]:
    if document is EventLog:
        return _vouched_for(rows, began)
    return _over(rows) if document is Alert else rows


def _over(alerts: list[Row]) -> list[Row]:
    """Those that are over and known to no table. Any other is a row of them as it was when they
    were read, and is delivered from there; what was raised since, they do not know.
    """
    ids = [alert["id"] for alert in alerts]
    live = set(map(str, LiveAlert.objects.filter(pk__in=ids).values_list("pk", flat=True)))
    return [
        alert
        for alert in alerts
        if alert["status"] == Alert.Status.RESOLVED and str(alert["id"]) not in live
    ]


def _vouched_for(events: list[Row], began: str) -> list[Row]:
    """Without those of while the backup was made of which its tables, read before, do not know:
    to the chain over the event log they would be forged.
    """
    moment = parse_datetime(began)
    assert moment is not None
    late = {
        event["id"]
        for event in events
        if event["kind"] not in MASS and (parse_datetime(event["time"]) or moment) >= moment
    }
    of_tables = (AuditLink.objects.all(), Outbox.everything.all())
    known = {
        str(event_id)
        for rows in of_tables
        for event_id in rows.filter(event_id__in=late).values_list("event_id", flat=True)
    }
    return [event for event in events if event["id"] not in late or event["id"] in known]


def _is_empty() -> bool:
    return (
        tables.is_empty()
        and telemetry_store().is_empty()
        and all(documents.is_empty(document) for document in documents.MODELS)
    )


def _telemetry(directory: Path) -> list[Path]:
    return sorted(
        (directory / "telemetry").iterdir(), key=lambda path: int(path.stem.split("-")[1])
    )


def _restore_readings(path: Path, advance: Advance) -> int:
    """Of one device: how many were refused, for they have expired or are not allowed here."""
    device = Device.objects.filter(pk=int(path.stem.split("-")[1])).first()
    if device is None:
        return 0  # it was deleted while the backup was made
    backfill, bad = Backfill(device), 0

    def samples(file: Any) -> Iterator[Sample]:
        nonlocal bad
        for row in NdjsonFile(file, zone=UTC):
            if isinstance(row, BadRow):
                bad += 1
            else:
                yield Sample(row.time, row.values, row.line, row.metadata)

    with path.open("rb") as file:
        for group, refused in backfill.write_all(batched(samples(file), GROUP)):
            bad += len(refused)
            advance(len(group))
    return bad


def _restore_rollups(path: Path, advance: Advance) -> None:
    """Before the readings, which mark the hours that they are in to be rolled up again."""
    types = dict(Device.objects.values_list("pk", "device_type"))
    for (device_id, length), rows in groupby(
        lines.read(path), key=lambda row: (row["device_id"], row.get("length"))
    ):
        for some in batched(rows, ROLLUPS):
            if device_id in types and length is None:
                _restore_progress(some[0])
            elif device_id in types:
                summaries = loads((row["start"], row["summary"]) for row in some)
                named = [(row["name"], one) for row, one in zip(some, summaries, strict=True)]
                written = clock.written()
                rollup_store().write(device_id, types[device_id], length, named, written)
            advance(len(some))


def _restore_progress(row: Row) -> None:
    store, device_id = rollup_store(), row["device_id"]
    store.mark(device_id, [Mark(**mark) for mark in row["marks"]])
    if row["until"] is not None:
        store.advance(device_id, row["until"])
