"""Rules and alerts in the admin site."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest
from django.shortcuts import redirect
from unfold.admin import ModelAdmin
from unfold.decorators import display

from accounts.requests import current_user
from devices.admin import Picking, actor
from events.admin import DeviceFilter, ReadOnly, pretty
from events.models import Alert
from iotflow.lib.errors import Conflict, StoreAway
from telemetry.alerting import alerts, rules
from telemetry.alerting.models import AlertRule
from telemetry.alerting.numbers import ALL
from telemetry.alerting.serializers import FIELDS

AT_ONCE = 100
SCOPE = ("device", "group", "device_type")


@admin.register(AlertRule)
class AlertRuleAdmin(Picking, ModelAdmin):
    """A rule is its device's or its group's owner's; one about a type is whose it was made by."""

    list_display = ["name", "scope", "kind", "measurement", "severity", "enabled", "owner"]
    list_filter = ["kind", "severity", "enabled"]
    list_filter_submit = True
    list_select_related = ["owner", "device", "group"]
    list_per_page = 50
    search_fields = ["name", "measurement"]
    autocomplete_fields = ["device", "group"]
    fieldsets = [
        (None, {"fields": ["name", "severity", "enabled"]}),
        ("What it is about", {"fields": [*SCOPE, "measurement", "aggregation", "window"]}),
        (
            "What it looks for",
            {"fields": ["kind", *ALL, "hysteresis", "raise_after", "clear_after", "late_seconds"]},
        ),
        (
            "When it is muted",
            {"fields": ["muted_from", "muted_until", "muted_weekly", "muted_timezone"]},
        ),
    ]

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except Conflict as error:
            messages.error(request, str(error.detail))
            return redirect(request.get_full_path())

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return SCOPE if obj else ()  # a rule about something else is another rule

    @display(description="about")
    def scope(self, rule: AlertRule) -> str:
        return str(rule.device or rule.group or f"devices of type “{rule.device_type}”")

    def save_model(
        self, request: HttpRequest, obj: AlertRule, form: ModelForm, change: bool
    ) -> None:
        fields: dict[str, Any] = {name: getattr(obj, name) for name in FIELDS}
        if change:
            rules.change_rule(rule=AlertRule(pk=obj.pk), fields=fields, actor=actor(request))
            return
        about = obj.device or obj.group
        made = rules.create_rule(
            owner=about.owner if about else current_user(request),
            fields={**fields, **{name: getattr(obj, name) for name in SCOPE}},
            actor=actor(request),
        )
        obj.pk = made.pk

    def delete_model(self, request: HttpRequest, obj: AlertRule) -> None:
        rules.delete_rule(rule=obj, actor=actor(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AlertRule]) -> None:
        for rule in queryset:
            rules.delete_rule(rule=rule, actor=actor(request))


@admin.register(Alert)
class AlertAdmin(ReadOnly):
    list_display = ["raised_at", "severity", "status", "device_id", "message", "assignee"]
    list_filter = ["status", "severity", DeviceFilter]
    list_filter_submit = True
    actions = ["acknowledge", "resolve"]
    fields = [
        *("message", "severity", "status", "raised_at", "acknowledged_at", "assignee"),
        *("resolved_at", "resolution", "device_id", "device_name", "rule_id", "rule_name"),
        *("what_was_said", "what_happened", "values"),
    ]
    readonly_fields = ["what_was_said", "what_happened", "values"]

    @display(description="comments")
    def what_was_said(self, alert: Alert) -> str:
        return pretty(alert.comments)

    @display(description="history")
    def what_happened(self, alert: Alert) -> str:
        return pretty(alert.history)

    @display(description="values")
    def values(self, alert: Alert) -> str:
        return pretty(alert.payload)

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("events.change_alert")

    @admin.action(description="Acknowledge selected alerts", permissions=["handle"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        user = current_user(request)

        def one(alert: Alert) -> None:
            alerts.acknowledge(alert_id=alert.pk, user=user, assignee=user.get_username())

        self._each(request, queryset, one, "acknowledged")

    @admin.action(description="Resolve selected alerts", permissions=["handle"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        user = current_user(request)

        def one(alert: Alert) -> None:
            alerts.resolve(alert_id=alert.pk, user=user)

        self._each(request, queryset, one, "resolved")

    def _each(self, request: HttpRequest, queryset: QuerySet[Alert], act: Any, what: str) -> None:
        """Do it to each; those that are in no state for it stay as they are."""
        done = 0
        chosen = list(queryset[:AT_ONCE])
        for alert in chosen:
            try:
                act(alert)
                done += 1
            except (Conflict, Http404, StoreAway):
                pass
        messages.success(request, f"{done} alert(s) {what}.")
        if done < len(chosen):
            messages.warning(request, f"{len(chosen) - done} alert(s) could not be {what}.")
