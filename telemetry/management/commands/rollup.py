import math
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from tqdm import tqdm

from devices.models import Device
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import EARLIEST, LATEST, NotATime, now_ms, parse_ms
from telemetry.management.naming import find_device
from telemetry.rollups import SETTLE_MS, Rolling
from telemetry.stores import rollup_store


class Command(BaseCommand):
    help = (
        "Roll up telemetry by the hour and the day: what is over since the last time, and what "
        "late readings or deletions have changed. The worker does so by itself; safe to run again, "
        "and beside it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--device", metavar="NAME_OR_ID", help="Of this device only.")
        parser.add_argument("--owner", metavar="USERNAME", help="Whose device, by username.")
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help="Compute again what is rolled up already. Hours of which readings have expired "
            "stay as they are.",
        )
        parser.add_argument("--since", metavar="TIME", help="With --rebuild: from then on.")
        parser.add_argument("--until", metavar="TIME", help="With --rebuild: up to then.")
        parser.add_argument(
            "--no-wait",
            action="store_true",
            help="Leave what was written in the last minute to the next time.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Say what there is to do.")

    def handle(self, *args: Any, **options: Any) -> str:
        if options["owner"] and not options["device"]:
            raise CommandError("--owner says whose --device it is.")
        if (options["since"] or options["until"]) and not options["rebuild"]:
            raise CommandError("--since and --until say what to --rebuild.")
        start = moment("--since", options["since"], EARLIEST)
        stop = moment("--until", options["until"], LATEST)
        try:
            ids = self._devices(options)
            if options["dry_run"]:
                return self._dry_run(ids, start, stop, options["rebuild"])
            if options["rebuild"]:
                return self._rebuild(ids, start, stop)
            return self._roll(ids, wait=not options["no_wait"])
        except (StoreAway, DatabaseError) as error:
            raise CommandError(f"{error} What was done is kept; run it again.") from error

    def _devices(self, options: dict[str, Any]) -> list[int]:
        if options["device"]:
            return [find_device(options["device"], options["owner"]).pk]
        return list(Device.objects.order_by("pk").values_list("pk", flat=True))

    def _roll(self, ids: list[int], *, wait: bool) -> str:
        begun = now_ms()
        hours = sum(rolled(device_id) for device_id in shown(ids))
        fresh = {device_id: due for device_id in ids if (due := due_by(device_id, begun))}
        if fresh and wait:
            seconds = max(0.0, (max(fresh.values()) - now_ms()) / 1000)
            self.stdout.write(f"Waiting {seconds:.0f} s for what was being written.")
            time.sleep(seconds + 0.01)
            hours += sum(rolled(device_id) for device_id in shown(list(fresh)))
        left = "" if wait or not fresh else f"; {len(fresh)} device(s) wait for what was written"
        return f"{hours:,} hour(s) of {len(ids):,} device(s) rolled up{left}."

    def _rebuild(self, ids: list[int], start: int, stop: int) -> str:
        hours = 0
        for device_id in shown(ids):
            rolling = now_rolling(device_id)
            if not rolling.rebuild(start, stop):
                raise CommandError(
                    f"Device {device_id} was rolled up by somebody else or deleted meanwhile; "
                    "run it again."
                )
            hours += rolling.hours
        return f"{hours:,} hour(s) of {len(ids):,} device(s) rolled up anew."

    def _dry_run(self, ids: list[int], start: int, stop: int, rebuild: bool) -> str:
        days = marks = 0
        for device_id in shown(ids):
            rolling = now_rolling(device_id)
            days += rolling.rolled_days(start, stop) if rebuild else rolling.waiting_days()
            marks += rolling.marks
        if rebuild:
            return (
                f"{days:,} day(s) with readings, of {len(ids):,} device(s), would be rolled up "
                "anew. Nothing was changed."
            )
        return (
            f"{days:,} day(s) with readings, of {len(ids):,} device(s), would be rolled up, and "
            f"{marks:,} mark(s) of what has changed worked off. Nothing was changed."
        )


def rolled(device_id: int) -> int:
    """Do all that there is to do for a device; how many hours that were."""
    hours = 0
    while True:
        rolling = now_rolling(device_id)
        more = rolling.run()
        hours += rolling.hours
        if not more or not Device.objects.filter(pk=device_id).exists():
            return hours


def now_rolling(device_id: int) -> Rolling:
    return Rolling(device_id, rollup_store().progress([device_id])[device_id], math.inf)


def due_by(device_id: int, begun: int) -> int:
    """When the last of the marks that late readings had set by then is due; 0 where none is."""
    marks = rollup_store().progress([device_id])[device_id].marks
    return max((mark.due for mark in marks if mark.due <= begun + SETTLE_MS), default=0)


def shown(ids: list[int]) -> Any:
    """The devices, with a bar where somebody looks at a terminal."""
    return tqdm(ids, unit="device", desc="rolling up", disable=None)


def moment(option: str, text: str | None, default: int) -> int:
    try:
        return default if text is None else parse_ms(text, now_ms())
    except NotATime as error:
        raise CommandError(f"{option}: {error}") from error
