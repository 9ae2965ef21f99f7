"""Who asks."""

from typing import cast

from rest_framework.request import Request

from accounts.models import User
from accounts.services import actor_name


def current_user(request: Request) -> User:
    """Of a view that lets in users only."""
    return cast(User, request.user)


def current_actor(request: Request) -> str:
    """How an event names them."""
    return actor_name(current_user(request))
