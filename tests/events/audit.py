"""An event log that is filled, sealed and tampered with."""

import io
import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.core.management import CommandError, call_command
from django.utils import timezone

from events import log, outbox, sinks
from events.audit import chain, keys, sealer
from events.kinds import Kind
from events.models import EventLog

MINUTE = timedelta(minutes=1)


def an_hour_ago() -> datetime:
    return sealer.minute_of(timezone.now()) - 60 * MINUTE


def begun(time: datetime) -> datetime:
    """The chain vouches for what happened from then on."""
    chain.begin(time, keys.current())
    return time


def document(time: datetime, kind: Kind = Kind.DEVICE_CHANGED, **fields: Any) -> dict[str, Any]:
    about = {
        "actor": "test",
        "device_id": 7,
        "user_id": 8,
        "payload": {"changes": {"name": [1, 2.5]}},
    }
    if kind == Kind.TELEMETRY_SUBMITTED:
        about["payload"] = {"measurements": ["a"]}
    event_id = uuid.uuid4()  # in the message too: no two are alike but for their ids
    return log.event(event_id, kind, f"happened {event_id}", time=time, **(about | fields))


def record(*documents: dict[str, Any]) -> list[str]:
    """By the outbox, as changes are; their ids."""
    outbox.put(documents)
    outbox.relay_all()
    return [one["id"] for one in documents]


def submit(*documents: dict[str, Any]) -> list[str]:
    """Past the outbox, as telemetry is; their ids."""
    sinks.deliver(documents)
    return [one["id"] for one in documents]


def seal() -> None:
    while sealer.seal():
        pass


def verified(**options: Any) -> dict[str, Any]:
    """What `verify_audit --json` says."""
    out, code = io.StringIO(), 0
    try:
        call_command("verify_audit", json=True, stdout=out, **options)
    except CommandError as error:
        code = error.returncode
    answer = json.loads(out.getvalue())
    assert code == (1 if answer["faults"] else 0)
    return answer


def faults(**options: Any) -> list[tuple[str, str]]:
    """Each fault and the id of its event, or its minute where it is about one."""
    return sorted(
        (one["fault"], one["id"] or one["time"] or "") for one in verified(**options)["faults"]
    )


def stored(event_id: str) -> EventLog:
    return EventLog.objects.get(pk=event_id)


def change(event_id: str, **fields: Any) -> None:
    EventLog.objects.filter(pk=event_id).update(**fields)


def remove(event_id: str) -> None:
    EventLog.objects.filter(pk=event_id).delete()


def insert(one: dict[str, Any]) -> str:
    EventLog.objects.create(**one)
    return one["id"]


def expire(until: datetime) -> None:
    """What MongoDB's index does within a minute."""
    EventLog.objects.filter(expires_at__lte=until).delete()


def swap(one_id: str, other_id: str) -> None:
    """Each has then what the other had, but for the id."""
    one, other = stored(one_id), stored(other_id)
    one.pk, other.pk = other.pk, one.pk
    one.save()
    other.save()


def minutes(start: datetime, count: int) -> Iterator[datetime]:
    return (start + n * MINUTE for n in range(count))
