"""Reads of devices, keys and groups: who may see first, shape second."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Count, F, Q, Window
from django.db.models.functions import RowNumber

from iotflow.lib import ids

if TYPE_CHECKING:
    from accounts.models import User


OWNERS_MAX = 100
# Statuses of commands that something may still come of.
OPEN_COMMANDS = ("queued", "sent", "acknowledged")


class Devices(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "Devices":
        return self if user.is_staff else self.filter(owner=user)

    def changeable_by(self, user: "User") -> "Devices":
        """One's own; everybody's for staff with Django's permission for that."""
        if user.is_staff and user.has_perm("devices.change_device"):
            return self
        return self.filter(owner=user)

    def matching(self, text: str) -> "Devices":
        """Those with the text in their name or location, of that number, or of users so named."""
        owners = get_user_model().objects.matching(text).values_list("pk", flat=True)[:OWNERS_MAX]
        found = Q(name__icontains=text) | Q(location__icontains=text) | Q(owner__in=list(owners))
        if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= ids.MAX:
            found |= Q(pk=int(text))
        return self.filter(found)


class ApiKeys(models.QuerySet[Any]):
    def unended(self, now: datetime) -> "ApiKeys":
        """Neither revoked nor expired at `now`; some may not be valid yet."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)

    def valid(self, now: datetime) -> "ApiKeys":
        """What opens a door at `now`."""
        return self.unended(now).filter(Q(valid_from=None) | Q(valid_from__lte=now))

    def locked_digests(self) -> list[str]:
        """Their digests, and nobody moves them to another pepper before the transaction ends."""
        return list(self.select_for_update().order_by("pk").values_list("digest", flat=True))

    def with_device(self) -> "ApiKeys":
        return self.select_related("device__owner")


class Commands(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "Commands":
        """Those of the devices that are one's own since; everybody's for staff."""
        if user.is_staff:
            return self
        return self.of_owners().filter(owner_id=user.pk)

    def of_owners(self) -> "Commands":
        """Those whose device is still whose it was."""
        return self.filter(owner_id=F("device__owner_id"))

    def open(self, now: datetime) -> "Commands":
        return self.filter(status__in=OPEN_COMMANDS, expires_at__gt=now)

    def overdue(self, now: datetime) -> "Commands":
        return self.filter(status__in=OPEN_COMMANDS, expires_at__lte=now)

    def in_status(self, status: str, now: datetime) -> "Commands":
        """By the clock, as `Command.status_at`."""
        if status == "expired":
            return self.filter(Q(status=status) | Q(status__in=OPEN_COMMANDS, expires_at__lte=now))
        found = self.filter(status=status)
        return found.filter(expires_at__gt=now) if status in OPEN_COMMANDS else found

    def due(self, before: Mapping[int, datetime], now: datetime) -> "Commands":
        """What devices are to be sent: new, or not acknowledged and last sent `before` then, by
        device. Nothing for one that is switched off, or whose owner is.
        """
        since: dict[datetime, list[int]] = {}
        for device_id, moment in before.items():
            since.setdefault(moment, []).append(device_id)
        waits = Q(pk__in=[])
        for moment, some in since.items():
            is_new = Q(status="queued") | Q(status="sent", sent_at__lte=moment)
            waits |= Q(is_new, device_id__in=some)
        of_device = self.of_owners().filter(device__owner__is_active=True)
        of_device = of_device.exclude(device__status="inactive")
        return of_device.filter(waits, expires_at__gt=now).order_by("created_at", "id")

    def first_of_each(self, most: int) -> "Commands":
        """The oldest `most` of each device."""
        order = ["created_at", "id"]
        place = Window(RowNumber(), partition_by="device_id", order_by=order)
        return self.annotate(place=place).filter(place__lte=most)


class Groups(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "Groups":
        return self if user.is_staff else self.filter(owner=user)

    def with_device_count(self) -> "Groups":
        return self.annotate(device_count=Count("memberships"))
