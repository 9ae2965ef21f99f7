"""What changes channels, together with what has to happen with it."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone

from accounts.models import User
from events import log
from events.kinds import Kind
from iotflow.lib.errors import Conflict
from iotflow.lib.json import dumps
from iotflow.lib.timeparse import format_datetime
from telemetry.notifications import mail, signing
from telemetry.notifications.failure import Failed
from telemetry.notifications.models import Delivery, NotificationChannel

logger = logging.getLogger(__name__)
EMAIL, WEBHOOK = NotificationChannel.Kind.EMAIL, NotificationChannel.Kind.WEBHOOK
FORMER_SECONDS_MAX = 7 * 86_400


@transaction.atomic
def create_channel(
    *, owner: User, fields: Mapping[str, Any], actor: str
) -> tuple[NotificationChannel, str | None]:
    """A new channel, and the secret of a webhook, which is shown now and never again.

    An e-mail address is asked to confirm. Conflict at NOTIFICATION_CHANNELS_MAX of them.
    """
    get_object_or_404(User.objects.select_for_update(no_key=True), pk=owner.pk)
    most = settings.NOTIFICATION_CHANNELS_MAX
    if NotificationChannel.objects.filter(owner=owner).count() >= most:
        raise Conflict(f"There are {most} channels already.")
    channel = NotificationChannel(owner=owner, **fields)
    secret = signing.new_secret() if channel.kind == WEBHOOK else None
    channel.sealed_secret = signing.seal(secret) if secret else ""
    channel.save()
    _record(Kind.NOTIFICATION_CHANNEL_CREATED, channel, "created", actor, target=channel.target)
    _ask_to_confirm(channel)
    return channel, signing.written(secret) if secret else None


@transaction.atomic
def change_channel(
    *, channel: NotificationChannel, fields: Mapping[str, Any], actor: str
) -> NotificationChannel:
    """Change the fields given; another e-mail address is asked to confirm.

    Http404 when the channel is gone.
    """
    _lock(channel)
    before = channel.target
    changed = {
        name: [getattr(channel, name), value]
        for name, value in fields.items()
        if getattr(channel, name) != value
    }
    if not changed:
        return channel
    for name in changed:
        setattr(channel, name, fields[name])
    if "address" in changed:
        changed["address"] = [before, channel.target]
        channel.confirmed_at = None
        _ask_to_confirm(channel)
    if changed.keys() & {"address", "enabled"}:
        channel.failures, channel.failing_since = 0, None
        _try_now(channel)
    channel.save()
    said = f"changed: {', '.join(changed)}"
    _record(Kind.NOTIFICATION_CHANNEL_CHANGED, channel, said, actor, changes=changed)
    return channel


@transaction.atomic
def delete_channel(*, channel: NotificationChannel, actor: str) -> None:
    """Delete it, with what waits and the log. Http404 when it is gone."""
    _lock(channel)
    _record(Kind.NOTIFICATION_CHANNEL_DELETED, channel, "deleted", actor)
    channel.delete()


@transaction.atomic
def rotate_secret(*, channel: NotificationChannel, former_seconds: int, actor: str) -> str:
    """A new secret of a webhook, shown now and never again; the former one signs besides for so
    long. Conflict for e-mail.
    """
    _lock(channel)
    if channel.kind != WEBHOOK:
        raise Conflict("E-mail is not signed; this channel has no secret.")
    secret = signing.new_secret()
    channel.sealed_former = channel.sealed_secret if former_seconds else ""
    channel.former_until = timezone.now() + timedelta(seconds=former_seconds)
    channel.sealed_secret = signing.seal(secret)
    _try_now(channel)
    channel.save()
    _record(Kind.NOTIFICATION_CHANNEL_SECRET_ROTATED, channel, "has a new secret", actor)
    return signing.written(secret)


@transaction.atomic
def confirm(*, channel: NotificationChannel, code: str, actor: str) -> NotificationChannel:
    """Whoever reads the address agrees. Conflict where the code is not that of the address."""
    _lock(channel)
    if channel.kind != EMAIL or not mail.is_code(channel, code):
        raise Conflict("This is not the code.", {"code": "It was sent to the address."})
    if channel.confirmed_at is None:
        channel.confirmed_at = timezone.now()
        channel.save()
        _record(Kind.NOTIFICATION_CHANNEL_CONFIRMED, channel, "confirmed", actor)
    return channel


@transaction.atomic
def test_channel(*, channel: NotificationChannel) -> Delivery | None:
    """Have a test sent, whatever failed before; an address that is not confirmed is asked again,
    and there is none. Conflict where the channel is off.
    """
    _lock(channel)
    if not channel.enabled:
        raise Conflict("This channel is switched off.")
    if channel.state == channel.State.UNCONFIRMED:
        _ask_to_confirm(channel)
        return None
    body = {
        "type": "test",
        "timestamp": format_datetime(timezone.now()),
        "data": {"message": f"A test of {channel.name}"},
    }
    _try_now(channel)
    return Delivery.objects.create(channel=channel, body=dumps(body).decode())


@transaction.atomic
def replay(*, delivery: Delivery, actor: str) -> Delivery:
    """Send it again, under the same id. Conflict while it waits anyway."""
    channel = delivery.channel
    _lock(channel)
    again = Delivery.objects.filter(pk=delivery.pk).exclude(status=Delivery.Status.WAITING)
    now = timezone.now()
    waiting = Delivery.Status.WAITING
    if not again.update(status=waiting, attempts=0, next_try=now, queued_at=now, delivered_at=None):
        raise Conflict("It is waiting to be sent.")
    _try_now(channel)
    said = "sends a notification again"
    _record(Kind.NOTIFICATION_REPLAYED, channel, said, actor, delivery_id=str(delivery.pk))
    delivery.refresh_from_db()
    return delivery


def _try_now(channel: NotificationChannel) -> None:
    """It is locked, and so is all that waits, whatever was refused before."""
    channel.next_try = timezone.now()
    channel.save(update_fields=["next_try"])
    channel.deliveries.waiting().update(next_try=channel.next_try)


def _ask_to_confirm(channel: NotificationChannel) -> None:
    """After the commit; one that was not sent can be asked for again."""

    def ask() -> None:
        try:
            mail.ask_to_confirm(channel)
        except Failed as failure:
            logger.warning("channel %s was not asked to confirm: %s", channel.pk, failure)

    if channel.kind == EMAIL:
        transaction.on_commit(ask, robust=True)


def _lock(channel: NotificationChannel) -> None:
    """Read it anew, locked. Http404 when it is gone."""
    locked = NotificationChannel.objects.select_for_update(no_key=True)
    try:
        channel.refresh_from_db(from_queryset=locked)
    except NotificationChannel.DoesNotExist as error:
        raise Http404 from error


def _record(
    kind: Kind, channel: NotificationChannel, what: str, actor: str, **payload: Any
) -> None:
    log.record(
        kind,
        f"Notification channel {channel.name} {what}",
        actor=actor,
        user_id=channel.owner_id,
        payload={"channel_id": channel.pk, **payload},
    )
