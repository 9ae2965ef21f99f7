"""How the event log is narrowed."""

from typing import Any

import django_filters
from django import forms

from events.kinds import Kind, Severity
from events.models import EventLog
from iotflow.lib.timeparse import NotATime, now_ms, parse_ms

ID_MAX = 2**63 - 1


class MomentField(forms.CharField):
    """An instant in any of the forms that iotflow.lib.timeparse takes, as milliseconds."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            return parse_ms(text, now_ms())
        except NotATime as error:
            raise forms.ValidationError(str(error)) from error


class KindsFilter(django_filters.BaseInFilter, django_filters.ChoiceFilter):
    """Several choices, separated by commas."""


class NumberFilter(django_filters.Filter):
    field_class = forms.IntegerField

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=1, max_value=ID_MAX, **kwargs)


class EventFilter(django_filters.FilterSet):
    """Everything but the time, which is a SpanForm's."""

    kind = KindsFilter(choices=Kind.choices, lookup_expr="in")
    severity = django_filters.ChoiceFilter(choices=Severity.choices)
    device_id = NumberFilter()
    user_id = NumberFilter()
    request_id = django_filters.CharFilter(max_length=64)

    class Meta:
        model = EventLog
        fields = ["kind", "severity", "device_id", "user_id", "request_id"]


class SpanForm(forms.Form):
    """From when to when, both included."""

    start_time = MomentField(required=False, max_length=64)
    end_time = MomentField(required=False, max_length=64)

    def clean(self) -> dict[str, Any]:
        span = super().clean() or {}
        start, end = span.get("start_time"), span.get("end_time")
        if start is not None and end is not None and start > end:
            self.add_error("start_time", "Must not be after end_time.")
        return span
