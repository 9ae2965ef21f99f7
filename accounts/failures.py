"""Keys and tokens that were refused, as events: a flood of them is a few events that count."""

from collections.abc import Callable, Mapping
from typing import Any

from django.http import HttpRequest

from events import log
from events.kinds import Kind, Severity
from iotflow.lib.ratelimit import Charge, take
from iotflow.lib.throttles import counted_address

COUNTED = 10**6
ONE = "1/min"  # event of an address
ALL = "60/min"  # events of all addresses


def nobody() -> dict[str, Any]:
    """What is known of a proof that was never one: nothing. It may be anybody's secret."""
    return {}


def note(
    kind: Kind,
    message: str,
    request: HttpRequest,
    about: Callable[[], Mapping[str, Any]] = nobody,
) -> None:
    """Record that the request's proof was refused: one event a minute for each address.

    It tells how often that happened to the address in the last minute. `about` gives what the
    event says besides, as `log.happened` takes it; it is asked only where there is an event.
    """
    address = counted_address(request)
    [attempts] = take([Charge(kind, address, f"{COUNTED}/min")]).states
    once = Charge(f"events of {kind}", address, ONE)
    if take([once, Charge("events of refusals", "all", ALL)]).refusal:
        return
    fields = dict(about())
    payload = {"count": COUNTED - attempts.remaining, **fields.pop("payload", {})}
    log.record(
        kind, message, actor="anonymous", severity=Severity.WARNING, payload=payload, **fields
    )
