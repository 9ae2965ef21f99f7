from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from tqdm import tqdm

from iotflow.backup import manifest, restoring
from iotflow.backup.manifest import Manifest, Unfit
from iotflow.lib.errors import StoreAway


class Command(BaseCommand):
    help = (
        "Take back what `backup` wrote, into stores that are set up and empty. No server and no "
        "worker may run on them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path, metavar="DIRECTORY")
        parser.add_argument(
            "--dry-run", action="store_true", help="Verify the backup, and say what is in it."
        )
        parser.add_argument(
            "--force", action="store_true", help="Delete first what is in the stores."
        )
        parser.add_argument(
            "--other-pepper",
            action="store_true",
            help="Also where no device's key will work afterwards.",
        )

    def handle(self, *args: Any, **options: Any) -> str:
        directory, force = options["directory"], options["force"]
        try:
            found = restoring.check(directory, other_pepper=options["other_pepper"], force=force)
        except (Unfit, StoreAway, DatabaseError, OSError) as error:
            raise CommandError(str(error)) from error
        self._tell(found)
        if options["dry_run"]:
            return "The backup is whole and fits. Nothing was changed."
        try:
            with tqdm(total=found.lines(""), unit=" lines", disable=None) as bar:
                refused = restoring.restore(directory, found, bar.update)
        except (Unfit, StoreAway, DatabaseError, OSError, KeyboardInterrupt) as error:
            what = "Interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
            raise CommandError(
                f"{what} A part is restored; run the same with --force to begin again."
            ) from error
        left_out = f" {refused:,} readings were refused: expired by now." if refused else ""
        return f"Restored.{left_out} `rollup` rolls up what the worker would in time."

    def _tell(self, found: Manifest) -> None:
        self.stdout.write(f"Backed up from {found.began} to {found.ended}, by {found.version}, of:")
        for name, version in found.stores.items():
            self.stdout.write(f"  {name}: {version}")
        for what, folder in (
            ("users", "tables/accounts.user."),
            ("devices", "tables/devices.device."),
            ("readings", "telemetry/"),
            ("events", "documents/events.eventlog."),
        ):
            self.stdout.write(f"  {what}: {found.lines(folder):,}")
        if found.secret_key != manifest.secret_key():
            self.stdout.write("SECRET_KEY is another one here: whoever was logged in logs in anew.")
