"""One transaction's way from values to alerts, whether of readings, rollups or silence.

The rules are locked before it is read how they stand, and whoever changes a rule locks it too: so
what is decided is decided by the rule that is there, and of two processes one after the other.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.db.models import QuerySet

from devices.models import Device
from telemetry.alerting import alerts
from telemetry.alerting.machine import Change, Phase, Rule, Seen, Silence, Stand, step
from telemetry.alerting.models import AlertRule, AlertState, LiveAlert

Pair = tuple[int, int]  # a rule's id and a device's


class Walk:
    """`rules` are locked when it is made, inside a transaction; `save` ends it."""

    def __init__(self, rules: QuerySet[AlertRule], devices: Iterable[Device]) -> None:
        self._rules = {rule.pk: rule for rule in rules}
        self._conditions = {pk: rule.condition() for pk, rule in self._rules.items()}
        self._devices = {device.pk: device for device in devices}
        self._stands: dict[Pair, Stand] = {}

    def knows(self, rule: Rule, device_id: int) -> bool:
        """Whether the rule is still this one, and its owner's device there."""
        current, device = self._conditions.get(rule.id), self._devices.get(device_id)
        if current is None or device is None:
            return False
        return current.version == rule.version and current.owner_id == device.owner_id

    def begin(self, pairs: Collection[Pair]) -> None:
        """Read how these rules stand with these devices, all of them known."""
        of_these = {
            "rule__in": {rule_id for rule_id, _ in pairs},
            "device_id__in": {device_id for _, device_id in pairs},
        }
        states = AlertState.objects.filter(**of_these)
        known = {(state.rule_id, state.device_id): state.stand for state in states}
        self._stands = {pair: known.get(pair, Stand()) for pair in pairs}
        self._changes = alerts.Changes(LiveAlert.objects.filter(**of_these))

    @property
    def pairs(self) -> list[Pair]:
        return list(self._stands)

    def stand(self, pair: Pair) -> Stand:
        return self._stands[pair]

    def take(self, pair: Pair, values: Iterable[Seen]) -> None:
        """What is not newer than the one before is late."""
        condition = self._conditions[pair[0]]
        for seen in values:
            compared = seen.verdict.score if seen.verdict else seen.value
            self._stands[pair], change = step(condition, self._stands[pair], seen.time, compared)
            self._note(pair, change, seen)

    def learn(self, pair: Pair, usual: Mapping[str, Any]) -> None:
        """What the rule takes for usual from now on."""
        self._stands[pair] = self._stands[pair]._replace(usual=usual)

    def turn(self, pair: Pair, change: Change, time: int) -> None:
        """Raise or clear without a value."""
        phase = Phase.RAISED if change == Change.RAISED else Phase.NORMAL
        self._stands[pair] = Stand(phase, time=time)
        self._note(pair, change, Silence(time))

    def reach(self, pair: Pair, time: int) -> None:
        """What is of then or before is late from now on."""
        self._stands[pair] = self._stands[pair]._replace(time=time)

    def save(self) -> None:
        AlertState.objects.bulk_create(
            [AlertState.of(*pair, stand) for pair, stand in self._stands.items()],
            update_conflicts=True,
            unique_fields=["rule", "device_id"],
            update_fields=["phase", "since", "last_ms", "last_value", "changes", "usual"],
        )
        self._changes.save()

    def _note(self, pair: Pair, change: Change | None, seen: Seen | Silence) -> None:
        rule_id, device_id = pair
        if change == Change.RAISED:
            self._changes.raise_(self._rules[rule_id], self._devices[device_id], seen)
        elif change == Change.CLEARED:
            self._changes.clear(pair, seen)
