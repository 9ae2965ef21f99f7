from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import EPOCH
from telemetry.stores import telemetry_store
from telemetry.stores.buckets import WIDTHS, Layout

MARGIN = timedelta(hours=1)


class Command(BaseCommand):
    help = (
        "Change how many hours of a device one partition of Cassandra holds: new days at once, "
        "and the days so far by moving them while they are in use. Broken off, it goes on where "
        "it was; without --hours it goes on, or says what there is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--hours", type=int, choices=WIDTHS, help="A divisor of 24.")
        parser.add_argument(
            "--from",
            dest="first_day",
            type=date.fromisoformat,
            metavar="DAY",
            help="From which day on (UTC), as 2026-01-31; default the first that no reading can "
            "have reached.",
        )
        parser.add_argument(
            "--keep-past", action="store_true", help="Leave the days before in their partitions."
        )
        parser.add_argument(
            "--pause",
            type=int,
            default=60,
            metavar="SECONDS",
            help="Between two steps, for every process to know the last and to finish what it "
            "reads; default 60.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Say what would be done.")

    def handle(self, *args: Any, **options: Any) -> str:
        store = telemetry_store()
        if not store.is_cassandra:
            raise CommandError("Only Cassandra keeps telemetry in partitions.")
        # Here, for the driver is not there without Cassandra.
        from telemetry.stores.resizing import CannotResize, Resizing

        with tqdm(total=1.0, unit="", bar_format="{percentage:5.1f}% |{bar}|", leave=False) as bar:

            def progress(part: float) -> None:
                bar.n = part
                bar.refresh()

            resizing = Resizing(
                store,  # type: ignore[arg-type]
                pause=options["pause"],
                say=self.stdout.write,
                progress=progress,
            )
            try:
                return self._resize(resizing, options)
            except CannotResize as error:
                raise CommandError(str(error)) from error
            except StoreAway as error:
                raise CommandError(f"{error} Run it again, without --hours, to go on.") from error

    def _resize(self, resizing: Any, options: dict[str, Any]) -> str:
        if options["hours"]:
            first_day = options["first_day"] or earliest_day()
            if first_day < earliest_day():
                raise CommandError(
                    f"Readings may have reached that day: {earliest_day()} or later."
                )
            if options["dry_run"]:
                what = "would be left as they are" if options["keep_past"] else "would be moved"
                return f"From {first_day} on {options['hours']} h a partition; earlier days {what}."
            resizing.begin(
                hours=options["hours"],
                first_day=(first_day - EPOCH.date()).days,
                keep_past=options["keep_past"],
            )
        if not options["dry_run"]:
            resizing.go_on()
        return "\n".join(["From the beginning 24 h", *map(described, resizing.layouts())])


def described(layout: Layout) -> str:
    day = EPOCH.date() + timedelta(days=layout.first_day)
    return f"{layout.version}. from {day} on {layout.hours} h; earlier days: {layout.state}"


def earliest_day() -> date:
    """The first day that begins after any time that a reading may have now."""
    skew = timedelta(seconds=settings.CLOCK_SKEW_SECONDS)
    return (datetime.now(UTC) + skew + MARGIN).date() + timedelta(days=1)
