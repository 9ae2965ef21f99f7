import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from tqdm import tqdm

from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import EARLIEST, LATEST, NotATime, now_ms, parse_ms
from telemetry.archive import Archive, Order, Unfit
from telemetry.management.naming import find_device, readings
from telemetry.parameters import FORMATS


class Command(BaseCommand):
    help = (
        "Export readings, oldest first, into a directory: a file for each device. What broke off "
        "goes on where it ended when the same command is run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path, metavar="DIRECTORY")
        parser.add_argument("--device", nargs="+", metavar="NAME_OR_ID", help="These devices.")
        parser.add_argument("--owner", metavar="USERNAME", help="Whose devices, by username.")
        parser.add_argument("--all", action="store_true", help="Every device there is.")
        parser.add_argument("--format", choices=FORMATS, default="ndjson", help="Default ndjson.")
        parser.add_argument(
            "--since", metavar="TIME", help="Included: 2026-01-31, -7d …; default: the first."
        )
        parser.add_argument("--until", metavar="TIME", help="Included; default: the last.")
        parser.add_argument(
            "--fields", metavar="A,B", help="Only these measurements; default: all."
        )
        parser.add_argument(
            "--replace",
            action="store_true",
            help="Write files anew that are there, and give up an unfinished export.",
        )

    def handle(self, *args: Any, **options: Any) -> str:
        directory = options["directory"]
        try:
            directory.mkdir(parents=True, exist_ok=True)
            archive = Archive(directory, order(options), replace=options["replace"])
            if archive.resumed:
                self.stdout.write(f"Going on: {readings(archive.progress.readings)} are there.")
            return self._run(archive)
        except Unfit as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{directory} cannot be used: {error.strerror}.") from error
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}") from error

    def _run(self, archive: Archive) -> str:
        before, started = archive.progress.readings, time.monotonic()
        try:
            with tqdm(initial=before, unit=" readings", disable=None) as bar:
                files = archive.run(bar.update)
        except (StoreAway, DatabaseError, OSError, KeyboardInterrupt) as error:
            what = "Interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
            raise CommandError(
                f"{what} {readings(archive.progress.readings)} are safe in {archive.directory}. "
                "Run the same command again to go on."
            ) from error
        seconds = time.monotonic() - started
        rate = (archive.progress.readings - before) / max(seconds, 0.001)
        return (
            f"{readings(archive.progress.readings)} exported into {archive.directory}: "
            f"{files} file{'' if files == 1 else 's'}, {seconds:.1f} s, {rate:,.0f} readings/s."
        )


def order(options: dict[str, Any]) -> Order:
    """The options as an order. CommandError for what cannot be meant."""
    return Order(
        format=options["format"],
        fields=sorted(fields(options["fields"])),
        devices=devices(options),
        asked={"since": options["since"], "until": options["until"]},
        start=moment("since", options, EARLIEST),
        end=moment("until", options, LATEST),
    )


def devices(options: dict[str, Any]) -> list[int]:
    if options["all"] == bool(options["device"]):
        raise CommandError("Name the devices with --device, or say --all.")
    if options["all"] and options["owner"]:
        raise CommandError("--owner goes with --device.")
    named = options["device"] or []
    return sorted({find_device(name, options["owner"]).pk for name in named})


def fields(text: str | None) -> set[str]:
    found = set(filter(None, (text or "").split(",")))
    if len(found) > settings.MEASUREMENTS_MAX:
        raise CommandError(f"--fields takes at most {settings.MEASUREMENTS_MAX} measurements.")
    return found


def moment(name: str, options: dict[str, Any], default: int) -> int:
    if options[name] is None:
        return default
    try:
        return parse_ms(options[name], now_ms())
    except NotATime as error:
        raise CommandError(f"--{name}: {error}") from error
