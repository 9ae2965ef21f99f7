"""Alerts, from raised to resolved: rows of PostgreSQL while they are open, and documents for good.

Every transition writes the whole document anew, with a higher `seq`, in the transaction that makes
it and with its event. It goes to the collection of alerts right after the commit, or later by the
worker; a second delivery changes nothing.
"""

import logging
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.http import Http404
from django.utils import timezone

from accounts.models import User
from accounts.permissions import check_may_change
from accounts.services import actor_name
from devices.models import Device
from events import log, sinks
from events.kinds import Kind, Severity
from events.models import Alert
from events.sinks import Document
from iotflow.lib.errors import Conflict, StoreAway
from iotflow.lib.timeparse import format_datetime, format_ms, to_datetime
from telemetry.alerting import machine
from telemetry.alerting.machine import Seen, Silence
from telemetry.alerting.models import AlertRule, LiveAlert
from telemetry.notifications import queue

logger = logging.getLogger(__name__)
Status = Alert.Status
PART = 500
PROMPT_SECONDS = 0.3
HISTORY_MAX = 200  # what an alert remembers of itself; the event log has all
COMMENTS_MAX = 100
SYSTEM = "system"


class Changes:
    """What one transaction makes of alerts; `live` are those it may find open, and locks."""

    def __init__(self, live: QuerySet[LiveAlert]) -> None:
        rows = live.filter(is_open=True).select_for_update().order_by("pk")
        self._open: dict[tuple[int | None, int], LiveAlert] = {
            (alert.rule_id, alert.device_id): alert for alert in rows
        }
        self._new: list[LiveAlert] = []
        self._changed: dict[uuid.UUID, LiveAlert] = {}
        self._events: list[Document] = []

    def raise_(self, rule: AlertRule, device: Device, seen: Seen | Silence) -> None:
        """Open an alert, if none is, for what was seen."""
        pair = rule.pk, device.pk
        if pair in self._open:
            return
        alert = raised(rule, device, seen)
        self._open[pair] = alert
        self._new.append(alert)
        self._events.append(_event(Kind.ALERT_RAISED, alert, SYSTEM, **_of_value(alert, seen)))

    def clear(self, pair: tuple[int, int], seen: Seen | Silence) -> None:
        """Close what is open, because it is fine again."""
        alert = self._open.pop(pair, None)
        if alert is None:  # somebody has resolved it
            return
        close(alert, to_datetime(seen.time), "cleared", SYSTEM)
        quoted = alert.document["payload"]
        quoted["cleared"] = _quoted(seen)
        self._changed[alert.pk] = alert
        self._events.append(_event(Kind.ALERT_CLEARED, alert, SYSTEM, **_of_value(alert, seen)))

    def save(self) -> None:
        new = {alert.pk for alert in self._new}
        # What is closed first: of a pair only one may be open.
        _save([alert for pk, alert in self._changed.items() if pk not in new])
        LiveAlert.objects.bulk_create(self._new, batch_size=PART)
        _tell([*self._new, *self._changed.values()], self._events)


def raised(rule: AlertRule, device: Device, seen: Seen | Silence) -> LiveAlert:
    """A new alert, not stored."""
    moment, alert_id = to_datetime(seen.time), uuid.uuid4()
    document: Document = {
        "id": str(alert_id),
        "seq": 1,
        "user_id": device.owner_id,
        "device_id": device.pk,
        "device_name": device.name,
        "rule_id": rule.pk,
        "rule_name": rule.name,
        "kind": rule.kind,
        "measurement": rule.measurement,
        "severity": rule.severity,
        "status": Status.RAISED.value,
        "message": _message(rule, device, seen),
        "raised_at": moment.isoformat(),
        "acknowledged_at": None,
        "resolved_at": None,
        "resolution": None,
        "assignee": None,
        "comments": [],
        "history": [{"seq": 1, "time": format_ms(seen.time), "what": "raised", "actor": SYSTEM}],
        "payload": {"rule": rule.quoted(), "raised": _quoted(seen)},
    }
    return LiveAlert(
        id=alert_id,
        rule=rule,
        device_id=device.pk,
        owner_id=device.owner_id,
        raised_at=moment,
        document=document,
    )


