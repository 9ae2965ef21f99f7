"""What `manage.py doctor` looks at. A check is a function that yields findings; add it to CHECKS.

A check may raise StoreAway or DatabaseError: what it needs is away or has no tables, which the
checks before it say.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from django.conf import settings as django_settings
from django.core.checks import WARNING as SERIOUS
from django.core.checks import Tags, run_checks
from django.db import DatabaseError

from devices import notices
from events import outbox
from events.audit.diagnosis import audit
from events.models import Outbox
from iotflow import health
from iotflow.clocks import clocks
from iotflow.coherence import SAMPLE, caches
from iotflow.drift import schema
from iotflow.lib.errors import StoreAway
from iotflow.lib.findings import Finding, Level, ok, problem, warning
from iotflow.versions import versions
from telemetry import diagnosis
from telemetry.mqtt import figures

OUTBOX_SECONDS = 60
NOTICE_SECONDS = 60
NAMED = 5
NAMES = {
    "database": "The database (DATABASE_URL)",
    "telemetry": "The telemetry store (CASSANDRA_HOSTS)",
    "cache": "Redis (REDIS_URL)",
    "events": "The event log (MONGODB_URI)",
}
Check = Callable[..., Iterable[Finding]]
SAMPLING = {"caches"}


def settings() -> Iterator[Finding]:
    """What `manage.py check` finds; with `--deploy` where clients come by HTTPS."""
    messages = run_checks()
    if not django_settings.ALLOW_HTTP:
        of_deployment = run_checks(tags=[Tags.security], include_deployment_checks=True)
        messages += [message for message in of_deployment if message not in messages]
    for message in messages:
        level = Level.PROBLEM if message.level > SERIOUS else Level.WARNING
        yield Finding(level, f"{message.id}: {message.msg}", message.hint or "")
    if not messages:
        yield ok("The settings go together.")


def stores() -> Iterator[Finding]:
    """Whether each store answers, and its version."""
    for name, store in health.stores().items():
        if store.up:
            yield ok(f"{NAMES[name]} answers: {store.version}, {store.milliseconds} ms.")
        else:
            yield problem(
                f"{NAMES[name]} does not answer, or not yet: {store.reason}",
                "Start it, or correct the variable; where its tables lack, `setup_stores` first.",
            )


def migrations() -> Iterator[Finding]:
    """Whether the tables are those of this version."""
    for alias in ("default", "events"):
        names = health.lacking(alias)
        if names:
            more = ", …" if len(names) > NAMED else ""
            yield problem(
                f"Database “{alias}” lacks {len(names)} migration(s): "
                f"{', '.join(names[:NAMED])}{more}.",
                "Run `python manage.py setup_stores`.",
            )
        else:
            yield ok(f"Database “{alias}” has every migration.")


def events() -> Iterator[Finding]:
    """Events that wait for the event log."""
    count, age = Outbox.objects.count(), outbox.age_seconds()
    text = f"{count} event(s) wait in the outbox"
    if age < OUTBOX_SECONDS:
        yield ok(f"{text}.")
    else:
        yield warning(
            f"{text}, the oldest for {age:,.0f} s.",
            "The event log or the worker is away: `python manage.py worker` delivers them.",
        )


def broker() -> Iterator[Finding]:
    """Whether bridges are there, and the broker has been told what it has to know."""
    if not django_settings.MQTT_URL:
        yield ok("No broker is named (MQTT_URL).")
        return
    now = time.time()
    there = {name: one for name, one in figures.bridges().items() if one.is_there(now)}
    if there:
        yield ok(f"Connected to the broker: {', '.join(sorted(there))}.")
    else:
        yield warning(
            "No bridge is connected to the broker, or Redis does not tell of it.",
            "Run `python manage.py mqtt_bridge`; its log says why it cannot connect.",
        )
    oldest = notices.oldest()
    if oldest is not None and now - oldest.timestamp() > NOTICE_SECONDS:
        yield warning(
            f"The broker has not been told of a device for {now - oldest.timestamp():,.0f} s.",
            "A bridge tells it: revoked keys may still be connected, configurations are old.",
        )


CHECKS: dict[str, Check] = {
    "settings": settings,
    "stores": stores,
    "versions": versions,
    "clocks": clocks,
    "migrations": migrations,
    "schema": schema,
    "tables": diagnosis.tables,
    "drift": diagnosis.drift,
    "partitions": diagnosis.partitions,
    "caches": caches,
    "retention": diagnosis.retention,
    "events": events,
    "audit": audit,
    "deletions": diagnosis.waiting,
    "broker": broker,
}


def examine(sample: int = SAMPLE) -> Iterator[tuple[str, Finding]]:
    """Every check's findings, by its name, as they come; `sample` devices are looked at."""
    for name, check in CHECKS.items():
        try:
            for finding in check(sample) if name in SAMPLING else check():
                yield name, finding
        except (StoreAway, DatabaseError) as error:
            text = str(error).strip().splitlines()
            reason = text[0] if text else type(error).__name__
            yield (
                name,
                warning(
                    f"This cannot be looked at now: {reason}", "See to the problems above first."
                ),
            )
