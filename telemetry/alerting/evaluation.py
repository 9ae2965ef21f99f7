"""What PostgreSQL decides: how each rule stands with each device, and what becomes of alerts.

Called right after the store took a group of readings. While PostgreSQL is away what is to be
decided waits in the process, KEPT_MAX checks of it, and no submission is refused for that.
"""

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from django.db import IntegrityError, transaction

from devices.models import Device
from iotflow.lib.errors import StoreAway, as_store_away
from iotflow.lib.metrics import Counter, Figure
from iotflow.lib.redis import redis
from telemetry.alerting import alerts, sieve
from telemetry.alerting.machine import Change, Phase, step
from telemetry.alerting.models import AlertRule, AlertState, LiveAlert
from telemetry.alerting.sieve import Decided, Due
from telemetry.stores import telemetry_store

logger = logging.getLogger(__name__)
KEPT_MAX = 50_000
PART = 500
Pair = tuple[int, int]  # a rule's id and a device's
CHECKED = Counter(
    "iotflow_alert_checks_total", "Values that PostgreSQL had to look at for rules.", ("outcome",)
)


class Waiting(NamedTuple):
    """A check, with the number of the group it came in: groups are decided one after the other."""

    group: int
    due: Due

    @property
    def pair(self) -> Pair:
        return self.due.check.rule.id, self.due.check.reading.device_id


class Evaluation:
    """Decides one part after the other, in the order in which groups came."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._adding = threading.Lock()
        self._deciding = threading.Lock()
        self._groups = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def decide(self, due: Sequence[Due] = ()) -> None:
        """Decide these checks, and those that wait; what PostgreSQL cannot take now waits on.

        Never fails: the readings are stored and answered.
        """
        if due:
            self._add(due)
        if self._waiting:
            with self._deciding:
                while self._waiting and self._decide_part():
                    pass

    def _add(self, due: Sequence[Due]) -> None:
        with self._adding:
            self._groups += 1
            room = max(0, KEPT_MAX - len(self._waiting))
            self._waiting.extend(Waiting(self._groups, one) for one in due[:room])
        if len(due) > room:
            CHECKED.add("dropped", times=len(due) - room)

    def _decide_part(self) -> bool:
        """Whether it was decided; what cannot be, for a reason of its own, is dropped."""
        with self._adding:
            part = list(islice(self._waiting, PART))
        try:
            decided = _decided(part)
        except Exception as error:
            if as_store_away(error) is not None:
                return False
            logger.exception("%d value(s) were not compared with the rules of alerts", len(part))
            CHECKED.add("failed", times=len(part))
            decided = _freed(part)
        else:
            CHECKED.add("decided", times=len(part))
        for _ in part:
            self._waiting.popleft()
        try:
            if decided:
                with redis() as client:
                    sieve.settle(client, decided)
        except StoreAway:
            pass  # it goes on to take these for undecided, and PostgreSQL is asked
        return True


evaluation = Evaluation()
decide = evaluation.decide
Figure(
    "iotflow_alert_checks_waiting",
    "Values that wait for PostgreSQL to be compared with rules.",
    (),
    lambda: {(): len(evaluation)},
)


def _decided(part: Sequence[Waiting]) -> list[Decided]:
    newest = _newest_stored(part)
    try:
        return _transact(part, newest)
    except IntegrityError:  # a rule went, or two processes made the same row: it is seen now
        return _transact(part, newest)


def _newest_stored(part: Sequence[Waiting]) -> Mapping[Pair, int]:
    """By pair the newest time that the store has, of those checks of which nothing is known; only
    where that is newer than all of them. Raises StoreAway.
    """
    unknown = [one.due.check for one in part if not one.due.is_known]
    if not unknown:
        return {}
    places = {(check.reading.device_id, check.reading.latest_epoch) for check in unknown}
    latest = telemetry_store().latest(sorted(places))
    newest: dict[Pair, int] = {}
    for check in unknown:
        place = check.reading.device_id, check.reading.latest_epoch
        if value := latest[place].get(check.rule.measurement):
            newest[check.rule.id, check.reading.device_id] = value.time
    for one in part:  # what the store has newest may be one of these themselves
        if newest.get(one.pair) == one.due.check.reading.time:
            del newest[one.pair]
    return newest


@transaction.atomic
def _transact(part: Sequence[Waiting], newest: Mapping[Pair, int]) -> list[Decided]:
    pairs = {one.pair for one in part}
    rule_ids, device_ids = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    rules = {rule.pk: rule for rule in AlertRule.objects.filter(pk__in=rule_ids, enabled=True)}
    devices = {
        device.pk: device
        for device in Device.objects.filter(pk__in=device_ids).exclude(
            status=Device.Status.MAINTENANCE
        )
    }
    by_pair: dict[Pair, list[Waiting]] = {}
    left: list[Waiting] = []
    for one in sorted(part, key=lambda one: (one.group, one.due.check.reading.time)):
        rule, device = rules.get(one.pair[0]), devices.get(one.pair[1])
        is_same = rule is not None and rule.version == one.due.check.rule.version
        if is_same and device is not None:
            by_pair.setdefault(one.pair, []).append(one)
        else:
            left.append(one)
    if not by_pair:
        return _freed(left)
    states = _locked(by_pair)
    changes = alerts.Changes(LiveAlert.objects.filter(rule__in=rules, device_id__in=devices))
    decided = _freed(left)
    for pair, waiting in sorted(by_pair.items()):
        state, rule, device = states[pair], rules[pair[0]], devices[pair[1]]
        for one in waiting:
            check = one.due.check
            if not one.due.is_known and check.reading.time < newest.get(pair, 0):
                continue
            state.stand, change = step(check.rule, state.stand, check.reading.time, check.value)
            if change == Change.RAISED:
                changes.raise_(rule, device, check.reading.time, check.value)
            elif change == Change.CLEARED:
                changes.clear(pair, check.reading.time, check.value)
        noted = sum(one.due.is_noted for one in waiting)
        if noted:
            condition = waiting[0].due.check.rule
            decided.append(Decided(condition, pair[1], noted, state.last_ms or 0, state.phase))
    AlertState.objects.bulk_update(
        [states[pair] for pair in by_pair], ["phase", "since", "last_ms", "last_value"]
    )
    changes.save()
    return decided


def _freed(part: Sequence[Waiting]) -> list[Decided]:
    """That Redis need not wait for these, of which nothing was decided."""
    return [
        Decided(one.due.check.rule, one.pair[1], 1, 0, Phase.NORMAL)
        for one in part
        if one.due.is_noted
    ]


def _locked(pairs: Mapping[Pair, object]) -> dict[Pair, AlertState]:
    """The states of these pairs, made where there are none, locked in one order."""
    found = AlertState.objects.filter(
        rule__in={pair[0] for pair in pairs}, device_id__in={pair[1] for pair in pairs}
    )
    there = set(found.values_list("rule_id", "device_id"))
    AlertState.objects.bulk_create(
        [AlertState(rule_id=r, device_id=d) for r, d in sorted(pairs) if (r, d) not in there],
        ignore_conflicts=True,
    )
    locked = found.select_for_update().order_by("rule_id", "device_id")
    return {(state.rule_id, state.device_id): state for state in locked}
