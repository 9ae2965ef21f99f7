"""What `manage.py doctor` finds out about telemetry."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Min
from django.utils import timezone

from devices.models import Device
from iotflow.lib.findings import Finding, ok, problem, warning
from iotflow.lib.timeparse import format_datetime, now_ms
from telemetry.models import Erasure, RangeDeletion, RetentionPolicy, what
from telemetry.policies import Leftover, kept_for, leftovers
from telemetry.retention import stored_rules
from telemetry.stores import telemetry_store

PURGE = "python manage.py purge --policy"
PARTITION_BYTES = 100_000_000
LATE_MS = 2 * 3_600_000
WAITING = timedelta(minutes=15)
WORKER = "Run `python manage.py worker`, and look at what it logs."


def tables() -> Iterator[Finding]:
    """The tables of the store, against those that are needed."""
    faults = telemetry_store().faults()
    for fault in faults:
        yield problem(f"Telemetry store: {fault}", "Run `python manage.py setup_stores`.")
    if not faults:
        yield ok("Telemetry store: its tables are there.")


def drift() -> Iterator[Finding]:
    """Tables that are other than this version makes them."""
    found = telemetry_store().drift()
    for fault in found:
        yield warning(
            f"Telemetry store: {fault}",
            "`python manage.py setup_stores` sets options; of `default_time_to_live`, types and "
            "keys nothing: see who changed them.",
        )
    if not found:
        yield ok("Telemetry store: its tables are as this version makes them.")


def partitions() -> Iterator[Finding]:
    """The largest partition of each table of Cassandra."""
    large = {
        table: size
        for table, size in telemetry_store().largest_partitions().items()
        if size > PARTITION_BYTES
    }
    for table, size in large.items():
        yield warning(
            f"A partition of {table} has {size / 1e6:,.0f} MB.",
            "Make the parts of a day smaller: `python manage.py resize_buckets --hours 6` "
            "(docs/operations.md, “Smaller buckets”)."
            if table == "device_data"
            else "See which device or owner it is of: its measurements are many.",
        )
    if not large:
        yield ok(f"No partition is above {PARTITION_BYTES / 1e6:,.0f} MB.")


def retention() -> Iterator[Finding]:
    """How long telemetry is kept, and what was written when that was otherwise."""
    default = kept_for(settings.TELEMETRY_RETENTION_DAYS)
    rules = stored_rules()
    policies = f"{len(rules)} policies" if len(rules) != 1 else "one policy"
    yield ok(f"Telemetry is kept {default} unless a policy says otherwise; there is {policies}.")
    yield from map(_told, leftovers())
    known = set(Device.objects.values_list("device_type", flat=True).distinct())
    for policy in RetentionPolicy.objects.exclude(device_type="").exclude(device_type__in=known):
        yield warning(
            f"The policy for {policy} has no effect: there is no device of this type.",
            "Look whether the type is written as the devices' is; capitals count.",
        )
    late = telemetry_store().expired(now_ms() - LATE_MS)
    if late:
        yield warning(
            f"{late:,} values expired more than two hours ago and are still stored.",
            f"{WORKER} `python manage.py purge` deletes them now.",
        )


def waiting() -> Iterator[Finding]:
    """What is to be deleted in the background, and since when."""
    for name, rows in (
        ("deleted device(s) whose telemetry is to be erased", Erasure.objects.all()),
        ("deleted range(s) whose latest values are to be settled", RangeDeletion.objects.all()),
    ):
        count, oldest = rows.count(), rows.aggregate(oldest=Min("requested_at"))["oldest"]
        text = f"{count} {name} wait."
        if oldest is None or timezone.now() - oldest < WAITING:
            yield ok(text)
        else:
            yield warning(f"{text[:-1]}, the oldest since {format_datetime(oldest)}.", WORKER)


def _told(left: Leftover) -> Finding:
    change = left.change
    before = kept_for(change.previous_days)
    values = what(change.device_type, change.measurement)
    fact = (
        f"Of {values}, values written before {format_datetime(change.changed_at)} expire as was "
        f"said then ({before}); now it is {kept_for(left.days)}."
    )
    if not telemetry_store().is_cassandra:
        return warning(fact, f"Run `{PURGE}` to see what would change, and with --yes to do it.")
    if left.lives_longer:
        last = format_datetime(change.changed_at + timedelta(days=left.days))
        done = (
            ""
            if change.applied_at is None
            else f" That was done on {format_datetime(change.applied_at)} for what was old then."
        )
        return warning(
            fact,
            f"Run `{PURGE}` to see what is too old, and with --yes to delete it; once more after "
            f"{last}, when the last of it is too old.{done}",
        )
    return warning(
        fact,
        "Cassandra keeps the expiry that a value was written with. What is to live longer must be "
        f"exported and imported again before it expires; the last of it does on "
        f"{format_datetime(left.until)}.",
    )
