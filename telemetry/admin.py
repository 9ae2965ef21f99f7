"""How long telemetry is kept, in the admin site."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from devices.admin import actor
from telemetry import policies
from telemetry.alerting import admin as alerting  # noqa: F401  (registers rules and alerts)
from telemetry.models import RetentionChange, RetentionPolicy
from telemetry.notifications import admin as notifications  # noqa: F401  (registers channels)
from telemetry.policies import kept_for


@admin.register(RetentionPolicy)
class RetentionPolicyAdmin(ModelAdmin):
    list_display = ["values", "kept", "rollups_kept", "changed_at"]
    list_per_page = 50
    search_fields = ["device_type", "measurement"]
    readonly_fields = ["created_at", "changed_at"]
    fieldsets = [
        (None, {"fields": ["device_type", "measurement", "days", "rollup_days"]}),
        ("When", {"fields": ["created_at", "changed_at"]}),
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        # A policy for other values is another policy.
        return (
            [*self.readonly_fields, "device_type", "measurement"] if obj else self.readonly_fields
        )

    @display(description="values", ordering="device_type")
    def values(self, policy: RetentionPolicy) -> str:
        return str(policy)

    @display(description="kept", ordering="days")
    def kept(self, policy: RetentionPolicy) -> str:
        return kept_for(policy.days)

    @display(description="rollups kept", ordering="rollup_days")
    def rollups_kept(self, policy: RetentionPolicy) -> str:
        days = policy.rollup_days
        return "ROLLUP_RETENTION_DAYS" if days is None else kept_for(days)

    def save_model(
        self, request: HttpRequest, obj: RetentionPolicy, form: ModelForm, change: bool
    ) -> None:
        fields = ("device_type", "measurement", "days", "rollup_days")
        wanted: Any = {name: getattr(obj, name) for name in fields}
        obj.pk = policies.set_policy(**wanted, actor=actor(request)).pk

    def delete_model(self, request: HttpRequest, obj: RetentionPolicy) -> None:
        policies.remove_policy(policy=obj, actor=actor(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[RetentionPolicy]) -> None:
        for policy in queryset:
            policies.remove_policy(policy=policy, actor=actor(request))


@admin.register(RetentionChange)
class RetentionChangeAdmin(ModelAdmin):
    """To look at: `manage.py doctor` says which of them still matter."""

    list_display = ["changed_at", "values", "how", "kept", "kept_before", "actor", "applied_at"]
    list_per_page = 50
    search_fields = ["device_type", "measurement"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @display(description="values")
    def values(self, change: RetentionChange) -> str:
        return str(change)

    @display(description="kept", ordering="days")
    def kept(self, change: RetentionChange) -> str:
        return kept_for(change.days)

    @display(description="kept before", ordering="previous_days")
    def kept_before(self, change: RetentionChange) -> str:
        return "not known" if change.previous_days is None else kept_for(change.previous_days)
