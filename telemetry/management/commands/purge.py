from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.utils import timezone
from tqdm import tqdm

from devices.models import Device
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import format_ms, to_ms
from telemetry import policies, retention
from telemetry.stores import rollup_store, telemetry_store
from telemetry.stores.base import Holder, Overdue

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Delete telemetry that has expired, which the relational store does not do itself. With "
        "--policy also what is stored for longer than policies say now, in either store; without "
        "--yes that is only told. Safe to break off and to run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--policy", action="store_true", help="Go by the present policies.")
        parser.add_argument("--device", type=int, metavar="ID", help="With --policy: only this.")
        parser.add_argument("--yes", action="store_true", help="With --policy: delete.")
        parser.add_argument("--dry-run", action="store_true", help="Say what would be deleted.")

    def handle(self, *args: Any, **options: Any) -> str:
        if not options["policy"] and (options["device"] is not None or options["yes"]):
            raise CommandError("--device and --yes go with --policy.")
        try:
            return self._by_policy(options) if options["policy"] else self._expired(options)
        except (StoreAway, DatabaseError) as error:
            raise CommandError(f"{error} Running it again is safe.") from error
        except KeyboardInterrupt as error:
            raise CommandError("Interrupted. Running it again goes on.") from error

    def _expired(self, options: dict[str, Any]) -> str:
        store = telemetry_store()
        if store.is_cassandra:
            return "Cassandra drops what has expired by itself. There is nothing to do."
        now = to_ms(timezone.now())
        count = store.expired(now)
        if options["dry_run"]:
            return f"{count:,} expired value(s) would be deleted. Nothing was changed."
        with tqdm(total=count, unit=" values", disable=None) as bar:
            deleted = store.purge(now, bar.update)
        rollup_store().purge(now)
        return f"{deleted:,} expired value(s) deleted."

    def _by_policy(self, options: dict[str, Any]) -> str:
        only, is_dry = options["device"], options["dry_run"] or not options["yes"]
        devices = Device.objects.count() if only is None else 1
        if only is not None and not Device.objects.filter(pk=only).exists():
            raise CommandError(f"There is no device {only}.")
        started, sums = timezone.now(), Counter[str]()
        with tqdm(total=devices, unit=" devices", disable=None) as bar:
            for holder in policies.holders(only):
                found = self._look(holder, to_ms(started), is_dry)
                bar.update()
                if found:
                    self._tell(holder, found, sums)
        if sums["devices"] > SHOWN:
            self.stdout.write(f"  and {sums['devices'] - SHOWN:,} more device(s)")
        if not is_dry and only is None:
            policies.note_enforced(
                since=started,
                actor="system",
                **{name: sums[name] for name in ("devices", "days", "values")},
            )
        return summary(sums, is_dry)

    def _look(self, holder: Holder, now: int, is_dry: bool) -> Overdue:
        if not is_dry:
            return policies.enforce(holder=holder, now=now)
        keeping = retention.rules().keeping(holder.device_type)
        return telemetry_store().overdue(holder, keeping, now)

    def _tell(self, holder: Holder, found: Overdue, sums: Counter[str]) -> None:
        sums.update(devices=1, days=found.days, values=found.values, misdated=found.misdated)
        if sums["devices"] <= SHOWN:
            self.stdout.write(
                f"  device {holder.device_id} ({holder.device_type}): {amounts(found)}"
            )


def amounts(found: Overdue) -> str:
    """`3 whole day(s) and 17 value(s), 2026-01-01T… to …; 8 with another expiry`."""
    counts = (
        (found.days, "whole day(s)"),
        (found.values, "value(s)"),
    )
    parts = " and ".join(f"{count:,} {unit}" for count, unit in counts if count)
    if found.first is not None and found.last is not None:
        parts += f", {format_ms(found.first)} to {format_ms(found.last)}"
    if found.misdated:
        parts += f"{'; ' if parts else ''}{found.misdated:,} with another expiry than now"
    return parts


def summary(sums: Counter[str], is_dry: bool) -> str:
    if not sums["devices"]:
        return "Nothing is stored for longer than it is kept."
    days = f"{sums['days']:,} whole day(s) and " if sums["days"] else ""
    what = f"{days}{sums['values']:,} value(s) of {sums['devices']:,} device(s)"
    dated = f"; {sums['misdated']:,} get the expiry of now" if sums["misdated"] else ""
    if is_dry:
        return f"{what} would be deleted{dated}. Nothing was changed; --yes does it."
    return f"{what} deleted{dated}."