def _quoted(seen: Seen | Silence) -> Document:
    """What an alert tells of a value, and why it is anomalous, where it is."""
    why = seen.verdict._asdict() if seen.verdict else {}
    return {"time": format_ms(seen.time), "value": seen.value, **why}


def _message(rule: AlertRule, device: Device, seen: Seen | Silence) -> str:
    what = rule.measurement
    if rule.aggregation:
        what = f"{rule.get_window_display()} {rule.aggregation} of {what}"
    if seen.value is not None:
        what = f"{what} is {seen.value:g}"
    match rule.kind:
        case machine.Kind.ABOVE:
            why = f"{what}, above {rule.threshold:g}"
        case machine.Kind.BELOW:
            why = f"{what}, below {rule.threshold:g}"
        case machine.Kind.OUTSIDE:
            why = f"{what}, outside {rule.low:g} to {rule.high:g}"
        case machine.Kind.RATE:
            why = f"{what}, and changes faster than {rule.threshold:g} a second"
        case machine.Kind.FLAPPING:
            why = f"{what}, and changed over {rule.threshold:g} times in {rule.within_seconds:,} s"
        case machine.Kind.ANOMALY if seen.verdict:
            score, expected, spread = seen.verdict
            why = f"{what}, where {expected:g} ± {spread:.2g} is usual: a score of {score:.3g}"
        case _:
            why = f"no reading for {rule.silence_seconds:,} seconds"
    return f"{device.name}: {why}"[: log.MESSAGE_MAX]


def _note(alert: LiveAlert, what: str, actor: str, moment: datetime, **more: Any) -> None:
    """One more transition, in the document."""
    alert.seq += 1
    document = alert.document
    document["seq"] = alert.seq
    entry = {"seq": alert.seq, "time": format_datetime(moment), "what": what, "actor": actor}
    document["history"] = [*document["history"], entry | more][-HISTORY_MAX:]


def close(alert: LiveAlert, moment: datetime, resolution: str, actor: str) -> None:
    """Make it resolved, not stored."""
    what = "cleared" if resolution == "cleared" else "resolved"
    more = {} if what == resolution else {"reason": resolution}
    _note(alert, what, actor, moment, **more)
    alert.is_open = False
    alert.document |= {
        "status": Status.RESOLVED.value,
        "resolved_at": moment.isoformat(),
        "resolution": resolution,
    }


def resolve_all(live: QuerySet[LiveAlert], reason: str) -> int:
    """Resolve these open alerts, for whoever watched them is gone; how many. In a transaction."""
    found = list(live.filter(is_open=True).select_for_update().order_by("pk"))
    for alert in found:
        close(alert, timezone.now(), reason, SYSTEM)
    _save(found)
    _tell(found, [_event(Kind.ALERT_RESOLVED, one, SYSTEM, reason=reason) for one in found])
    return len(found)


@transaction.atomic
def acknowledge(*, alert_id: uuid.UUID, user: User, assignee: str) -> Document:
    """Somebody looks after it. Http404, PermissionDenied, or Conflict where that is so already."""
    alert, actor = _locked(alert_id, user), actor_name(user)
    if alert.document["status"] == Status.ACKNOWLEDGED:
        raise Conflict("This alert is acknowledged already.")
    now = timezone.now()
    _note(alert, "acknowledged", actor, now, assignee=assignee)
    alert.document |= {
        "status": Status.ACKNOWLEDGED.value,
        "acknowledged_at": now.isoformat(),
        "assignee": assignee,
    }
    return _kept(alert, _event(Kind.ALERT_ACKNOWLEDGED, alert, actor, assignee=assignee))


@transaction.atomic
def resolve(*, alert_id: uuid.UUID, user: User) -> Document:
    """Close it by hand: it is not raised again before the rule found the device to be fine.

    Http404, or Conflict where it is resolved.
    """
    alert, actor = _locked(alert_id, user), actor_name(user)
    reason = f"resolved by {actor}"[:200]
    close(alert, timezone.now(), reason, actor)
    return _kept(alert, _event(Kind.ALERT_RESOLVED, alert, actor, reason=reason))


