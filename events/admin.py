"""The event log in the admin site: to look at, never to change, and never counted."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import TextFilter
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from events.models import Alert, DeviceConfig, EventLog, Outbox, ReportedConfig
from iotflow.lib import ids
from iotflow.lib.jsondiff import diff

SEVERITY_COLOURS = {"Info": "info", "Warning": "warning", "Error": "danger"}
SEARCH_DAYS = 7
RECENT = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
}


def span_of(value: str, now: datetime) -> tuple[datetime, datetime] | None:
    """The time that a filter's value names: `24h`, `2026-11`, `2026-11-21` or `2026-11-21T09`.

    Months, days and hours are those of the current time zone. None for anything else.
    """
    if value in RECENT:
        return now - RECENT[value][1], now + timedelta(hours=1)
    zone = timezone.get_current_timezone()
    try:
        if len(value) == 7:
            start = datetime.strptime(value, "%Y-%m").replace(tzinfo=zone)
            end = (start + timedelta(days=32)).replace(day=1)
        elif len(value) == 10:
            start = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=zone)
            end = start + timedelta(days=1)
        else:
            start = datetime.strptime(value, "%Y-%m-%dT%H").replace(tzinfo=zone)
            end = start + timedelta(hours=1)
    except (ValueError, OverflowError):
        return None
    return start, end


class TimeFilter(admin.SimpleListFilter):
    """From recent and months down to days and hours, each a plain range along the time index."""

    title = "time"
    parameter_name = "when"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        now = timezone.localtime()
        recent = [(value, label) for value, (label, _) in RECENT.items()]
        return recent + list(self._drill(self.value() or "", now))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        span = span_of(self.value() or "", timezone.now())
        return queryset.filter(time__gte=span[0], time__lt=span[1]) if span else queryset

    def _drill(self, value: str, now: datetime) -> Iterator[tuple[str, str]]:
        """What is inside the value: a month's days, a day's hours; else the last months."""
        span = None if value in RECENT else span_of(value, now)
        if span is None:
            month = now.replace(day=1)
            for _ in range(3):
                yield f"{month:%Y-%m}", f"{month:%B %Y}"
                month = (month - timedelta(days=1)).replace(day=1)
            return
        start, end = span
        yield f"{start:%Y-%m}", f"{start:%B %Y}"
        if len(value) == 7:
            for number in range((end - start).days):
                day = start + timedelta(days=number)
                if day <= now:
                    yield f"{day:%Y-%m-%d}", f"{day:%a %-d %b}"
            return
        yield f"{start:%Y-%m-%d}", f"{start:%a %-d %b}"
        for hour in range(24):
            yield f"{start:%Y-%m-%d}T{hour:02}", f"{hour:02}:00"


class NumberFilter(TextFilter):
    """Exactly this number in `parameter_name`."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        text = (self.value() or "").strip()
        if not text:
            return queryset
        digits = text.isascii() and text.isdigit() and len(text) < 20
        if not digits or int(text) > ids.MAX:
            messages.warning(request, f"“{text}” is no {self.title}.")
            return queryset.none()
        return queryset.filter(**{str(self.parameter_name): int(text)})


class DeviceFilter(NumberFilter):
    title = "device number"
    parameter_name = "device_id"


class UserFilter(NumberFilter):
    title = "user number"
    parameter_name = "user_id"


def pretty(value: Any) -> SafeString:
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre style="white-space: pre-wrap">{}</pre>', text)


class ReadOnly(ModelAdmin):
    """A document to look at. Paged along an index, without a COUNT."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_per_page = 50
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(EventLog)
class EventLogAdmin(ReadOnly):
    list_display = ["moment", "kind", "importance", "message", "actor", "device_id", "address"]
    list_display_links = ["moment"]
    list_filter = [TimeFilter, "severity", "kind", DeviceFilter, UserFilter]
    list_filter_submit = True
    search_fields = ["message", "actor", "address", "request_id"]
    search_help_text = f"Searches the last {SEARCH_DAYS} days, or the time chosen in the filter."
    ordering = ["-time"]
    fields = [
        "moment",
        "kind",
        "importance",
        "message",
        "actor",
        "user_id",
        "device_id",
        "address",
        "request_id",
        "pretty_payload",
        "id",
    ]
    readonly_fields = fields

    @display(description="time", ordering="time")
    def moment(self, event: EventLog) -> str:
        return f"{timezone.localtime(event.time):%Y-%m-%d %H:%M:%S.%f}"[:-3]

    @display(description="severity", label=SEVERITY_COLOURS)
    def importance(self, event: EventLog) -> str:
        return event.get_severity_display()

    @display(description="payload")
    def pretty_payload(self, event: EventLog) -> SafeString:
        return pretty(event.payload)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """A search without a chosen time goes back SEARCH_DAYS: it reads every event in there."""
        if search_term and not request.GET.get(str(TimeFilter.parameter_name)):
            queryset = queryset.filter(time__gte=timezone.now() - timedelta(days=SEARCH_DAYS))
        return super().get_search_results(request, queryset, search_term)


@admin.register(DeviceConfig)
class DeviceConfigAdmin(ReadOnly):
    list_display = ["device_id", "version", "author", "created_at", "rolled_back_to"]
    list_filter = [DeviceFilter]
    list_filter_submit = True
    fields = [
        "device_id",
        "version",
        "author",
        "created_at",
        "rolled_back_to",
        "pretty_config",
        "changes",
        "id",
    ]
    readonly_fields = fields

    @display(description="config")
    def pretty_config(self, version: DeviceConfig) -> SafeString:
        return pretty(version.config)

    @display(description="changed since the version before")
    def changes(self, version: DeviceConfig) -> SafeString:
        before = DeviceConfig.objects.filter(
            device_id=version.device_id, version=version.version - 1
        ).first()
        return pretty(diff(before.config if before else {}, version.config))


@admin.register(ReportedConfig)
class ReportedConfigAdmin(ReadOnly):
    """What each device last said it runs."""

    list_display = ["device_id", "version", "status", "message", "reported_at"]
    list_filter = ["status", DeviceFilter]
    list_filter_submit = True


@admin.register(Alert)
class AlertAdmin(ReadOnly):
    list_display = ["raised_at", "severity", "status", "device_id", "message"]
    list_filter = ["status", "severity", DeviceFilter]
    list_filter_submit = True


@admin.register(Outbox)
class OutboxAdmin(ReadOnly):
    """Events that wait for the event log; empty when all is well."""

    list_display = ["created_at", "kind", "event_id"]
    ordering = ["id"]

    @display(description="kind")
    def kind(self, waiting: Outbox) -> str:
        return str(waiting.document.get("kind", ""))
