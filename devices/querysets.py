"""Reads of devices, keys and groups: who may see first, shape second."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Count, Q

if TYPE_CHECKING:
    from accounts.models import User


class Devices(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "Devices":
        return self if user.is_staff else self.filter(owner=user)


class ApiKeys(models.QuerySet[Any]):
    def valid(self, now: datetime) -> "ApiKeys":
        """Neither revoked nor expired at `now`."""
        return self.filter(
            Q(expires_at=None) | Q(expires_at__gt=now),
            Q(revoked_at=None) | Q(revoked_at__gt=now),
        )

    def with_device(self) -> "ApiKeys":
        return self.select_related("device__owner")


class Groups(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "Groups":
        return self if user.is_staff else self.filter(owner=user)

    def with_device_count(self) -> "Groups":
        return self.annotate(device_count=Count("memberships"))
