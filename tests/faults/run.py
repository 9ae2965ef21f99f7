"""Every case in turn: a steady load, the faults, their end, and what is there after."""

import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import count

from tests.bench import ground, population
from tests.bench.failure import Failure
from tests.faults import cases, report, web
from tests.faults.cases import Case
from tests.faults.ledger import Attempt, Entry, Ledger
from tests.faults.load import Load
from tests.faults.web import Stores, Web

DEVICES = 20
BEFORE_SECONDS, FAULT_SECONDS, AFTER_SECONDS = 2.0, 6.0, 3.0
QUICK_SECONDS = 4.0
WARM_SECONDS = 8.0
BETWEEN_SECONDS = 0.5  # two faults of a case
STEADY_SECONDS = 2.0  # at the end of a case, by which it has to have recovered
RECOVERY_SECONDS = 30.0
# INGEST_WAIT_MS, and as much again for a machine that does all of this at once.
REFUSAL_SECONDS, LATE_SHARE, LATEST_SECONDS = 3.0, 0.1, 12.0
_owners = count(1)


@dataclass
class Result:
    """What came of a case."""

    name: str
    submitted: int = 0
    acknowledged: int = 0
    refused: int = 0
    unanswered: int = 0
    actions: int = 0
    actions_acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    latest_wrong: int = 0
    events_lost: int = 0
    events_doubled: int = 0
    refusal_p99: float = 0.0
    refusal_max: float = 0.0
    recovery: float = 0.0
    complaints: list[str] = field(default_factory=list)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Owner:
    """Who owns the devices of a case."""

    def __init__(self) -> None:
        from accounts.models import Token, User

        name = f"owner{next(_owners)}"
        user = User.objects.create_user(name, f"{name}@example.org")
        self.id: int = user.pk
        self.token: str = Token.objects.create(user)[1]
        self.devices = population.devices(user.pk, name, DEVICES)


def run_case(case: Case, server: Web, stores: Stores, seconds: float) -> Result:
    from iotflow.lib.timeparse import now_ms
    from tests.faults import settle

    owner, begun_ms = settle.patiently(Owner), now_ms()
    load = Load(server.url, owner.token, owner.devices)
    load.start()
    time.sleep(BEFORE_SECONDS)
    undone = []
    try:
        for fault in case.faults:
            undone.append(cases.begin(*fault, server, stores))
            time.sleep(BETWEEN_SECONDS)
        time.sleep(seconds)
    finally:
        for undo in reversed(undone):
            undo()
    ended = time.monotonic()
    recovery = _wait_for_recovery(load.ledger, ended)
    time.sleep(AFTER_SECONDS)
    stopped = time.monotonic()
    ledger = load.stop()
    found = settle.settle(ledger, owner.devices, owner.id, begun_ms, server.url)
    result = _summary(case, ledger, recovery)
    for name in ("lost", "doubled", "latest_wrong", "events_lost", "events_doubled"):
        setattr(result, name, getattr(found, name))
    result.complaints += found.examples + load.errors[:3]
    result.complaints += complaints(case, ledger, stopped)
    return result


def _warm_up(server: Web) -> None:
    """Each process of the server opens its connections when they are first needed."""
    owner = Owner()
    load = Load(server.url, owner.token, owner.devices)
    load.start()
    time.sleep(WARM_SECONDS)
    load.stop()


def _wait_for_recovery(ledger: Ledger, ended: float) -> float:
    """Seconds until a submission that began after the end was acknowledged."""
    while time.monotonic() < ended + RECOVERY_SECONDS:
        good = [a.begun + a.seconds for a in _since(ledger.submissions(), ended) if a.is_good]
        if good:
            return min(good) - ended
        time.sleep(0.05)
    return RECOVERY_SECONDS


def _since(entries: list[Entry], moment: float) -> list[Attempt]:
    return [a for entry in entries for a in list(entry.attempts) if a.begun >= moment]


def _summary(case: Case, ledger: Ledger, recovery: float) -> Result:
    submissions, actions = ledger.submissions(), ledger.actions()
    attempts = ledger.attempts(submissions)
    refusals = sorted(a.seconds for a in ledger.attempts() if a.is_refused)
    return Result(
        case.name,
        submitted=len(submissions),
        acknowledged=sum(entry.is_acknowledged for entry in submissions),
        refused=sum(attempt.is_refused for attempt in attempts),
        unanswered=sum(attempt.status == 0 for attempt in ledger.attempts()),
        actions=len(actions),
        actions_acknowledged=sum(entry.is_acknowledged for entry in actions),
        refusal_p99=round(refusals[int(0.99 * len(refusals))], 2) if refusals else 0.0,
        refusal_max=round(refusals[-1], 2) if refusals else 0.0,
        recovery=round(recovery, 2),
    )


def complaints(case: Case, ledger: Ledger, stopped: float) -> list[str]:
    """What should not have been answered so, or not after so long."""
    found = []
    attempts = ledger.attempts()
    if not case.touches_web and (lost := [a for a in attempts if a.status == 0]):
        found.append(f"{len(lost)} without any answer: {lost[:3]}")
    if wrong := [a for a in attempts if a.status and not a.is_good and not a.is_refused]:
        found.append(f"{len(wrong)} neither good nor refused as promised: {wrong[:3]}")
    if not case.touches_web:
        late = [a for a in attempts if a.is_refused and a.seconds > REFUSAL_SECONDS]
        if len(late) > LATE_SHARE * len(attempts) or any(a.seconds > LATEST_SECONDS for a in late):
            found.append(f"{len(late)} refused late: {late[:3]}")
    steady = [a for a in attempts if stopped - STEADY_SECONDS <= a.begun < stopped]
    bad = [a for a in steady if not a.is_good]
    if 2 * len(bad) >= len(steady):  # a busy machine may refuse one now and then
        found.append(f"not recovered: {bad[:3] or 'nothing came through'}")
    if late_entries := [e for e in ledger.submissions() if _is_given_up(e)]:
        found.append(f"{len(late_entries)} repeated in vain: {late_entries[:1]}")
    return found


def _is_given_up(entry: Entry) -> bool:
    return entry.what in ("timed", "keyed") and not entry.is_acknowledged


def run(quick: bool, only: str) -> None:
    chosen = cases.QUICK if quick else [*cases.SINGLE, *cases.PAIRS]
    chosen = [case for case in chosen if only.lower() in case.name.lower()]
    seconds = QUICK_SECONDS if quick else FAULT_SECONDS
    results = []
    with ground.made() as variables, web.running(variables) as (server, stores):
        _warm_up(server)
        for case in chosen:
            result = run_case(case, server, stores, seconds)
            results.append(result)
            say(report.line(result))
            for complaint in result.complaints:
                say(f"    {complaint}")
    found = {"quick": quick, **report.facts(), "cases": [asdict(result) for result in results]}
    say(f"Written to {report.keep('cases', found, is_whole=not quick and not only)}")
    bad = [result.name for result in results if result.complaints]
    if bad or not results:
        raise Failure(f"{len(bad)} of {len(results)} cases failed: {'; '.join(bad)}")
