"""Who asks."""

from typing import cast

from django.http import HttpRequest
from rest_framework.request import Request

from accounts.models import User
from accounts.services import actor_name


def current_user(request: Request | HttpRequest) -> User:
    """Of a view that lets in users only, such as a page of the admin site."""
    return cast(User, request.user)


def current_actor(request: Request | HttpRequest) -> str:
    """How an event names them."""
    return actor_name(current_user(request))
