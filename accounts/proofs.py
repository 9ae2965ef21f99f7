"""By what a user came in, and whether that still holds: for answers that go on for long."""

from collections.abc import Collection
from importlib import import_module
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.request import Request

from accounts.models import Token, User


class Proof(NamedTuple):
    """A token by its id, or a session by its key; one of them."""

    token_id: int = 0
    session_key: str = ""


class Standing(NamedTuple):
    """Whom a proof shows now."""

    user_id: int
    is_staff: bool


def proof_of(request: Request) -> Proof:
    """By what this request of a user was let in."""
    if isinstance(request.auth, Token):
        return Proof(token_id=request.auth.pk)
    return Proof(session_key=request._request.session.session_key or "")


def standing(proofs: Collection[Proof]) -> dict[Proof, Standing]:
    """Of those that still hold: one query for all tokens, and two for a session."""
    found: dict[Proof, Standing] = {}
    tokens = Token.objects.filter(
        pk__in=[proof.token_id for proof in proofs if proof.token_id],
        expiry__gt=timezone.now(),
        user__is_active=True,
    )
    for pk, user_id, is_staff in tokens.values_list("pk", "user_id", "user__is_staff"):
        found[Proof(token_id=pk)] = Standing(user_id, is_staff)
    for proof in proofs:
        if proof.session_key and (user := _of_session(proof.session_key)) is not None:
            found[proof] = Standing(user.pk, user.is_staff)
    return found


def _of_session(session_key: str) -> User | None:
    """The one of staff whose session it is, as the next request would find it."""
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active and user.is_staff else None
