"""What PostgreSQL decides: how each rule stands with each device, and what becomes of alerts.

Called once the store has a group of readings, before it is answered. While PostgreSQL is away what
is to be decided waits in the process, KEPT_MAX checks of it, and no submission is refused for that.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from django.db import transaction

from devices.models import Device
from iotflow.lib.errors import StoreAway, as_store_away
from iotflow.lib.metrics import Counter, Figure
from iotflow.lib.redis import redis
from iotflow.lib.timeparse import EARLIEST
from telemetry.alerting import sieve
from telemetry.alerting.machine import Phase, Seen
from telemetry.alerting.models import AlertRule
from telemetry.alerting.sieve import Decided, Due
from telemetry.alerting.walk import Pair, Walk
from telemetry.readings import LatestValue, Place, Reading
from telemetry.stores import telemetry_store

logger = logging.getLogger(__name__)
KEPT_MAX = 50_000
PART = 500
LOOKED_MAX = 5_000
CHECKED = Counter(
    "iotflow_alert_checks_total", "Values that PostgreSQL had to look at for rules.", ("outcome",)
)


class Waiting(NamedTuple):
    """A check, and when (µs) the first reading of its device was written that came with it."""

    due: Due
    came: int

    @property
    def reading(self) -> Reading:
        return self.due.check.reading

    @property
    def pair(self) -> Pair:
        return self.due.check.rule.id, self.reading.device_id

    @property
    def place(self) -> Place:
        return self.reading.device_id, self.reading.latest_epoch


class Evaluation:
    """Decides one part after the other, in the order in which groups came."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._adding = threading.Lock()
        self._deciding = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def decide(self, due: Sequence[Due] = ()) -> None:
        """Decide these checks, and those that wait; what PostgreSQL cannot take now waits on.

        Never fails: the readings are stored.
        """
        if due:
            self._add(due)
        if self._waiting:
            with self._deciding:
                while self._waiting and self._decide_part():
                    pass

    def _add(self, due: Sequence[Due]) -> None:
        found = _in_order(due)
        with self._adding:
            room = max(0, KEPT_MAX - len(self._waiting))
            self._waiting.extend(found[:room])
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
            decided = list(_freed(part))
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


def _in_order(due: Sequence[Due]) -> list[Waiting]:
    """The checks of a group by their times."""
    came: dict[int, int] = {}
    for one in due:
        device_id, written = one.check.reading.device_id, one.check.reading.written
        came[device_id] = min(written, came.get(device_id, written))
    ordered = sorted(due, key=lambda one: one.check.reading.time)
    return [Waiting(one, came[one.check.reading.device_id]) for one in ordered]


def _decided(part: Sequence[Waiting]) -> list[Decided]:
    """Raises StoreAway, or what Django does where the database is."""
    timely: list[Waiting] = []
    late: list[Waiting] = []
    seen = _seen_before([one for one in part if not one.due.is_known])
    for one in part:
        is_late = not one.due.is_known and one.reading.time < seen[one.pair, one.came]
        (late if is_late else timely).append(one)
    return [*_transact(timely), *_freed(late)]


def _seen_before(unknown: Sequence[Waiting]) -> Mapping[tuple[Pair, int], int]:
    """Of what came together, by what the store has: the newest time that the rule has looked at
    before; asked where nothing else is known. EARLIEST where that is older than all of it.
    """
    groups: dict[tuple[Pair, int], list[Waiting]] = {}
    for one in unknown:
        groups.setdefault((one.pair, one.came), []).append(one)
    places = sorted({one.place for one in unknown})
    latest = telemetry_store().latest(places) if places else {}
    return {which: _newest_before(group, latest) for which, group in groups.items()}


def _newest_before(
    group: Sequence[Waiting], latest: Mapping[Place, Mapping[str, LatestValue]]
) -> int:
    first = group[0]
    rule, oldest = first.due.check.rule, min(one.reading.time for one in group)
    newest = latest[first.place].get(rule.measurement)
    if newest is None or newest.time <= oldest:
        return EARLIEST
    if newest.written < first.came:
        return newest.time if rule.takes(newest.time, newest.written // 1000) else EARLIEST
    own = {one.reading.time for one in group}
    if newest.time not in own:  # that came later
        return EARLIEST
    # The latest value is what has come now: the one before is found in the history alone.
    values = telemetry_store().values(
        first.reading.device_id, rule.measurement, oldest + 1, newest.time
    )
    others = (time for time, _ in islice(values, LOOKED_MAX) if time not in own)
    return max((time for time in others if not rule.is_muted(time)), default=EARLIEST)


@transaction.atomic
def _transact(part: Sequence[Waiting]) -> list[Decided]:
    pairs = {one.pair for one in part}
    rules = AlertRule.objects.locked().filter(pk__in={pair[0] for pair in pairs}, enabled=True)
    devices = Device.objects.filter(pk__in={pair[1] for pair in pairs})
    walk = Walk(rules, devices.exclude(status=Device.Status.MAINTENANCE))
    by_pair: dict[Pair, list[Waiting]] = {}
    left: list[Waiting] = []
    for one in part:
        if walk.knows(one.due.check.rule, one.reading.device_id):
            by_pair.setdefault(one.pair, []).append(one)
        else:
            left.append(one)
    walk.begin(by_pair)
    for pair, waiting in by_pair.items():
        walk.take(pair, [Seen(one.reading.time, one.due.check.value) for one in waiting])
    walk.save()
    return [*_settled(walk, by_pair), *_freed(left)]


def _settled(walk: Walk, by_pair: Mapping[Pair, Sequence[Waiting]]) -> Iterator[Decided]:
    for pair, waiting in by_pair.items():
        if noted := sum(one.due.is_noted for one in waiting):
            stand = walk.stand(pair)
            rule = waiting[0].due.check.rule
            yield Decided(rule, pair[1], noted, stand.time or 0, stand.phase)


def _freed(part: Sequence[Waiting]) -> Iterator[Decided]:
    """That Redis need not wait for these, of which nothing was decided."""
    for one in part:
        if one.due.is_noted:
            yield Decided(one.due.check.rule, one.pair[1], 1, 0, Phase.NORMAL)
