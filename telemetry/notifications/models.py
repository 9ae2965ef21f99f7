"""Channels, by which somebody is told of alerts, and what was or is to be sent through them."""

import uuid
from typing import ClassVar
from urllib.parse import urlsplit

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from events.kinds import Severity
from telemetry.notifications.querysets import Channels, Deliveries

ADDRESS_MAX = 2000
ANSWER_MAX = 200
DIGEST_SECONDS_MAX = 86_400


class NotificationChannel(models.Model):
    """Where its owner is told of alerts: an e-mail address or a webhook.

    The owner is referred to without a constraint of the database, as by rules of alerts.
    """

    class Kind(models.TextChoices):
        EMAIL = "email", "e-mail"
        WEBHOOK = "webhook"

    class State(models.TextChoices):
        """What `state` says."""

        OFF = "off"
        UNCONFIRMED = "unconfirmed"
        FAILING = "failing"
        WORKING = "working"

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="notification_channels",
        db_constraint=False,
    )
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=Kind)
    address = models.CharField(max_length=ADDRESS_MAX, help_text="An e-mail address, or a URL.")
    least_severity = models.CharField(max_length=10, choices=Severity, default=Severity.INFO)
    all_devices = models.BooleanField(
        default=False, help_text="Alerts of everybody's devices; for staff."
    )
    enabled = models.BooleanField(default=True)
    digest_seconds = models.PositiveIntegerField(
        default=300,
        validators=[MaxValueValidator(DIGEST_SECONDS_MAX)],
        help_text="Between two e-mails while there are many. 0: each by itself.",
    )
    confirmed_at = models.DateTimeField("confirmed", null=True, editable=False)
    # Of a webhook: what signs, and until when what did before does too; both are sealed (signing).
    sealed_secret = models.CharField(max_length=255, default="", editable=False)
    sealed_former = models.CharField(max_length=255, default="", editable=False)
    former_until = models.DateTimeField(null=True, editable=False)
    # How sending goes: one after the other failed, since when, when to try again, and who is at it.
    failures = models.PositiveIntegerField(default=0, editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    next_try = models.DateTimeField(default=timezone.now, editable=False)
    leased_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField("created", auto_now_add=True)
    updated_at = models.DateTimeField("changed", auto_now=True)

    objects: ClassVar[Channels] = Channels.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name

    @property
    def target(self) -> str:
        """Where it leads, for events and lists: of a URL no more than the host."""
        if self.kind == self.Kind.EMAIL:
            return self.address
        url = urlsplit(self.address)
        return f"{url.scheme}://{url.netloc}"

    @property
    def state(self) -> State:
        if not self.enabled:
            return self.State.OFF
        if self.kind == self.Kind.EMAIL and self.confirmed_at is None:
            return self.State.UNCONFIRMED
        return self.State.FAILING if self.failures else self.State.WORKING


class Delivery(models.Model):
    """One transition of an alert on its way to a channel; or a test, which is of no alert.

    Its id is the same whenever it is sent. Of one alert nothing is sent while what came before, by
    `seq`, still waits. The channel is referred to without a constraint: one that is deleted while
    an alert is raised is no reason to raise none.
    """

    class Status(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        GIVEN_UP = "given_up", "given up"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.ForeignKey(
        NotificationChannel,
        on_delete=models.CASCADE,
        related_name="deliveries",
        db_constraint=False,
    )
    alert_id = models.UUIDField(null=True)
    seq = models.PositiveIntegerField(default=0)
    body = models.TextField()
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    next_try = models.DateTimeField(default=timezone.now)
    answer = models.CharField(max_length=ANSWER_MAX, default="")
    created_at = models.DateTimeField("created", default=timezone.now)
    # Since when it waits: another time than `created_at` where it was replayed.
    queued_at = models.DateTimeField(default=timezone.now)
    delivered_at = models.DateTimeField("delivered", null=True)

    objects: ClassVar[Deliveries] = Deliveries.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "alert_id", "seq"], name="delivery_of_transition"
            )
        ]
        indexes = [
            models.Index(fields=["channel", "-created_at"], name="delivery_log"),
            models.Index(
                fields=["channel", "next_try"],
                name="delivery_waiting",
                condition=Q(status="waiting"),
            ),
            models.Index(fields=["channel", "delivered_at"], name="delivery_delivered"),
            models.Index(fields=["created_at"], name="delivery_age"),
        ]

    def __str__(self) -> str:
        return f"{self.pk}"
