"""What a user may do, beyond what the querysets let them see."""

from typing import Any

from django.core.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import User


class IsUser(BasePermission):
    """A user, not a device."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, User) and request.user.is_active


class IsStaff(IsUser):
    message = "Only staff may do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return super().has_permission(request, view) and bool(request.user.is_staff)


def check_may_change(user: User, owner_id: int, permission: str) -> None:
    """Staff change what is another's only with Django's permission for it; superusers have all.

    Raises PermissionDenied (403).
    """
    if user.pk != owner_id and not user.has_perm(permission):
        raise PermissionDenied


def sees_all(user: User, model: Any) -> bool:
    """Whether somebody of staff may look at everything of this model in the admin site."""
    meta = model._meta
    return user.has_perm(f"{meta.app_label}.view_{meta.model_name}")


def may_change(user: User, thing: Any) -> bool:
    """Whether somebody of staff may change it in the admin site.

    Staff without a permission for all look after what they own, as they may by the API.
    Superusers are for superusers alone: whoever could set their password would be one.
    """
    if isinstance(thing, User) and thing.is_superuser and not user.is_superuser:
        return False
    meta = thing._meta
    if user.has_perm(f"{meta.app_label}.change_{meta.model_name}"):
        return True
    return not sees_all(user, thing) and getattr(thing, "owner_id", None) == user.pk
