"""The event log in the admin site: to look at, never to change, and never counted."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    QueryDict,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from rest_framework.exceptions import ValidationError
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import TextFilter
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from events import browse as browsing
from events import exports, log, selectors, sinks
from events.kinds import Kind, Severity
from events.models import DeviceConfig, EventLog, Outbox, ReportedConfig
from events.querysets import EventLogs
from events.reads import config_read
from iotflow.lib import ids
from iotflow.lib.errors import StoreAway
from iotflow.lib.jsondiff import diff
from iotflow.lib.timeparse import format_datetime

WAITING_SHOWN = 20
EXPORT_PAGE = 1000
TIMES = ("start_time", "end_time")
REQUEST_LASTS = timedelta(hours=1)  # at most, imports too; an index leads to the times alone


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


def pretty(value: Any) -> SafeString:
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre style="white-space: pre-wrap">{}</pre>', text)


class ReadOnly(ModelAdmin):
    """A document to look at. Paged along an index, without a COUNT."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_per_page = 50
    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(EventLog)
class EventLogAdmin(ReadOnly):
    """Its list and its page are its own: documents are filtered, paged and searched otherwise."""

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export_view)
        return [path("export/", export, name="events_eventlog_export"), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        self._check_may_view(request)
        return self._answer(request, "events/browse.html", self._found(request))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        self._check_may_view(request)
        return self._answer(request, "events/event.html", self._event(request, object_id))

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """All events asked for, as CSV or NDJSON."""
        self._check_may_view(request)
        form = request.GET.get("format", "csv")
        if form not in exports.FORMATS:
            return HttpResponseBadRequest("format is csv or ndjson.")
        try:
            visible = EventLog.objects.visible_to(request.user)
            browse = browsing.parse(request.GET, limit=EXPORT_PAGE)
            with sinks.guarded(browse.seconds):
                browse = browsing.bounded(browse, visible)
        except ValidationError as error:
            return HttpResponseBadRequest(f"{error.detail}")
        except sinks.TookTooLong as error:
            return HttpResponseBadRequest(str(error))
        log.record(
            Kind.EVENTS_EXPORTED,
            f"The event log was exported as {form.upper()}",
            actor=f"user:{request.user.get_username()}",
            payload={"format": form, **{name: browse.asked.get(name) for name in TIMES}},
        )
        answer = StreamingHttpResponse(
            exports.lines(form, browsing.pages(browse, visible)),
            content_type=exports.FORMATS[form],
        )
        answer["Content-Disposition"] = f'attachment; filename="events.{form}"'
        return answer

    def _check_may_view(self, request: HttpRequest) -> None:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied

    def _answer(self, request: HttpRequest, template: str, found: dict[str, Any]) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, **found}
        response = TemplateResponse(request, template, context)
        response["Cache-Control"] = "no-store"
        if found.get("is_away"):
            response.status_code = 503
            response["Retry-After"] = "1"
        return response

    def _found(self, request: HttpRequest) -> dict[str, Any]:
        context: dict[str, Any] = {
            "title": "Events",
            "asked": {name: request.GET.get(name, "") for name in browsing.NAMES},
            "kinds": Kind.values,
            "severities": Severity.values,
            "searched_max": browsing.SEARCHED_MAX,
        }
        visible = EventLog.objects.visible_to(request.user)
        try:
            browse = browsing.parse(request.GET)
            with sinks.guarded(browse.seconds):
                browse = browsing.bounded(browse, visible)
                events, cursor = selectors.page(visible, browse.parameters)
        except ValidationError as error:
            texts = [f"{name}: {one}" for name, some in dict(error.detail).items() for one in some]  # type: ignore[arg-type]
            return {**context, "errors": texts}
        except sinks.TookTooLong as error:
            return {**context, "errors": [str(error)]}
        except StoreAway:
            waiting = Outbox.objects.order_by("-id")[:WAITING_SHOWN]
            return {**context, "is_away": True, "waiting": waiting, "count": Outbox.objects.count()}
        return {
            **context,
            "events": events,
            "searched_since": browse.searched_since,
            "query": urlencode(browse.asked),
            "next": urlencode({**browse.asked, "cursor": cursor}) if cursor else None,
            "is_first": "cursor" not in request.GET,
        }

    def _event(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        visible = EventLog.objects.visible_to(request.user)
        try:
            number = UUID(object_id)
        except ValueError:
            raise Http404 from None
        try:
            with sinks.guarded():
                event = visible.filter(pk=number).first()
        except StoreAway:
            return {"title": "Event", "is_away": True}
        if event is None:
            raise Http404
        browse = self._asked_or_all(request)
        return {
            "title": str(event),
            "original": event,
            "event": event,
            "payload": json.dumps(event.payload, indent=2, ensure_ascii=False, sort_keys=True),
            "changes": changes(event.payload),
            "beside": self._beside(event, browse, visible),
            "same_request": urlencode(same_request(event)),
            "query": urlencode(browse.asked),
        }

    def _beside(
        self, event: EventLog, browse: browsing.Browse, visible: EventLogs
    ) -> tuple[UUID | None, UUID | None] | None:
        """Its neighbours; None where they cannot be known now."""
        try:
            with sinks.guarded(browse.seconds):
                browse = browsing.bounded(browse, visible)
                return browsing.neighbours(event, browse, visible)
        except StoreAway:
            return None

    def _asked_or_all(self, request: HttpRequest) -> browsing.Browse:
        """What the list was narrowed to, of all times where an index finds it.

        Everything where the query string says nonsense.
        """
        query = request.GET.copy()
        if not any(query.get(name, "").strip() for name in browsing.UNINDEXED):
            query.setdefault("start_time", "-3650d")
        try:
            return browsing.parse(query)
        except ValidationError:
            return browsing.parse(QueryDict("start_time=-3650d"))


def same_request(event: EventLog) -> dict[str, str | None]:
    """What to ask the list for to see all that one request did."""
    return {
        "request_id": event.request_id,
        "start_time": format_datetime(event.time - REQUEST_LASTS),
        "end_time": format_datetime(event.time + REQUEST_LASTS),
    }


def changes(payload: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What an event says that changed: name, before and after, as JSON."""
    found = payload.get("changes")
    if not isinstance(found, dict):
        found = {"": [payload["before"], payload["after"]]} if "before" in payload else {}
    return [
        (name, json.dumps(pair[0], ensure_ascii=False), json.dumps(pair[1], ensure_ascii=False))
        for name, pair in found.items()
        if isinstance(pair, list) and len(pair) == 2
    ]


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

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Asked for by the page of one version, which shows what it holds."""
        version = super().get_object(request, object_id, from_field)
        if version is not None:
            config_read(request.user, version.device_id)
        return version

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


@admin.register(Outbox)
class OutboxAdmin(ReadOnly):
    """Events that wait for the event log; empty when all is well."""

    list_display = ["created_at", "kind", "event_id"]
    ordering = ["id"]

    @display(description="kind")
    def kind(self, waiting: Outbox) -> str:
        return str(waiting.document.get("kind", ""))
