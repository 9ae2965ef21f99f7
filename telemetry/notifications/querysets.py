"""Reads of channels and deliveries: who may see first, shape second."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Exists, OuterRef, Q

if TYPE_CHECKING:
    from accounts.models import User


class Channels(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "Channels":
        return self if user.is_staff else self.filter(owner=user)

    def usable(self) -> "Channels":
        """Those that may be sent to: switched on, of active users, and nobody else's mailbox."""
        of_all = Q(all_devices=False) | Q(owner__is_staff=True)
        mine = ~Q(kind="email") | Q(confirmed_at__isnull=False)
        return self.filter(of_all, mine, enabled=True, owner__is_active=True)

    def hearing_of(self, owner_ids: Collection[int]) -> "Channels":
        """Those that are to hear of the devices of these owners."""
        return self.usable().filter(Q(owner_id__in=owner_ids) | Q(all_devices=True))

    def free(self, now: datetime) -> "Channels":
        """Those that nobody is sending to and that may be tried; who waits longest comes first."""
        free = Q(leased_until=None) | Q(leased_until__lt=now)
        return self.usable().filter(free, next_try__lte=now).order_by("next_try")


class Deliveries(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "Deliveries":
        return self if user.is_staff else self.filter(channel__owner=user)

    def waiting(self) -> "Deliveries":
        return self.filter(status="waiting")

    def ready(self, now: datetime) -> "Deliveries":
        """Those that may be sent now: of an alert none before the one that came before it.

        What was refused before comes after what has waited since: it holds up no other alert.
        """
        before = self.model._default_manager.waiting().filter(
            channel=OuterRef("channel"), alert_id=OuterRef("alert_id"), seq__lt=OuterRef("seq")
        )
        found = self.waiting().filter(~Exists(before), next_try__lte=now)
        return found.order_by("next_try", "created_at", "seq")
