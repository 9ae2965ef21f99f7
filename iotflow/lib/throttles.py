"""Limits as the API's requests meet them: 429, and headers that say how much is left.

Views are `Any` here: DRF imports the default throttle while it makes its own view class.
"""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from iotflow.lib import errors
from iotflow.lib.address import client_address, network
from iotflow.lib.errors import TooManyRequests
from iotflow.lib.metrics import Counter
from iotflow.lib.ratelimit import Charge, State, take

LIMITED = Counter(
    "iotflow_rate_limited_total", "Requests refused by a limit, by what it counts.", ("limit",)
)
REFUSED_EARLY = (
    exceptions.NotAuthenticated,
    exceptions.AuthenticationFailed,
    exceptions.PermissionDenied,
)


class Throttle(BaseThrottle):
    """What a request is charged, once who sent it is known and before its body is read."""

    def charges(self, request: Request) -> list[Charge]:
        raise NotImplementedError

    def allow_request(self, request: Request, view: Any) -> bool:
        view.is_charged = True
        spend(self.charges(request), view)
        return True


def spend(charges: Iterable[Charge], view: Any = None) -> None:
    """Charge all of them, or none and raise TooManyRequests; the view's answer tells the rest."""
    verdict = take(charges)
    if verdict.refusal is not None:
        raise refused(verdict.refusal, verdict.states)
    if view is not None and verdict.states:
        view.limit_states = (*getattr(view, "limit_states", ()), *verdict.states)
        view.headers.update(rate_headers(view.limit_states))


def refused(refusal: State, states: Sequence[State]) -> TooManyRequests:
    """The 429 for a limit that refuses, among those that were asked."""
    LIMITED.add(refusal.what)
    return TooManyRequests(refusal_text(refusal), refusal.wait, rate_headers(states))


def refusal_text(state: State) -> str:
    """Which limit it was, and when to come back."""
    limit = state.limit
    text = f"At most {limit.amount} {state.what} are accepted in {_seconds(limit.seconds)}"
    if state.cost > limit.amount:
        return f"{text}, and {state.cost} came at once; send fewer at a time."
    return f"{text}; try again in {_seconds(max(1, ceil(state.wait)))}."


def rate_headers(states: Sequence[State]) -> dict[str, str]:
    """Of the limit that refuses, else of the one that has least left; and which limits there are.

    Bulk charges the same limits for many devices; each policy is named once.
    """
    tightest = max(states, key=lambda state: (state.wait, -state.remaining))
    return {
        "RateLimit-Limit": str(tightest.limit.amount),
        "RateLimit-Remaining": str(tightest.remaining),
        "RateLimit-Reset": str(ceil(tightest.wait or tightest.reset)),
        "RateLimit-Policy": ", ".join(dict.fromkeys(str(state.limit) for state in states)),
    }


def counted_address(request: HttpRequest) -> str:
    return f"address:{network(client_address(request))}"


def anonymous_charge(request: Request) -> Charge:
    return Charge("requests", counted_address(request._request), settings.RATE_ANONYMOUS)


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook. What is refused for its key or its rights was not charged yet, so it is here."""
    view = context["view"]
    if isinstance(error, REFUSED_EARLY) and not getattr(view, "is_charged", False):
        try:
            view.check_throttles(context["request"])
        except TooManyRequests as refusal:
            error = refusal
    if isinstance(error, TooManyRequests):
        view.headers.update(error.headers)
    return errors.exception_handler(error, context)


def _seconds(count: int) -> str:
    return "1 second" if count == 1 else f"{count} seconds"
