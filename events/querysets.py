"""Reads of the event log: who may see first, shape second."""

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
