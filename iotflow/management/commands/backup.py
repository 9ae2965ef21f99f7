from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from tqdm import tqdm

from iotflow.backup.making import back_up
from iotflow.backup.manifest import Unfit
from iotflow.lib.errors import StoreAway


class Command(BaseCommand):
    help = (
        "Write everything but secrets into a directory, whatever the stores are and while they "
        "are used. `restore` takes it back, into any stores."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="New, or empty.")

    def handle(self, *args: Any, **options: Any) -> str:
        directory = options["directory"]
        try:
            with tqdm(unit=" lines", disable=None) as bar:
                made = back_up(directory, bar.update)
        except Unfit as error:
            raise CommandError(str(error)) from error
        except (StoreAway, DatabaseError, OSError, KeyboardInterrupt) as error:
            what = "Interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
            raise CommandError(f"{what} What is in {directory} is no backup.") from error
        megabytes = sum(entry.bytes for entry in made.files.values()) / 1e6
        return (
            f"{made.lines('tables/accounts.user.')} user(s), "
            f"{made.lines('tables/devices.device.')} device(s), "
            f"{made.lines('telemetry/'):,} readings and "
            f"{made.lines('documents/events.eventlog.'):,} events are in {directory}: "
            f"{megabytes:,.1f} MB. SECRET_KEY and API_KEY_PEPPER are not: keep them apart."
        )
