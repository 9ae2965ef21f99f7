"""What was asked for, what was answered, and when."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

REFUSALS = (429, 503)


class Attempt(NamedTuple):
    """One request: when it began (of time.monotonic), how long it took; status 0 for no answer."""

    what: str
    begun: float
    seconds: float
    status: int
    retry_after: str | None

    @property
    def is_refused(self) -> bool:
        return self.status in REFUSALS and bool(self.retry_after)

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


@dataclass
class Entry:
    """A submission, a new configuration or a registration, and every attempt at it.

    `number` is the value of the measurement `n`, or in the configuration; `result` the time that
    the reading was stored under, the version, or the id of the new device.
    """

    what: str  # "timed", "keyed", "plain"; "configured", "registered"
    number: int
    device_id: int
    time: int | None = None
    result: int | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def is_acknowledged(self) -> bool:
        return self.result is not None

    @property
    def is_submission(self) -> bool:
        return self.what in ("timed", "keyed", "plain")


class Ledger:
    """The entries of one case."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> Entry:
        self.entries.append(entry)
        return entry

    def submissions(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.is_submission]

    def actions(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.is_submission]

    def attempts(self, entries: Iterable[Entry] | None = None) -> list[Attempt]:
        found = self.entries if entries is None else entries
        return [attempt for entry in found for attempt in entry.attempts]
