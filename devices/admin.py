"""Devices, keys and groups in the admin site."""

from contextlib import suppress
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count, Model, Q, QuerySet
from django.forms import BaseInlineFormSet, ModelForm
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.contrib.filters.admin import AutocompleteSelectFilter, RangeDateTimeFilter
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList

from accounts.admin import staff_user
from accounts.permissions import may_change, sees_all
from accounts.requests import current_user
from accounts.services import actor_name
from devices import commands, services, silence
from devices.files import DeviceFiles
from devices.models import Command, Device, DeviceGroup, GroupMembership, ReportingInterval
from devices.presence import presence, presences
from devices.tally import frequent_types, tally
from events.admin import DeviceFilter, ReadOnly, pretty
from events.kinds import Kind
from iotflow.lib import ids
from iotflow.lib.deletion import CountedDeletion
from iotflow.lib.errors import Conflict
from iotflow.lib.formdiff import changes_of

ALSO_ERASED = (
    "All readings, latest values, rollups and configurations of these devices: erased in the "
    "background, for ever. Events stay until they expire."
)
COUNTED_MAX = 10_000
STATUS_COLOURS = {
    Device.Status.ACTIVE.label: "success",
    Device.Status.INACTIVE.label: "danger",
    Device.Status.MAINTENANCE.label: "warning",
}
COMMAND_COLOURS = {
    Command.Status.SUCCEEDED.label: "success",
    Command.Status.FAILED.label: "danger",
    Command.Status.EXPIRED.label: "warning",
}
COMMANDS_AT_ONCE = 100


def actor(request: HttpRequest) -> str:
    return actor_name(staff_user(request))


def numbers_of(devices: QuerySet[Device]) -> QuerySet[Device]:
    """The same, without what a list shows of them: there may be very many."""
    return devices.select_related(None).only("pk")


class Picker(AutocompleteSelect):
    """Django's fails when it draws again what was posted and is no number."""

    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        return super().optgroups(name, [one for one in value if ids.number(str(one))], attr)


class Picking:
    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.autocomplete_fields:  # type: ignore[attr-defined]
            kwargs["widget"] = Picker(db_field, self.admin_site)  # type: ignore[attr-defined]
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]


class MembershipInline(Picking, TabularInline):
    model = GroupMembership
    extra = 0
    autocomplete_fields: tuple[str, ...] = ("group",)
    readonly_fields = ("added_at",)
    tab = True


class PresenceFilter(admin.SimpleListFilter):
    """By when they were last seen, as the database knows it: at most a minute behind."""

    title = "presence"
    parameter_name = "presence"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("online", "Online"), ("offline", "Offline"), ("never", "Never seen")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        online = Q(online_until__gt=timezone.now())
        wanted = {
            "online": online,
            "offline": ~online & ~Q(last_seen=None),
            "never": Q(last_seen=None),
        }
        return queryset.filter(wanted.get(self.value() or "", Q()))


