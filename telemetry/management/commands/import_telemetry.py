import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
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
from telemetry.importing import BadFile, CsvFile, Noted, Tally, span
from telemetry.management.naming import find_device, readings


class Command(BaseCommand):
    help = (
        "Import readings from a CSV file with a header. Rows that cannot be stored are skipped "
        "whole and named; importing the same file again stores nothing twice, and rows of one "
        "time are one reading."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--device", required=True, metavar="NAME_OR_ID")
        parser.add_argument("--owner", metavar="USERNAME", help="Whose device, by username.")
        parser.add_argument("--time", required=True, metavar="COLUMN", help="Column of times.")
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
            "another import with it moves them anew.",
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
        csv = {"time": options["time"], "zone": zone(options["tz"]), "mapping": mapping(options)}
        path = options["file"]
        device = find_device(options["device"], options["owner"])
        shift = self._shift(path, csv) if options["shift_to_now"] else 0
        if options["dry_run"]:
            return self._dry_run(path, csv, shift, device)
        backfill, tally = Backfill(device), Tally()
        details = {"shifted_ms": shift} if shift else {}
        try:
            self._store(path, csv, shift, backfill, tally)
        except Device.DoesNotExist as error:
            raise CommandError("The device was deleted; what was imported goes with it.") from error
        except (StoreAway, OSError, KeyboardInterrupt) as error:
            if backfill.stored:
                with suppress(DatabaseError):
                    backfill.finish(path.name, "system", {**details, "complete": False})
            elif isinstance(error, OSError):
                raise
            raise CommandError(broken_off(error, backfill.stored, bool(shift))) from error
        backfill.finish(path.name, "system", {**details, "rows_skipped": tally.bad.count})
        self._tell(tally, options["tz"])
        imported = readings(backfill.stored - tally.repeated)
        return f"{imported} imported{skipped(tally.bad)}."

    def _store(
        self, path: Path, csv: dict[str, Any], shift: int, backfill: Backfill, tally: Tally
    ) -> None:
        with opened(path, csv) as rows:
            for group in batched(tally.good(rows), settings.IMPORT_GROUP):
                samples = [Sample(row.time + shift, row.values, row.line) for row in group]
                for refused, reason in backfill.write(samples):
                    tally.bad.add(refused.line, reason)

    def _shift(self, path: Path, csv: dict[str, Any]) -> int:
        """What to add to every time, from a pass over the whole file."""
        self.stdout.write("Reading the file once for its newest time.")
        tally = Tally()
        with opened(path, csv) as rows:
            for _ in tally.good(rows):
                pass
        shift = now_ms() - tally.latest if tally.rows else 0
        if tally.rows and tally.earliest + shift < EARLIEST:
            raise CommandError("The times span too many years to be shifted.")
        return shift

    def _dry_run(self, path: Path, csv: dict[str, Any], shift: int, device: Device) -> str:
        tally = Tally()
        with opened(path, csv) as rows:
            for _ in tally.good(rows):
                pass
        self._tell(tally, str(csv["zone"]))
        self.stdout.write(f"Device: {device.name} (id {device.pk}) of {device.owner.username}")
        if tally.rows:
            self.stdout.write(f"Times: {span(tally, shift)}")
            self.stdout.write(f"Measurements: {', '.join(sorted(tally.measurements))}")
        return (
            f"{readings(tally.readings)} would be imported{skipped(tally.bad)}. "
            "Nothing was changed."
        )

    def _tell(self, tally: Tally, zone: str) -> None:
        """What was skipped, and what was in doubt, by line."""
        for line, reason in tally.bad.first:
            self.stdout.write(f"  line {line} skipped: {reason}")
        if tally.bad.more:
            self.stdout.write(f"  and {tally.bad.more:,} more")
        if tally.repeated:
            self.stdout.write(
                f"{tally.repeated:,} row(s) have the time of a row before them: they are one "
                "reading, in which the last value counts."
            )
        if tally.doubtful.count:
            examples = "; ".join(f"line {line}: {what}" for line, what in tally.doubtful.first[:3])
            self.stdout.write(
                f"Warning: a change of clocks in {zone} skips or repeats {tally.doubtful.count:,} "
                f"local time(s) ({examples}). The offset before the change was taken."
            )


@contextmanager
def opened(path: Path, csv: dict[str, Any]) -> Iterator[CsvFile]:
    """The file open for one pass, with a bar of its bytes where somebody looks at a terminal."""
    with (
        path.open("rb") as file,
        tqdm(
            total=size_of(file.fileno()), unit="B", unit_scale=True, desc=path.name, disable=None
        ) as bar,
    ):
        yield CsvFile(file, advance=bar.update, **csv)


def broken_off(error: BaseException, stored: int, shifted: bool) -> str:
    what = "Interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
    if shifted:
        again = (
            "Another import with --shift-to-now moves the times anew, so that these would be "
            "there twice: delete them first."
        )
    else:
        again = "Running the same import again is safe: nothing is stored twice."
    return f"{what} {readings(stored)} safely stored. {again}"


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
