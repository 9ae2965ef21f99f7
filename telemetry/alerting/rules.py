"""What changes rules, together with what has to happen with it."""

from collections.abc import Mapping
from functools import partial
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
from telemetry.alerting import alerts, book
from telemetry.alerting.models import HARMLESS, AlertRule, AlertState, LiveAlert
from telemetry.alerting.numbers import faults


@transaction.atomic
def create_rule(*, owner: User, fields: Mapping[str, Any], actor: str) -> AlertRule:
    """A new rule of `owner`, whose devices it is about. Conflict at ALERT_RULES_MAX of them."""
    get_object_or_404(User.objects.select_for_update(no_key=True), pk=owner.pk)
    if AlertRule.objects.filter(owner=owner).count() >= settings.ALERT_RULES_MAX:
        raise Conflict(f"There are {settings.ALERT_RULES_MAX} rules already.")
    rule = AlertRule.objects.create(owner=owner, **fields)
    _record(
        Kind.ALERT_RULE_CREATED,
        rule,
        "created",
        actor,
        kind=rule.kind,
        measurement=rule.measurement,
    )
    transaction.on_commit(book.rules.reload)
    return rule


@transaction.atomic
def change_rule(*, rule: AlertRule, fields: Mapping[str, Any], actor: str) -> AlertRule:
    """Change the fields given. Http404 when the rule is gone, Conflict when it has become another
    one since the fields were checked.

    But for its name, severity and mute it is another rule then: it begins anew with every device,
    and alerts that it has open are resolved.
    """
    _lock(rule)
    changed = {
        name: [_plain(getattr(rule, name)), _plain(value)]
        for name, value in fields.items()
        if getattr(rule, name) != value
    }
    if not changed:
        return rule
    for name in changed:
        setattr(rule, name, fields[name])
    if faults(rule.kind, partial(getattr, rule)):
        raise Conflict("This rule was changed meanwhile; look at it again.")
    rule.begun_at = rule.begun  # one of the version before has none
    if not changed.keys() <= HARMLESS:
        rule.version += 1
        rule.begun_at = timezone.now()
        _begin_anew(rule, "its rule was changed")
    rule.save(update_fields=[*changed, "version", "begun_at", "updated_at"])
    _record(Kind.ALERT_RULE_CHANGED, rule, f"changed: {', '.join(changed)}", actor, changes=changed)
    transaction.on_commit(book.rules.reload)
    return rule


@transaction.atomic
def delete_rule(*, rule: AlertRule, actor: str) -> None:
    """Delete the rule; alerts that it has open are resolved. Http404 when it is gone."""
    _lock(rule)
    forget(rule, actor)
    rule.delete()
    transaction.on_commit(book.rules.reload)


def forget(rule: AlertRule, actor: str) -> None:
    """What follows from the deletion of a rule, before it and in its transaction."""
    list(AlertRule.objects.locked().filter(pk=rule.pk))
    _begin_anew(rule, "its rule was deleted")
    _record(Kind.ALERT_RULE_DELETED, rule, "deleted", actor)


def _begin_anew(rule: AlertRule, reason: str) -> None:
    """The rule is locked."""
    alerts.resolve_all(LiveAlert.objects.filter(rule=rule), reason)
    AlertState.objects.filter(rule=rule).delete()


def _lock(rule: AlertRule) -> None:
    """Read it anew, locked. Http404 when it is gone."""
    try:
        rule.refresh_from_db(from_queryset=AlertRule.objects.locked())
    except AlertRule.DoesNotExist as error:
        raise Http404 from error


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _record(event: Kind, rule: AlertRule, what: str, actor: str, **payload: Any) -> None:
    log.record(
        event,
        f"Alert rule {rule.name} {what}",
        actor=actor,
        user_id=rule.owner_id,
        device_id=rule.device_id,
        payload={"rule_id": rule.pk, **payload},
    )
