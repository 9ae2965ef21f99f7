"""How often one may register, and fail to log in by any door."""

import hashlib
import time

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

from accounts.models import User
from events import log
from events.kinds import Kind, Severity
from iotflow.lib.ratelimit import Charge, State, Verdict, give_back, take
from iotflow.lib.throttles import Throttle, anonymous_charge, counted_address, refused

FAILED, UNDER_WAY = "failed log-ins", "log-ins under way"
UNDER_WAY_SECONDS = 30  # forgotten then, should the process die in one
UNDER_WAY_MAX = 10**6
PATIENCE_SECONDS = 0.5


class Registrations(Throttle):
    def charges(self, request: Request) -> list[Charge]:
        who = counted_address(request._request)
        return [
            anonymous_charge(request),
            Charge("registrations", who, settings.RATE_REGISTER),
        ]


def begin_login(request: HttpRequest, login: str, user: User | None) -> Verdict:
    """Charge a failed log-in before the password is looked at; `end_login` gives it back.

    So no number of attempts at once gets past the limit. A user is counted as one, by whichever
    name; what names nobody is counted by its text. Raises TooManyRequests.
    """
    address = counted_address(request)
    account = f"{_account(login, user)}:{address}"
    charges = [
        Charge(FAILED, account, settings.RATE_LOGIN_FAILED_ACCOUNT),
        Charge(FAILED, address, settings.RATE_LOGIN_FAILED_ADDRESS),
        Charge(UNDER_WAY, account, f"{UNDER_WAY_MAX}/{UNDER_WAY_SECONDS}s"),
    ]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (refusal := (verdict := take(charges)).refusal) is not None:
        # The account's attempts under way may yet succeed, and then they do not count.
        is_settled = verdict.states[-1].remaining == UNDER_WAY_MAX
        if is_settled:
            _record(refusal, user)
        if is_settled or time.monotonic() > deadline:
            wait = refusal.wait if is_settled else 1.0
            raise refused(refusal._replace(wait=wait), verdict.states[:-1])
        time.sleep(PATIENCE_SECONDS / 10)
    return verdict


def end_login(attempt: Verdict, *, succeeded: bool) -> None:
    """A success does not count as failed; nothing is under way any more."""
    give_back(attempt, UNDER_WAY, *([FAILED] if succeeded else []))


def _account(login: str, user: User | None) -> str:
    """A digest for what names nobody: it may be a password typed into the wrong field."""
    if user is not None:
        return f"user:{user.pk}"
    return f"login:{hashlib.sha256(login.lower().encode('utf-8', 'replace')).hexdigest()[:32]}"


def _record(refusal: State, user: User | None) -> None:
    """The event of it: one in a window for whom the limit refuses, an account or an address."""
    once = f"1/{refusal.limit.seconds}s"
    if take([Charge("events of refused log-ins", refusal.who, once)]).refusal:
        return
    log.record(
        Kind.USER_LOGIN_THROTTLED,
        "Log-ins are refused for a while: too many failed",
        actor="anonymous",
        user_id=user.pk if user else None,
        severity=Severity.WARNING,
        payload={"login": user.username if user else "unknown"},
    )
