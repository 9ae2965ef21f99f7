"""What is sent by e-mail: a transition, a digest of many, or the code that confirms an address."""

import json
from collections.abc import Sequence
from email.utils import parseaddr
from smtplib import SMTPException
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.utils.crypto import constant_time_compare, salted_hmac

from telemetry.notifications.failure import Failed
from telemetry.notifications.models import Delivery, NotificationChannel

SHOWN = 50  # of a digest's transitions
SUBJECT_MAX = 150
CODE = 10  # hexadecimal digits
NAMES = ("device_name", "rule_name", "severity", "value", "actor", "reason", "assignee", "comment")


def send(address: str, deliveries: Sequence[Delivery]) -> str:
    """Send these, in one e-mail; how that went. Raises Failed.

    It has the same Message-ID when the same is sent again.
    """
    bodies = [json.loads(delivery.body) for delivery in deliveries[:SHOWN]]
    if len(deliveries) == 1:
        subject, text = _line(bodies[0]), _told(bodies[0])
    else:
        subject = f"{len(deliveries):,} changes of alerts"
        text = "\n".join(f"{body['timestamp']}  {_line(body)}" for body in bodies)
        if len(deliveries) > SHOWN:
            text += f"\n… and {len(deliveries) - SHOWN:,} more."
    return _send(address, subject, text, f"{deliveries[0].pk}-{len(deliveries)}")


def ask_to_confirm(channel: NotificationChannel) -> None:
    """Send the code by which its reader agrees to be told of alerts. Raises Failed.

    Nothing of it is chosen by whoever made the channel.
    """
    text = (
        "Somebody wants IoTFlow to tell you of alerts at this address. If you know of it, give them"
        f" this code:\n\n    {code(channel)}\n\nIf not, do nothing: no more will be sent.\n"
    )
    _send(channel.address, "Do you want to be told of alerts?", text)


def code(channel: NotificationChannel) -> str:
    """Of this channel and its address; another address has another one."""
    about = f"{channel.pk}:{channel.address}"
    return salted_hmac(__name__, about, algorithm="sha256").hexdigest()[:CODE]


def is_code(channel: NotificationChannel, said: str) -> bool:
    return constant_time_compare(said.strip().lower(), code(channel))


def _send(address: str, subject: str, text: str, message_id: str = "") -> str:
    headers = {"Auto-Submitted": "auto-generated"}
    if message_id:
        domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
        headers["Message-ID"] = f"<{message_id}@{domain}>"
    plain = " ".join(subject.split())[:SUBJECT_MAX]  # names may have line ends
    try:
        EmailMessage(f"[IoTFlow] {plain}", text, None, [address], headers=headers).send()
    except (SMTPException, OSError) as error:
        raise Failed("The e-mail server did not take it.") from error
    return "sent"


def _line(body: dict[str, Any]) -> str:
    what = body["type"].rpartition(".")[2]
    return f"{what}: {body['data']['message']}"


def _told(body: dict[str, Any]) -> str:
    data = body["data"]
    facts = [f"{name.replace('_', ' ')}: {data[name]}" for name in NAMES if name in data]
    return "\n".join([data["message"], "", f"time: {body['timestamp']}", *facts, ""])
