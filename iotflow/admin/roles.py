"""The roles of staff: Django groups with permissions, made by `manage.py setup_roles`."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission
from django.db import transaction

from accounts.services import record_role

SYSTEM = "system"
APPS = ("accounts", "devices", "events", "telemetry")
# What operators do beyond looking: they run the fleet, and leave people and retention alone.
OPERATED = ("device", "devicegroup", "groupmembership", "apikey", "command")
HANDLED = (
    *("add_alertrule", "change_alertrule", "delete_alertrule", "change_alert"),
    *("change_notificationchannel", "delete_notificationchannel"),
)


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    description: str

    def permissions(self) -> set[Permission]:
        ours = Permission.objects.select_related("content_type").filter(
            content_type__app_label__in=APPS
        )
        if self is VIEWERS:
            return set(ours.filter(codename__startswith="view_"))
        if self is OPERATORS:
            operated = ours.filter(content_type__app_label="devices")
            operated = operated.filter(content_type__model__in=OPERATED)
            handled = ours.filter(codename__in=HANDLED)
            return VIEWERS.permissions() | set(operated.exclude(codename="delete_device") | handled)
        return set(ours)


VIEWERS = Role("Viewers", "see everything and change nothing")
OPERATORS = Role("Operators", "see everything, run devices, keys, groups and alerts")
ADMINS = Role("Admins", "see and change everything but roles")
ROLES = (VIEWERS, OPERATORS, ADMINS)


@dataclass(frozen=True, slots=True)
class Change:
    """What has to be done that a role's group is as it should be; names of permissions, sorted."""

    role: Role
    is_new: bool
    granted: list[str]
    taken: list[str]

    def __bool__(self) -> bool:
        return bool(self.is_new or self.granted or self.taken)


def changes(*, apply: bool) -> Iterator[Change]:
    """What differs, role by role; `apply` mends it. Members stay, and so do other groups."""
    for role in ROLES:
        with transaction.atomic():
            group = Group.objects.filter(name=role.name).first()
            is_new = group is None
            wanted = role.permissions()
            held = set(group.permissions.all()) if group else set()
            change = Change(role, is_new, _names(wanted - held), _names(held - wanted))
            if apply and change:
                group = group or Group.objects.create(name=role.name)
                group.permissions.set(wanted)
                what = "made" if is_new else "changed"
                record_role(role.name, what, SYSTEM, granted=change.granted, taken=change.taken)
        yield change


def _names(permissions: set[Permission]) -> list[str]:
    return sorted(f"{one.content_type.app_label}.{one.codename}" for one in permissions)
