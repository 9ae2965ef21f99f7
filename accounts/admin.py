"""Users in the admin site."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.views import ChangeList

from accounts.models import User
from accounts.permissions import may_change
from accounts.requests import current_user
from accounts.services import (
    actor_name,
    announce_activity,
    announce_password,
    delete_user,
    permissions_of,
    record_role,
    record_user,
    set_active,
)
from events.kinds import Kind
from iotflow.lib.deletion import CountedDeletion
from iotflow.lib.formdiff import changes_of

admin.site.unregister(Group)
admin.site.unregister([TOTPDevice, StaticDevice])  # their forms show what only the app may know


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    """What a role may, and who changed it."""

    def save_related(
        self, request: HttpRequest, form: ModelForm, formsets: Any, change: bool
    ) -> None:
        role = form.instance
        before = permissions_of(role)
        super().save_related(request, form, formsets, change)
        after = permissions_of(role)
        names = changes_of(form).get("name") if change else None
        if change and not names and before == after:
            return
        record_role(
            role.name,
            "changed" if change else "made",
            actor_name(staff_user(request)),
            granted=sorted(after - before),
            taken=sorted(before - after),
            changes={"name": names} if names else None,
        )

    def delete_model(self, request: HttpRequest, obj: Group) -> None:
        taken = sorted(permissions_of(obj))
        record_role(obj.name, "deleted", actor_name(staff_user(request)), taken=taken)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Group]) -> None:
        for role in queryset:
            self.delete_model(request, role)


class UserChangeList(ChangeList):
    def url_for_result(self, result: Any) -> str:
        return reverse("admin:user_overview", args=[result.pk])


@admin.register(User)
class UserAdmin(CountedDeletion, DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "active", "staff", "device_count", "last_login"]
    list_filter = ["is_active", "is_staff", "is_superuser", "last_login", "date_joined"]
    search_fields = ["username", "email", "user_id"]
    ordering = ["id"]
    list_per_page = 50
    readonly_fields = ["user_id", "last_login", "date_joined"]
    actions = ["delete_selected", "activate", "deactivate"]
    goes_along = (
        "devices",
        "devices__keys",
        "device_groups",
        "device_groups__memberships",
        "auth_token_set",
    )
    also_erased = (
        "Everything their devices ever said: erased in the background, for ever. Events stay "
        "until they expire."
    )
    fieldsets = [
        (None, {"fields": ["username", "email", "password", "user_id"]}),
        ("Name", {"fields": ["first_name", "last_name"]}),
        ("May", {"fields": ["is_active", "is_staff", "is_superuser", "groups"]}),
        ("When", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [
        (None, {"fields": ["username", "email", "password1", "password2"], "classes": ["wide"]})
    ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UserChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).annotate(device_count=Count("devices"))

    @display(description="devices", ordering="device_count")
    def device_count(self, user: Any) -> int:
        return int(user.device_count)

    @display(description="active", boolean=True, ordering="is_active")
    def active(self, user: User) -> bool:
        return user.is_active

    @display(description="staff", boolean=True, ordering="is_staff")
    def staff(self, user: User) -> bool:
        return user.is_staff

    @admin.action(description="Activate selected users", permissions=["change"])
    def activate(self, request: HttpRequest, users: QuerySet[User]) -> None:
        self._set_active(request, users, True)

    @admin.action(
        description="Deactivate selected users: tokens end, devices are refused",
        permissions=["change"],
    )
    def deactivate(self, request: HttpRequest, users: QuerySet[User]) -> None:
        others = users.exclude(username=request.user.get_username())  # never oneself
        self._set_active(request, others, False)

    def _set_active(self, request: HttpRequest, users: QuerySet[User], active: bool) -> None:
        if not request.user.is_superuser:
            users = users.exclude(is_superuser=True)
        count = set_active(users=users, active=active, actor=staff_user(request))
        what = "activated" if active else "deactivated"
        self.message_user(request, f"{count} user(s) {what}.")

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        actor = staff_user(request)
        if not change:
            record_user(Kind.USER_REGISTERED, obj, "was registered", actor)
        if "is_active" in form.changed_data:
            announce_activity(users=[obj], actor=actor)
        changes = changes_of(form) if change else {}
        changes.pop("is_active", None)
        if changes:
            what = f"changed: {', '.join(changes)}"
            record_user(Kind.USER_CHANGED, obj, what, actor, {"changes": changes})

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        """Django's own page; a changed password ends the user's tokens and is an event."""
        with transaction.atomic():
            response = super().user_change_password(request, id, form_url)
            if request.method == "POST" and response.status_code == 302:
                announce_password(user=User.objects.get(pk=id), actor=staff_user(request))
        return response

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Nobody deactivates themselves, or gives a role or all rights who has not all of them."""
        own = ["is_active"] if obj == request.user else []
        roles = [] if request.user.is_superuser else ["is_superuser", "groups"]
        return [*self.readonly_fields, *own, *roles]

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if isinstance(obj, User):
            return may_change(current_user(request), obj)
        return super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes themselves: it would end their own session."""
        if isinstance(obj, User) and obj.is_superuser and not request.user.is_superuser:
            return False
        return obj != request.user and super().has_delete_permission(request, obj)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        delete_user(user=obj, actor=staff_user(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            self.delete_model(request, user)


def staff_user(request: HttpRequest) -> User | None:
    """Who is logged in to the admin site."""
    return request.user if isinstance(request.user, User) else None