@transaction.atomic
def comment(*, alert_id: uuid.UUID, user: User, text: str) -> Document:
    """Add a comment. Http404, or Conflict where it is resolved or has COMMENTS_MAX of them."""
    alert, actor = _locked(alert_id, user), actor_name(user)
    comments = alert.document["comments"]
    if len(comments) >= COMMENTS_MAX:
        raise Conflict(f"This alert has {COMMENTS_MAX} comments; there is room for no more.")
    now = timezone.now()
    _note(alert, "commented", actor, now)
    entry = {"time": format_datetime(now), "actor": actor, "text": text}
    alert.document["comments"] = [*comments, entry]
    return _kept(alert, _event(Kind.ALERT_COMMENTED, alert, actor))


def _locked(alert_id: uuid.UUID, user: User) -> LiveAlert:
    """The open alert, for who may change it. Http404, PermissionDenied, Conflict or StoreAway."""
    alert = LiveAlert.objects.visible_to(user).select_for_update().filter(pk=alert_id).first()
    owner_id = _owner_of_past(alert_id, user) if alert is None else alert.owner_id
    check_may_change(user, owner_id, "events.change_alert")
    if alert is None or not alert.is_open:
        raise Conflict("This alert is resolved.")
    return alert


def _owner_of_past(alert_id: uuid.UUID, user: User) -> int:
    """Of one that is over, and in the collection alone. Http404 or StoreAway."""
    with sinks.guarded():
        past = Alert.objects.visible_to(user).filter(pk=alert_id).first()
    if past is None:
        raise Http404
    return int(past.user_id)


def _kept(alert: LiveAlert, event: Document) -> Document:
    _save([alert])
    _tell([alert], [event])
    return dict(alert.document)


def _save(found: Sequence[LiveAlert]) -> None:
    for alert in found:
        alert.changed_at = timezone.now()
    fields = ["is_open", "seq", "document", "changed_at"]
    LiveAlert.objects.bulk_update(found, fields, batch_size=PART)


def _tell(found: Sequence[LiveAlert], events: Sequence[Document]) -> None:
    if found:
        ids = [alert.pk for alert in found[:PART]]  # more is the worker's
        transaction.on_commit(lambda: _try_deliver(ids), robust=True)
    if events:
        queue.put(found, events)
        log.record_all(events)


def deliver(ids: Sequence[uuid.UUID] | None = None, seconds: float | None = None) -> int:
    """Bring up to PART alerts (of `ids`, if given) into the collection; how many. StoreAway."""
    lacking = LiveAlert.objects.filter(delivered__lt=F("seq")).order_by("changed_at")
    if ids is not None:
        lacking = lacking.filter(pk__in=ids)
    rows = list(lacking.values_list("pk", "seq", "document")[:PART])
    sinks.keep_alerts([document for _, _, document in rows], seconds)
    for pk, seq, _ in rows:
        LiveAlert.objects.filter(pk=pk, delivered__lt=seq).update(delivered=seq)
    if rows:
        over = LiveAlert.objects.filter(pk__in=[pk for pk, _, _ in rows], is_open=False)
        over.filter(delivered__gte=F("seq")).delete()
    return len(rows)


def deliver_all() -> int:
    """Bring everything that waits; how many. Raises StoreAway. What is over and there is gone."""
    total = 0
    while sent := deliver():
        total += sent
    return total


def _try_deliver(ids: Sequence[uuid.UUID]) -> None:
    try:
        deliver(ids, PROMPT_SECONDS)
    except StoreAway:
        logger.info("%d alert(s) wait for the collection", len(ids))


def _of_value(alert: LiveAlert, seen: Seen | Silence) -> dict[str, Any]:
    return {
        "measurement": alert.document["measurement"],
        "value": seen.value,
        "time": format_ms(seen.time),
    }


def _event(kind: Kind, alert: LiveAlert, actor: str, **payload: Any) -> Document:
    document = alert.document
    what = kind.value.removeprefix("alert.")
    return log.happened(
        kind,
        f"Alert {what}: {document['message']}",
        actor=actor,
        user_id=alert.owner_id,
        device_id=alert.device_id,
        severity=Severity(document["severity"]) if kind == Kind.ALERT_RAISED else Severity.INFO,
        payload={"alert_id": str(alert.pk), "rule_id": document["rule_id"], **payload},
    )
