import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from tqdm import tqdm

from devices.models import Device
from iotflow.lib.batches import batched
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import EARLIEST, now_ms
from telemetry.backfill import Backfill, Sample
from telemetry.bookmark import Bookmark, Place
from telemetry.importing import BadFile, BadRow, CsvFile, Noted, Row, Tally, span
from telemetry.management.naming import find_device, readings
from telemetry.ndjsonfile import NdjsonFile
from telemetry.parameters import FORMATS

ENDINGS = {".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}  # else CSV
Rows = Iterable[Row | BadRow]


@dataclass(frozen=True, slots=True)
class How:
    """How a file is read; without `time` it is one that an export wrote."""

    format: str
    time: str | None
    zone: ZoneInfo
    mapping: dict[str, str] | None


class Command(BaseCommand):
    help = (
        "Import readings of one device from CSV with a header, NDJSON or Parquet: what "
        "export_telemetry wrote, or with --time any table. Rows that cannot be stored are skipped "
        "whole and named; importing the same file again stores nothing twice, and rows of one "
        "time are one reading."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--device", required=True, metavar="NAME_OR_ID")
        parser.add_argument("--owner", metavar="USERNAME", help="Whose device, by username.")
        parser.add_argument(
            "--format", choices=FORMATS, help="Default: by the name's ending, else csv."
        )
        parser.add_argument(
            "--time", metavar="COLUMN", help="Column of times; not for what was exported."
        )
        parser.add_argument(
            "--tz", default="UTC", metavar="ZONE", help="Of times that name none; default UTC."
        )
        parser.add_argument(
            "--map",
            nargs="+",
            action="extend",
            metavar="COLUMN=MEASUREMENT",
            help="Import these columns only, under these names; otherwise all, under their own.",
        )
        parser.add_argument(
            "--shift-to-now",
            action="store_true",
            help="Move all times by one constant so that the newest is now. Reads the file twice; "
            "another import with it moves them anew, unless it resumes.",
        )
        parser.add_argument(
            "--resume", action="store_true", help="Go on where an import of this file broke off."
        )
        parser.add_argument("--dry-run", action="store_true", help="Say what would be imported.")

    def handle(self, *args: Any, **options: Any) -> str:
        try:
            return self._import(options)
        except OSError as error:
            raise CommandError(f"{options['file']} cannot be read: {error.strerror}.") from error
        except BadFile as error:
            raise CommandError(f"{options['file']} cannot be imported. {error}") from error
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}") from error

    def _import(self, options: dict[str, Any]) -> str:
        path, how = options["file"], how_to_read(options)
        device = find_device(options["device"], options["owner"])
        bookmark = Bookmark(path, device.pk, how, options["shift_to_now"])
        place = bookmark.read() if options["resume"] else None
        if place is None:
            place = Place(shift=self._shift(path, how) if options["shift_to_now"] else 0)
        else:
            self.stdout.write(f"Going on behind {unit(how)} {place.line:,}.")
        tally = Tally(bad=Noted(unit(how)), doubtful=Noted(unit(how)))
        if options["dry_run"]:
            return self._dry_run(path, how, place, device, tally)
        backfill = Backfill(device)
        details = {"shifted_ms": place.shift} if place.shift else {}
        try:
            self._store(path, how, place, backfill, tally, bookmark)
        except Device.DoesNotExist as error:
            raise CommandError("The device was deleted; what was imported goes with it.") from error
        except (StoreAway, OSError, BadFile, KeyboardInterrupt) as error:
            if backfill.stored:
                with suppress(DatabaseError):
                    backfill.finish(path.name, "system", {**details, "complete": False})
            elif isinstance(error, OSError | BadFile):
                raise
            raise CommandError(broken_off(error, backfill.stored)) from error
        bookmark.remove()
        backfill.finish(path.name, "system", {**details, "rows_skipped": tally.bad.count})
        self._tell(tally, options["tz"])
        imported = readings(backfill.stored - tally.repeated)
        return f"{imported} imported{skipped(tally.bad)}."

    def _store(
        self,
        path: Path,
        how: How,
        place: Place,
        backfill: Backfill,
        tally: Tally,
        bookmark: Bookmark,
    ) -> None:
        """Store what is behind the place, and keep the place that was reached."""
        with opened(path, how) as rows:
            groups = batched(samples(tally.good(behind(rows, place)), place), settings.IMPORT_GROUP)
            try:
                with closing(backfill.write_all(groups)) as written:
                    for _, refusals in written:
                        for refused, reason in refusals:
                            tally.bad.add(refused.line, reason)
                        bookmark.note(Place(backfill.line, place.shift))
            except BaseException:
                with suppress(OSError):
                    bookmark.keep(Place(max(backfill.line, place.line), place.shift))
                raise

    def _shift(self, path: Path, how: How) -> int:
        """What to add to every time, from a pass over the whole file."""
        self.stdout.write("Reading the file once for its newest time.")
        tally = Tally()
        with opened(path, how) as rows:
            for _ in tally.good(rows):
                pass
        shift = now_ms() - tally.latest if tally.rows else 0
        if tally.rows and tally.earliest + shift < EARLIEST:
            raise CommandError("The times span too many years to be shifted.")
        return shift

    def _dry_run(self, path: Path, how: How, place: Place, device: Device, tally: Tally) -> str:
        with opened(path, how) as rows:
            for _ in tally.good(behind(rows, place)):
                pass
        self._tell(tally, str(how.zone))
        self.stdout.write(f"Device: {device.name} (id {device.pk}) of {device.owner.username}")
        if tally.rows:
            self.stdout.write(f"Times: {span(tally, place.shift)}")
            self.stdout.write(f"Measurements: {', '.join(sorted(tally.measurements))}")
        return (
            f"{readings(tally.readings)} would be imported{skipped(tally.bad)}. "
            "Nothing was changed."
        )

    def _tell(self, tally: Tally, zone: str) -> None:
        """What was skipped, and what was in doubt, by line."""
        for line, reason in tally.bad.first:
            self.stdout.write(f"  {tally.bad.unit} {line} skipped: {reason}")
        if tally.bad.more:
            self.stdout.write(f"  and {tally.bad.more:,} more")
        if tally.repeated:
            self.stdout.write(
                f"{tally.repeated:,} row(s) have the time of a row before them: they are one "
                "reading, in which the last value counts."
            )
        if tally.doubtful.count:
            examples = "; ".join(
                f"{tally.doubtful.unit} {line}: {what}" for line, what in tally.doubtful.first[:3]
            )
            self.stdout.write(
                f"Warning: a change of clocks in {zone} skips or repeats {tally.doubtful.count:,} "
                f"local time(s) ({examples}). The offset before the change was taken."
            )


@contextmanager
def opened(path: Path, how: How) -> Iterator[Rows]:
    """The file open for one pass, with a bar of its bytes where somebody looks at a terminal."""
    with (
        path.open("rb") as file,
        tqdm(
            total=size_of(file.fileno()), unit="B", unit_scale=True, desc=path.name, disable=None
        ) as bar,
    ):
        yield rows_of(file, how, bar)


def rows_of(file: IO[bytes], how: How, bar: Any) -> Rows:
    if how.format == "ndjson":
        return NdjsonFile(file, zone=how.zone, advance=bar.update)
    table = {"time": how.time, "zone": how.zone, "mapping": how.mapping, "advance": bar.update}
    if how.format == "csv":
        return CsvFile(file, **table)
    from telemetry.parquetfile import ParquetFile  # a large library, for those who want it

    return ParquetFile(file, **table)


def behind(rows: Rows, place: Place) -> Rows:
    return (row for row in rows if row.line > place.line)


def samples(rows: Iterable[Row], place: Place) -> Iterator[Sample]:
    for row in rows:
        yield Sample(row.time + place.shift, row.values, row.line, row.metadata)


def unit(how: How) -> str:
    return "row" if how.format == "parquet" else "line"


def how_to_read(options: dict[str, Any]) -> How:
    """The options as How. CommandError for what cannot be meant."""
    wanted = options["format"] or ENDINGS.get(options["file"].suffix.lower(), "csv")
    how = How(wanted, options["time"], zone(options["tz"]), mapping(options))
    if how.time is not None and wanted == "ndjson":
        raise CommandError("--time is for tables; a line of NDJSON names its “timestamp”.")
    if how.mapping is not None and how.time is None:
        raise CommandError("--map goes with --time; what was exported has its names.")
    return how


def broken_off(error: BaseException, stored: int) -> str:
    what = "Interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
    return (
        f"{what} {readings(stored)} safely stored. "
        "Run the same import again with --resume to go on; nothing is stored twice."
    )


def size_of(descriptor: int) -> int | None:
    status = os.fstat(descriptor)
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CommandError(
            f"There is no time zone “{name}”; zones are named like Europe/Berlin or UTC."
        ) from error


def mapping(options: dict[str, Any]) -> dict[str, str] | None:
    """--map as column → measurement; None where it was not given."""
    if options["map"] is None:
        return None
    columns: dict[str, str] = {}
    for text in options["map"]:
        column, _, measurement = text.rpartition("=")
        if not column or not measurement:
            raise CommandError(f"--map takes COLUMN=MEASUREMENT, not “{text}”.")
        if column in columns:
            raise CommandError(f"--map names column “{column}” twice.")
        columns[column] = measurement
    return columns


def skipped(bad: Noted) -> str:
    """`, 3 rows skipped (lines 4, 17, 90)`; nothing where no row was bad."""
    if not bad.count:
        return ""
    return f", {bad.count:,} row{'' if bad.count == 1 else 's'} skipped ({bad.lines()})"