class TypeFilter(admin.SimpleListFilter):
    """By one of the frequent types, or by one that the address names."""

    title = "type"
    parameter_name = "device_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        if sees_all(current_user(request), Device):
            types = tally().types
        else:
            types = frequent_types(model_admin.get_queryset(request))
        return [(name, name) for name in sorted({*types, *filter(None, [self.value()])})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(device_type=self.value()) if self.value() else queryset


class DeviceChangeList(ChangeList):
    """Knows the presence of the page's devices, from one round trip."""

    def url_for_result(self, result: Any) -> str:
        """What a device says is looked at more often than its form."""
        return reverse("admin:device_overview", args=[result.pk])

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        devices: list[Any] = list(self.result_list)
        states = presences(devices)
        for device in devices:
            device.presence = states[device.pk]
        self.result_list: Any = devices


class GroupChangeList(ChangeList):
    def url_for_result(self, result: Any) -> str:
        return reverse("admin:devicegroup_latest", args=[result.pk])


class Memberships:
    """Records who joined and left groups by way of an inline form."""

    def save_formset(
        self, request: HttpRequest, form: ModelForm, formset: BaseInlineFormSet, change: bool
    ) -> None:
        super().save_formset(request, form, formset, change)  # type: ignore[misc]
        if formset.model is not GroupMembership:
            return
        joined, left = formset.new_objects, formset.deleted_objects
        services.record_memberships(Kind.GROUP_DEVICE_ADDED, joined, actor(request))
        services.record_memberships(Kind.GROUP_DEVICE_REMOVED, left, actor(request))


class Owned(CountedDeletion, Picking, ModelAdmin):
    """Staff without a permission for all of them look after those they own."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        user = current_user(request)
        if isinstance(obj, Model):
            return sees_all(user, self.model) or obj.owner_id == user.pk  # type: ignore[attr-defined]
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if isinstance(obj, Model):
            return may_change(current_user(request), obj)
        return super().has_change_permission(request)  # for all of them

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        found, user = super().get_queryset(request), current_user(request)
        return found if sees_all(user, self.model) else found.filter(owner=user)


@admin.register(Device)
class DeviceAdmin(Memberships, DeviceFiles, Owned):
    list_display = ["name", "device_type", "state", "is_online", "seen", "owner", "location"]
    list_filter = [
        PresenceFilter,
        "status",
        TypeFilter,
        ["owner", AutocompleteSelectFilter],
        ["last_seen", RangeDateTimeFilter],
    ]
    list_filter_submit = True
    list_select_related = ["owner"]
    list_per_page = 25  # of half as many rows, half as slow to draw
    search_fields = ["name"]  # and what else `matching` looks at
    search_help_text = "Name, location, number, or the owner's name"
    show_full_result_count = False
    autocomplete_fields = ["owner"]
    inlines = [MembershipInline]
    actions = ["delete_selected", "activate", "deactivate", "maintain"]
    goes_along = ("keys", "memberships")
    also_erased = ALSO_ERASED
    actions_detail = ["rotate_key"]
    readonly_fields = ["is_online", "seen", "created_at", "updated_at"]
    fieldsets = [
        (None, {"fields": ["name", "device_type", "owner", "status", "description"]}),
        ("Where and what", {"fields": ["location", "firmware_version", "hardware_version"]}),
        ("When", {"fields": ["is_online", "seen", "created_at", "updated_at"]}),
        ("Heard how often", {"fields": ["expected_interval", "grace"]}),
    ]

    def get_import_resource_kwargs(self, request: HttpRequest, **kwargs: Any) -> dict[str, Any]:
        return {"actor": actor(request)}

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        # A device keeps its owner: its telemetry is filed under them.
        return [*self.readonly_fields, "owner"] if obj else self.readonly_fields

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return DeviceChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        return (queryset.matching(search_term) if search_term else queryset), False

    def get_paginator(
        self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any
    ) -> "Paginator[Any]":
        """Counting takes longer the more there are: of many, pages only follow each other."""
        count = queryset.order_by()[: COUNTED_MAX + 1].count()
        if count > COUNTED_MAX:
            return InfinitePaginator(queryset, per_page, *args, **kwargs)
        paginator = Paginator(queryset, per_page, *args, **kwargs)
        paginator.count = count  # a cached property, that need not ask again
        return paginator

    @display(description="status", ordering="status", label=STATUS_COLOURS)
    def state(self, device: Device) -> str:
        return device.get_status_display()

    @display(description="online", boolean=True)
    def is_online(self, device: Device) -> bool:
        return self._presence(device).is_online

    @display(description="last seen", ordering="last_seen")
    def seen(self, device: Device) -> Any:
        return self._presence(device).last_seen

    def _presence(self, device: Any) -> Any:
        return getattr(device, "presence", None) or presence(device)

    @admin.action(description="Activate selected devices", permissions=["change"])
    def activate(self, request: HttpRequest, devices: QuerySet[Device]) -> None:
        self._set_status(request, devices, Device.Status.ACTIVE)

    @admin.action(
        description="Deactivate selected devices: their writes are refused",
        permissions=["change"],
    )
    def deactivate(self, request: HttpRequest, devices: QuerySet[Device]) -> None:
        self._set_status(request, devices, Device.Status.INACTIVE)

    @admin.action(description="Put selected devices into maintenance", permissions=["change"])
    def maintain(self, request: HttpRequest, devices: QuerySet[Device]) -> None:
        self._set_status(request, devices, Device.Status.MAINTENANCE)

    def _set_status(self, request: HttpRequest, devices: QuerySet[Device], status: str) -> None:
        some = numbers_of(devices)
        count = services.set_status(devices=some, status=status, actor=actor(request))
        self.message_user(request, f"{count} device(s) are {status} now.")

    def has_rotate_permission(self, request: HttpRequest, object_id: str) -> bool:
        """One's own may be rotated too. What is not seen is not there, rather than refused."""
        device = self.get_object(request, unquote(object_id))
        return device is None or self.has_change_permission(request, device)

    @action(description="Rotate key", icon="key", permissions=["rotate"])
    def rotate_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks first (GET); then ends the old keys and shows the new one, once (POST)."""
        device = self.get_object(request, unquote(object_id))
        if device is None:
            raise Http404
        secret = None
        if request.method == "POST":
            _, secret = services.rotate_key(device=device, actor=actor(request))
        return self._key_page(request, device, secret)

    def _key_page(self, request: HttpRequest, device: Device, secret: str | None) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"Key of {device.name}",
            "opts": self.opts,
            "device": device,
            "secret": secret,
        }
        response = TemplateResponse(request, "devices/key.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def save_model(self, request: HttpRequest, obj: Device, form: ModelForm, change: bool) -> None:
        if change:
            # What the form does not show moves on meanwhile: last_seen, epochs.
            obj.save(update_fields=[*form.changed_data, "updated_at"])
            before = {name: form.initial[name] for name in form.changed_data}
            services.announce_change(device=obj, before=before, actor=actor(request))
        else:
            super().save_model(request, obj, form, change)
            request.new_device_key = services.equip_device(  # type: ignore[attr-defined]
                device=obj, actor=actor(request)
            )

    def response_add(
        self, request: HttpRequest, obj: Device, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._key_page(request, obj, request.new_device_key)  # type: ignore[attr-defined]

    def delete_model(self, request: HttpRequest, obj: Device) -> None:
        services.delete_devices(devices=[obj], actor=actor(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        services.delete_devices(devices=numbers_of(queryset), actor=actor(request))


@admin.register(ReportingInterval)
class ReportingIntervalAdmin(ModelAdmin):
    list_display = ["device_type", "expected_interval", "grace"]
    list_per_page = 50
    search_fields = ["device_type"]

    def save_model(
        self, request: HttpRequest, obj: ReportingInterval, form: ModelForm, change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        self._changed()

    def delete_model(self, request: HttpRequest, obj: ReportingInterval) -> None:
        super().delete_model(request, obj)
        self._changed()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ReportingInterval]) -> None:
        super().delete_queryset(request, queryset)
        self._changed()

    def _changed(self) -> None:
        transaction.on_commit(silence.types.reload)


@admin.register(Command)
class CommandAdmin(ReadOnly):
    """To look at, and to take back; they are given by the API."""

    list_display = ["created_at", "name", "device", "state", "created_by", "times_sent"]
    list_filter = ["status", DeviceFilter, ["created_at", RangeDateTimeFilter]]
    list_filter_submit = True
    list_select_related = ["device"]
    search_fields = ["name"]
    actions = ["cancel"]
    fields = [
        *("name", "device", "state", "created_by", "created_at", "expires_at", "times_sent"),
        *("sent_at", "acknowledged_at", "finished_at", "what_to_do", "what_came_of_it"),
    ]
    readonly_fields = ["state", "what_to_do", "what_came_of_it"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Command]:
        found = super().get_queryset(request)
        user = current_user(request)
        return found if sees_all(user, Command) else found.filter(owner_id=user.pk)

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("devices.change_command")

    @display(description="status", label=COMMAND_COLOURS)
    def state(self, command: Command) -> str:
        return command.status_at(timezone.now()).label

    @display(description="parameters")
    def what_to_do(self, command: Command) -> str:
        return pretty(command.params)

    @display(description="result")
    def what_came_of_it(self, command: Command) -> str:
        return pretty(command.result)

    @admin.action(description="Cancel selected commands", permissions=["handle"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Command]) -> None:
        done = 0
        chosen = list(queryset[:COMMANDS_AT_ONCE])
        for command in chosen:
            with suppress(Conflict, Http404):
                commands.cancel(command=command, actor=actor(request))
                done += 1
        messages.success(request, f"{done} command(s) cancelled.")
        if done < len(chosen):
            messages.warning(request, f"{len(chosen) - done} command(s) were over already.")


@admin.register(DeviceGroup)
class DeviceGroupAdmin(Owned):
    list_display = ["name", "owner", "device_count", "color", "created_at"]
    list_filter = [["owner", AutocompleteSelectFilter], ["created_at", RangeDateTimeFilter]]
    list_filter_submit = True
    list_select_related = ["owner"]
    list_per_page = 50
    search_fields = ["name", "description", "owner__username"]
    actions = ["delete_selected"]
    goes_along = ("memberships",)
    autocomplete_fields = ["owner"]
    readonly_fields = ["created_at", "updated_at"]
    fieldsets = [
        (None, {"fields": ["name", "owner", "description", "color"]}),
        ("When", {"fields": ["created_at", "updated_at"]}),
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return [*self.readonly_fields, "owner"] if obj else self.readonly_fields

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return GroupChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeviceGroup]:
        return super().get_queryset(request).annotate(device_count=Count("memberships"))

    @display(description="devices", ordering="device_count")
    def device_count(self, group: Any) -> int:
        return int(group.device_count)

    def save_model(
        self, request: HttpRequest, obj: DeviceGroup, form: ModelForm, change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            services.record_group(Kind.GROUP_CREATED, obj, "created", actor(request))
        elif form.changed_data:
            changes = changes_of(form)
            services.record_group(
                Kind.GROUP_CHANGED, obj, "changed", actor(request), changes=changes
            )

    def delete_model(self, request: HttpRequest, obj: DeviceGroup) -> None:
        services.delete_group(group=obj, actor=actor(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[DeviceGroup]) -> None:
        for group in queryset:
            services.delete_group(group=group, actor=actor(request))
