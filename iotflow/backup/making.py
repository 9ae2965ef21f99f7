"""Making a backup while everything goes on.

The relational tables come first, as they are at one moment; then the telemetry of the devices in
them; the documents last. So there is no reading without its device, no event of that moment that
was neither delivered nor waiting, and next to no reading without its event. What is written
meanwhile may be in it or not; repeating it is harmless everywhere.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from devices import keys
from devices.models import ApiKey, Device
from events import documents
from iotflow import __version__, health
from iotflow.backup import lines, manifest, tables
from iotflow.backup.lines import Row
from iotflow.backup.manifest import Manifest, Unfit
from iotflow.lib.timeparse import EARLIEST, LATEST, format_ms, now_ms
from telemetry.archive import Archive, Order
from telemetry.stores import rollup_store
from telemetry.stores.rollups import MARKS_MAX, Mark, Progress
from telemetry.summaries import dumps
from telemetry.windows import DAY, HOUR

Advance = Callable[[int], object]


def back_up(directory: Path, advance: Advance) -> Manifest:
    """Write a backup into a new or empty directory. `advance` is told of lines as they are written.

    Raises Unfit, StoreAway, DatabaseError and OSError; what is in the directory then is no backup.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise Unfit(f"{directory} is not empty. Name another one, or remove what is there.")
    made = _begun()
    with tables.snapshot():
        made.sequences = tables.sequences()
        made.peppers = _peppers()
        for model in tables.models():
            _write(directory, f"tables/{model._meta.label_lower}", tables.rows(model), advance)
        newest = Device.objects.order_by("pk").values_list("pk", flat=True).last() or 0
    _write_telemetry(directory / "telemetry", newest, advance)
    _write(directory, "rollups", _rollups(newest), advance)
    for document in documents.MODELS:
        found = (row for row in documents.rows(document) if _was_there(row, newest))
        _write(directory, f"documents/{document._meta.label_lower}", found, advance)
    made.ended = format_ms(now_ms())
    made.files = manifest.describe(directory)
    made.write(directory)
    return made


def _begun() -> Manifest:
    now = format_ms(now_ms())
    applied = MigrationRecorder(connections["default"]).applied_migrations()
    return Manifest(
        version=__version__,
        began=now,
        ended=now,
        stores={name: store.version for name, store in health.stores().items()},
        migrations=sorted(f"{app}.{name}" for app, name in applied),
        peppers=[],
        secret_key=manifest.secret_key(),
        sequences={},
    )


def _peppers() -> list[str]:
    """Those that keys here were made under; keys older than this note are under the present one."""
    known = set(ApiKey.objects.unended(timezone.now()).values_list("pepper", flat=True).distinct())
    present = keys.fingerprint(manifest.known_peppers()[0])
    return sorted({pepper or present for pepper in known})


def _write(directory: Path, name: str, rows: Iterator[Row], advance: Advance) -> None:
    def told() -> Iterator[Row]:
        for row in rows:
            yield row
            advance(1)

    lines.write(directory / f"{name}.ndjson", told())


def _write_telemetry(directory: Path, newest: int, advance: Advance) -> None:
    directory.mkdir(mode=0o700)
    order = Order("ndjson", (), (), {}, start=EARLIEST, end=LATEST)
    Archive(directory, order).run(advance)
    for path in directory.iterdir():  # of devices that came while it was written
        if int(path.stem.removeprefix("device-")) > newest:
            path.unlink()


def _rollups(newest: int) -> Iterator[Row]:
    """Rollups may outlive their readings. Of each device its marks come last, for those of
    meanwhile are among them then.
    """
    store = rollup_store()
    devices = Device.objects.filter(pk__lte=newest).order_by("pk").values_list("pk", flat=True)
    for device_id in devices.iterator():
        for length in (HOUR, DAY):
            for name, found in store.everything(device_id, length):
                text = dumps(found)
                yield {
                    "device_id": device_id,
                    "length": length,
                    "name": name,
                    "start": found.start,
                    "summary": text,
                }
        yield _progress(device_id, store.progress([device_id])[device_id])


def _progress(device_id: int, progress: Progress) -> Row:
    marks = list(progress.marks)
    if len(marks) > MARKS_MAX:  # there may be more: one for all of it
        first = marks[0]
        marks = [Mark(first.start, LATEST, first.due, first.version, deleted=True)]
    wanted = ("start", "stop", "due", "version", "deleted")
    return {
        "device_id": device_id,
        "until": progress.until,
        "marks": [{name: getattr(mark, name) for name in wanted} for mark in marks],
    }


def _was_there(row: Row, newest: int) -> bool:
    """Not of a device that came later: after a restore another one has its id."""
    device_id = row.get("device_id")
    return device_id is None or device_id <= newest
