"""What happens to alerts becomes deliveries, in the transaction that makes it happen.

So none is lost and none is there twice; what is rolled back was never told of.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Exists, OuterRef

from accounts.models import User
from events.kinds import Severity
from events.sinks import Document
from iotflow.lib.batches import delete_in_pieces
from iotflow.lib.json import dumps
from iotflow.lib.timeparse import format_datetime
from telemetry.notifications.models import Delivery, NotificationChannel

if TYPE_CHECKING:
    from telemetry.alerting.models import LiveAlert

PART = 500
RANK = {severity: rank for rank, severity in enumerate(Severity.values)}
FACTS = (
    *("device_id", "device_name", "rule_id", "rule_name", "kind", "measurement", "severity"),
    "message",
)


def put(alerts: Sequence["LiveAlert"], events: Sequence[Document]) -> None:
    """Note the transitions of `alerts` that `events` tell of, in their order, for every channel
    that is to hear of them.
    """
    by_id = {str(alert.pk): alert for alert in alerts}
    channels = list(NotificationChannel.objects.hearing_of({one.owner_id for one in alerts}))
    if not channels:
        return
    deliveries = (
        Delivery(channel=channel, alert_id=alert_id, seq=seq, body=dumps(body).decode())
        for alert_id, seq, body in _bodies(by_id, events)
        for channel in channels
        if _hears(channel, by_id[alert_id])
    )
    Delivery.objects.bulk_create(deliveries, batch_size=PART)


def purge(now: datetime) -> None:
    """Drop what the log is not to have any more, and what was of whom or what is gone."""
    old = now - timedelta(days=settings.NOTIFICATION_LOG_DAYS)
    owner = User.objects.filter(pk=OuterRef("owner_id"))
    delete_in_pieces(NotificationChannel.objects.filter(~Exists(owner)))
    channel = NotificationChannel.objects.filter(pk=OuterRef("channel_id"))
    delete_in_pieces(Delivery.objects.filter(~Exists(channel)))
    delete_in_pieces(Delivery.objects.filter(created_at__lt=old))


def _hears(channel: NotificationChannel, alert: "LiveAlert") -> bool:
    """The severity is that of the alert, also when it is over."""
    if RANK[alert.document["severity"]] < RANK[channel.least_severity]:
        return False
    return channel.all_devices or channel.owner_id == alert.owner_id


def _bodies(
    alerts: dict[str, "LiveAlert"], events: Sequence[Document]
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Each transition as it is told; an alert's last ones are the last of its history."""
    told = [(event, event["payload"]) for event in events]
    left = Counter(payload["alert_id"] for _, payload in told)
    for event, payload in told:
        alert_id = payload["alert_id"]
        document = alerts[alert_id].document
        entry = document["history"][-left[alert_id]]
        left[alert_id] -= 1
        more = {"value": payload["value"]} if "value" in payload else {}
        if entry["what"] == "commented":
            more["comment"] = document["comments"][-1]["text"]
        transition = {name: value for name, value in entry.items() if name not in ("time", "what")}
        yield (
            alert_id,
            entry["seq"],
            {
                "type": event["kind"],
                "timestamp": entry["time"],
                "data": {
                    "alert_id": alert_id,
                    **transition,
                    **more,
                    **{name: document[name] for name in FACTS},
                    "raised_at": format_datetime(datetime.fromisoformat(document["raised_at"])),
                },
            },
        )
