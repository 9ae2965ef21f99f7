"""Keys and tokens that were refused, as events: a flood of them is a few events that count."""

from collections.abc import Callable, Mapping
from typing import Any

from events import log
from events.kinds import Kind, Severity
from iotflow.lib.ratelimit import Charge, take

COUNTED = 10**6
ONE = "1/min"  # event of an address, or whoever else it is
ALL = "60/min"  # events of all of them


def nobody() -> dict[str, Any]:
    """What is known of a proof that was never one: nothing. It may be anybody's secret."""
    return {}


def note(
    kind: Kind,
    message: str,
    who: str,
    about: Callable[[], Mapping[str, Any]] = nobody,
) -> None:
    """Record that a proof was refused: one event a minute for each `who`, as it is counted.

    It tells how often that happened to them in the last minute. `about` gives what the event
    says besides, as `log.happened` takes it; it is asked only where there is an event.
    """
    [attempts] = take([Charge(kind, who, f"{COUNTED}/min")]).states
    once = Charge(f"events of {kind}", who, ONE)
    if take([once, Charge("events of refusals", "all", ALL)]).refusal:
        return
    fields = dict(about())
    payload = {"count": COUNTED - attempts.remaining, **fields.pop("payload", {})}
    log.record(
        kind, message, actor="anonymous", severity=Severity.WARNING, payload=payload, **fields
    )
