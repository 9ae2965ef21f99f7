"""The front page: how everything is now. Its cost does not grow with devices or events."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from accounts.models import User
from accounts.permissions import sees_all
from accounts.requests import current_user
from devices.models import Device
from devices.presence import busiest
from devices.tally import tally
from events import outbox, selectors, sinks
from events.kinds import Kind, Severity
from events.models import Alert, EventLog, Outbox
from iotflow import health
from iotflow.lib import counters
from iotflow.lib.counters import Step
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import shared
from iotflow.lib.spans import NO_END
from iotflow.lib.timeparse import to_ms
from telemetry.alerting.models import LiveAlert

EVENTS_SHOWN = 8
ALERTS_SHOWN = 8
DEVICES_SHOWN = 5
COUNTED_MAX = 1000  # of alerts and of events; more are "1,000 or more"
STORES = {
    "database": "Users and devices",
    "telemetry": "Telemetry",
    "cache": "Cache",
    "events": "Events",
}


def refreshed(request: HttpRequest) -> HttpResponse:
    """What changes on the page, to be put in its place."""
    response = render(request, "iotflow/dashboard_figures.html", figures(current_user(request)))
    response["Cache-Control"] = "no-store"
    return response


def figures(user: User) -> dict[str, Any]:
    """All that the page shows them; what cannot be known now is None.

    Names of devices and events are for those who may look at all of them.
    """
    now = timezone.now()
    state = health.check()
    devices, events, alerts = (sees_all(user, model) for model in (Device, EventLog, Alert))
    return {
        "now": now,
        "devices": tally(),
        "health": state,
        "stores": [(STORES[name], store) for name, store in state.stores.items()],
        "outbox": {"waiting": Outbox.objects.count(), "seconds": outbox.age_seconds()},
        "traffic": _traffic(),
        "sees": {"devices": devices, "events": events, "alerts": alerts},
        "alerts": _alerts(user) if alerts else None,
        "events": _events(now) if events else None,
        "busiest": _busiest() if devices else None,
        "quietest": _quietest(now) if devices else None,
    }


@dataclass(frozen=True, slots=True)
class Traffic:
    """`hit_rates` by cache, None where nothing was looked up; `series` as `_series` makes them."""

    all_processes: bool
    last_minute: dict[str, int]
    last_day: dict[str, int]
    hit_rates: dict[str, float | None]
    series: dict[str, list[list[float]]]

    @property
    def per_second(self) -> float:
        return self.last_minute.get("readings", 0) / 60


def _traffic() -> Traffic | None:
    try:
        steps = counters.steps()
    except StoreAway:
        return None
    counted = {name: counters.summed(found) for name, found in steps.items()}
    return Traffic(
        all_processes=shared(),
        last_minute=counted["last_minute"],
        last_day=counted["last_day"],
        hit_rates={
            "keys": counters.hit_rate(counted["last_hour"], "keys"),
            "latest": counters.hit_rate(counted["last_hour"], "latest"),
        },
        series={
            "last-hour": _series(steps["last_hour"]),
            "last-day": _series(steps["last_day"]),
        },
    )


def _series(steps: list[Step]) -> list[list[float]]:
    """When each step began, in s, and its readings a second; without the one under way."""
    length = steps[1][0] - steps[0][0]
    return [
        [began for began, _ in steps[:-1]],
        [round(times.get("readings", 0) / length, 3) for _, times in steps[:-1]],
    ]


def _alerts(user: User) -> dict[str, Any]:
    """Those that are open: up to COUNTED_MAX counted, the newest shown."""
    found = LiveAlert.objects.visible_to(user).open()
    return {"count": _counted(found), "most": COUNTED_MAX, "newest": found[:ALERTS_SHOWN]}


@dataclass(frozen=True, slots=True)
class Recent:
    """Newest events of each severity, and how many log-ins failed: of a day, up to COUNTED_MAX."""

    by_severity: dict[str, list[EventLog]]
    failed_count: int
    most: int = field(default=COUNTED_MAX)


def _events(now: datetime) -> Recent | None:
    since = now - timedelta(days=1)
    events = EventLog.objects.all()
    failed = events.filter(kind=Kind.USER_LOGIN_FAILED, time__gte=since)
    try:
        with sinks.guarded():
            return Recent(
                by_severity={
                    severity: selectors.newest(
                        events.filter(severity=severity), to_ms(since), NO_END, EVENTS_SHOWN
                    )
                    for severity in reversed(Severity.values)
                },
                failed_count=_counted(failed),
            )
    except StoreAway:
        return None


def _counted(found: Any) -> int:
    return int(found.order_by()[:COUNTED_MAX].count())


def _quietest(now: datetime) -> QuerySet[Device]:
    """Those that should speak, did once, and are silent the longest; along the index."""
    limit = now - timedelta(seconds=settings.ONLINE_SECONDS)
    silent = Device.objects.filter(status=Device.Status.ACTIVE, last_seen__lte=limit)
    return silent.order_by("last_seen").only("name", "last_seen")[:DEVICES_SHOWN]


def _busiest() -> list[tuple[Device, int]] | None:
    try:
        heard = dict(busiest(DEVICES_SHOWN))
    except StoreAway:
        return None
    found = Device.objects.in_bulk(heard)
    return [(found[device_id], times) for device_id, times in heard.items() if device_id in found]
