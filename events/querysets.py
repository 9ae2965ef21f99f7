"""Reads of the event log and of alerts: who may see first, shape second."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Q


class EventLogs(models.QuerySet[Any]):
    def visible_to(self, user: Any) -> "EventLogs":
        """What is about the user's things; everything for staff."""
        return self if user.is_staff else self.filter(user_id=user.pk)

    def newest_first(self) -> "EventLogs":
        """Events of one time too have an order, which an index holds."""
        return self.order_by("-time", "-id")

    def between(self, start: datetime, end: datetime) -> "EventLogs":
        """From `start` to `end`, both included."""
        return self.filter(time__range=(start, end))

    def older_than(self, time: datetime, event_id: UUID) -> "EventLogs":
        """What comes after this event, newest first."""
        return self.filter(Q(time__lt=time) | Q(time=time, id__lt=event_id))


class Alerts(models.QuerySet[Any]):
    def visible_to(self, user: Any) -> "Alerts":
        """What is about the user's devices; everything for staff."""
        return self if user.is_staff else self.filter(user_id=user.pk)

    def newest_first(self) -> "Alerts":
        return self.order_by("-raised_at", "-id")

    def between(self, start: datetime, end: datetime) -> "Alerts":
        """Raised from `start` to `end`, both included."""
        return self.filter(raised_at__range=(start, end))

    def older_than(self, time: datetime, alert_id: UUID) -> "Alerts":
        """What comes after this alert, newest first."""
        return self.filter(Q(raised_at__lt=time) | Q(raised_at=time, id__lt=alert_id))
