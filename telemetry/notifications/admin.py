"""Channels and deliveries in the admin site.

Channels are made by the API, where a webhook's secret is shown, and by whoever is to be told.
"""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from devices.admin import actor
from events.admin import ReadOnly
from iotflow.lib.deletion import CountedDeletion
from iotflow.lib.errors import Conflict
from telemetry.notifications import channels
from telemetry.notifications.models import Delivery, NotificationChannel

AT_ONCE = 100
CHANGED = ("name", "least_severity", "enabled", "digest_seconds")
SHOWN = ("owner", "kind", "target", "all_devices", "shown_state", "failures", "failing_since")


@admin.register(NotificationChannel)
class NotificationChannelAdmin(CountedDeletion, ModelAdmin):
    list_display = ["name", "kind", "target", "shown_state", "least_severity", "owner"]
    list_filter = ["kind", "enabled", "least_severity"]
    list_filter_submit = True
    list_select_related = ["owner"]
    list_per_page = 50
    search_fields = ["name", "owner__username"]
    fieldsets = [(None, {"fields": CHANGED}), ("As it is", {"fields": SHOWN})]
    readonly_fields = SHOWN
    actions = ["test", "delete_selected"]
    also_erased = "What waits for it, and its log"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @display(description="state")
    def shown_state(self, channel: NotificationChannel) -> str:
        return str(channel.state.label)

    def save_model(
        self, request: HttpRequest, obj: NotificationChannel, form: ModelForm, change: bool
    ) -> None:
        fields: dict[str, Any] = {name: getattr(obj, name) for name in CHANGED}
        channels.change_channel(
            channel=NotificationChannel(pk=obj.pk), fields=fields, actor=actor(request)
        )

    def delete_model(self, request: HttpRequest, obj: NotificationChannel) -> None:
        channels.delete_channel(channel=obj, actor=actor(request))

    def delete_queryset(
        self, request: HttpRequest, queryset: QuerySet[NotificationChannel]
    ) -> None:
        for channel in queryset:
            channels.delete_channel(channel=channel, actor=actor(request))

    @admin.action(description="Test selected channels", permissions=["change"])
    def test(self, request: HttpRequest, queryset: QuerySet[NotificationChannel]) -> None:
        def one(channel: NotificationChannel) -> None:
            channels.test_channel(channel=channel)

        each(request, queryset, one, "tested")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnly):
    list_display = ["created_at", "channel", "status", "attempts", "answer", "delivered_at"]
    list_filter = ["status", "channel__kind"]
    list_filter_submit = True
    list_select_related = ["channel"]
    fields = [
        *("id", "channel", "status", "attempts", "answer", "next_try", "created_at"),
        *("delivered_at", "alert_id", "seq", "body"),
    ]
    actions = ["replay"]

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("telemetry.change_notificationchannel")

    @admin.action(description="Send selected deliveries again", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        def one(delivery: Delivery) -> None:
            channels.replay(delivery=delivery, actor=actor(request))

        each(request, queryset.select_related("channel"), one, "sent again")


def each(request: HttpRequest, queryset: QuerySet[Any], act: Any, what: str) -> None:
    """Do it to each; those that are in no state for it stay as they are."""
    done, chosen = 0, list(queryset[:AT_ONCE])
    for thing in chosen:
        try:
            act(thing)
            done += 1
        except Conflict:
            pass
    messages.success(request, f"{done} of {len(chosen)} will be {what}.")
