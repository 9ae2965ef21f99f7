"""How often one may register, and fail to log in by any door."""

import hashlib

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

from accounts.models import User
from events import log
from events.kinds import Kind, Severity
from iotflow.lib.errors import TooManyRequests
from iotflow.lib.ratelimit import Charge, State, Verdict, take
from iotflow.lib.throttles import Throttle, anonymous_charge, counted_address, refusal_text

FAILED = "failed log-ins"


class Registrations(Throttle):
    def charges(self, request: Request) -> list[Charge]:
        who = counted_address(request._request)
        return [
            anonymous_charge(request),
            Charge("registrations", who, settings.RATE_REGISTER),
        ]


def begin_login(request: HttpRequest, login: str, user: User | None) -> Verdict:
    """Charge a failed log-in, before the password is looked at; give it back upon success.

    So no number of attempts at once gets past the limit. A user is counted as one, by whichever
    name; what names nobody is counted by its text. Raises TooManyRequests.
    """
    address = counted_address(request)
    verdict = take(
        [
            Charge(
                FAILED, f"{_account(login, user)}:{address}", settings.RATE_LOGIN_FAILED_ACCOUNT
            ),
            Charge(FAILED, address, settings.RATE_LOGIN_FAILED_ADDRESS),
        ]
    )
    if verdict.refusal is not None:
        _record(verdict.refusal, f"{_account(login, user)}:{address}", user)
        raise TooManyRequests(refusal_text(verdict.refusal), verdict.refusal.wait)
    return verdict


def _account(login: str, user: User | None) -> str:
    """A digest for what names nobody: it may be a password typed into the wrong field."""
    if user is not None:
        return f"user:{user.pk}"
    return f"login:{hashlib.sha256(login.lower().encode('utf-8', 'replace')).hexdigest()[:32]}"


def _record(refusal: State, who: str, user: User | None) -> None:
    """The event of it, once in a window."""
    if take([Charge("throttled log-in events", who, f"1/{refusal.limit.seconds}s")]).refusal:
        return
    log.record(
        Kind.USER_LOGIN_THROTTLED,
        "Log-ins are refused for a while: too many failed",
        actor="anonymous",
        user_id=user.pk if user else None,
        severity=Severity.WARNING,
        payload={"login": user.username if user else "unknown"},
    )
