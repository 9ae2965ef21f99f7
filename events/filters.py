"""How the event log is narrowed."""

from typing import Any

import django_filters
from django import forms

from events.kinds import Kind, Severity
from events.models import EventLog
from events.querysets import EventLogs
from iotflow.lib import ids


class KindsFilter(django_filters.BaseInFilter, django_filters.ChoiceFilter):
    """Several choices, separated by commas."""

    def filter(self, events: EventLogs, kinds: list[str] | None) -> EventLogs:
        """One kind alone by equality: an index gives its events in the order of their times."""
        if kinds and len(kinds) == 1:
            return events.filter(**{self.field_name: kinds[0]})
        return super().filter(events, kinds)


class NumberFilter(django_filters.Filter):
    field_class = forms.IntegerField

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=ids.MAX, **kwargs)


class EventFilter(django_filters.FilterSet):
    """Everything but the time, which iotflow.lib.spans reads."""

    kind = KindsFilter(choices=Kind.choices, lookup_expr="in")
    severity = django_filters.ChoiceFilter(choices=Severity.choices)
    device_id = NumberFilter()
    user_id = NumberFilter()
    request_id = django_filters.CharFilter(max_length=64)

    class Meta:
        model = EventLog
        fields = ["kind", "severity", "device_id", "user_id", "request_id"]
