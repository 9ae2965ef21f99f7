"""What leads where in the admin site."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.urls import reverse

from accounts.models import User
from accounts.permissions import sees_all
from accounts.requests import current_user
from devices.models import Command, Device, DeviceGroup, ReportingInterval
from events.models import Alert, DeviceConfig, EventLog, Outbox, ReportedConfig
from iotflow.admin import device, group, user
from iotflow.lib import ids
from telemetry.alerting.models import AlertRule
from telemetry.models import RetentionChange, RetentionPolicy
from telemetry.notifications.models import Delivery, NotificationChannel

# By heading: the model, its title and its icon (a name of Material Symbols).
SIDEBAR: dict[str, list[tuple[Any, str, str]]] = {
    "Fleet": [
        (Device, "Devices", "sensors"),
        (DeviceGroup, "Groups", "folder_shared"),
        (DeviceConfig, "Configurations", "tune"),
        (ReportedConfig, "Reported configurations", "fact_check"),
        (Command, "Commands", "send"),
        (ReportingInterval, "Reporting intervals", "timer"),
    ],
    "What happened": [
        (EventLog, "Events", "history"),
        (Alert, "Alerts", "notifications"),
        (AlertRule, "Alert rules", "rule"),
        (NotificationChannel, "Channels", "campaign"),
        (Delivery, "Deliveries", "outgoing_mail"),
        (Outbox, "Outbox", "outbox"),
    ],
    "People": [
        (User, "Users", "person"),
        (Group, "Roles", "admin_panel_settings"),
    ],
    "Telemetry": [
        (RetentionPolicy, "Retention", "schedule"),
        (RetentionChange, "Changes of retention", "manage_history"),
    ],
}
# Of which everybody of staff looks at least at their own.
OWNED = (Device, DeviceGroup)
# By the label of the model, whose form is the last of the tabs.
PAGES = {
    "devices.device": device.PAGES,
    "devices.devicegroup": group.PAGES,
    "accounts.user": user.PAGES,
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Only what the user may look at is shown."""
    dashboard = {"title": "Dashboard", "icon": "dashboard", "link": reverse("admin:index")}
    return [
        {"items": [dashboard]},
        *(
            {"title": title, "items": [_item(*entry) for entry in entries]}
            for title, entries in SIDEBAR.items()
        ),
    ]


def _item(model: Any, title: str, icon: str) -> dict[str, Any]:
    meta = model._meta
    return {
        "title": title,
        "icon": icon,
        "link": reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist"),
        "permission": _anybody if model in OWNED else _who_sees(model),
    }


def _anybody(request: HttpRequest) -> bool:
    """At least at their own."""
    return True


def _who_sees(model: Any) -> Callable[[HttpRequest], bool]:
    return lambda request: sees_all(current_user(request), model)


def account(request: HttpRequest) -> list[dict[str, Any]]:
    """Below the user's name."""
    links = [{"title": "Change password", "link": reverse("admin:password_change")}]
    if settings.ADMIN_TOTP != "off":
        links.append({"title": "Second factor", "link": reverse("admin:second_factor")})
    return links


def tabs(request: HttpRequest) -> list[dict[str, Any]]:
    """The pages of the device, group or user that is looked at, and its form."""
    match = request.resolver_match
    object_id = ids.number(str(match.kwargs.get("object_id"))) if match else None
    if object_id is None:
        return []
    return [
        {
            "models": [{"name": label, "detail": True}],
            "items": [
                *(
                    {
                        "title": page.title,
                        "link": reverse(f"admin:{page.url_name}", args=[object_id]),
                    }
                    for page in pages
                    if page.title
                ),
                {
                    "title": "Settings",
                    "link": reverse(f"admin:{label.replace('.', '_')}_change", args=[object_id]),
                },
            ],
        }
        for label, pages in PAGES.items()
        if request.path.startswith(reverse(f"admin:{label.replace('.', '_')}_changelist"))
    ]
