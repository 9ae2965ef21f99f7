"""Reads of rules and open alerts: who may see first, shape second."""

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from accounts.models import User


class AlertRules(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "AlertRules":
        return self if user.is_staff else self.filter(owner=user)

    def locked(self) -> "AlertRules":
        """In one order, for whoever changes them or how they stand with devices: how a rule stands
        is changed only by who holds the lock of its row. Alerts are locked after it.
        """
        return self.select_for_update(no_key=True).order_by("pk")


class LiveAlerts(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "LiveAlerts":
        return self if user.is_staff else self.filter(owner_id=user.pk)

    def open(self) -> "LiveAlerts":
        """Those that are open, raised last first."""
        return self.filter(is_open=True).order_by("-raised_at", "-pk")
