"""What there is to listen to, who listens, and what this process holds of it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from iotflow.lib.live.channels import Entry, Position

RING_MAX, RING_BYTES = 500, 1 << 18


class Permit(Protocol):
    """What somebody may read by which proof; hashable."""

    @classmethod
    def held(cls, permits: Collection[Any]) -> Collection[Any]:
        """Those that still hold: a few queries for any number of them. May raise StoreAway."""


class Reader(Protocol):
    """Who listens, and may as long as `permit` holds."""

    permit: Permit

    def end(self, reason: str) -> None:
        """It is over; to be called in the loop."""


class Chunks(Reader, Protocol):
    """A reader as an answer that goes on; `heartbeat` in seconds, between chunks at most."""

    heartbeat: float

    def close(self) -> None:
        """At its end, in any thread, whether or not it was begun."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Topic:
    """What there is to listen to: the name of its channel, and what it is about.

    `members` says what that is now, in a thread, where it may change.
    """

    name: str
    subjects: frozenset[int]
    members: Callable[[], frozenset[int]] | None = None


class Channel:
    """A channel as far as this process has read it; all of it belongs to the loop.

    Its newest entries are kept, RING_MAX of them and RING_BYTES at most, for all readers: each
    takes what comes after its own position. None has a queue: a slow one finds its place gone, and
    reads from Redis, or from the store, at its own pace.

    `position` is that of its last entry, None while Redis is away (since `away_since`); `changed`
    is set at the next change, and is another one from then on.
    """

    def __init__(self, topic: Topic) -> None:
        self.name = topic.name
        self.subjects = topic.subjects
        self.members = topic.members
        self.readers: set[Reader] = set()
        self.position: Position | None = None
        self.away_since = time.monotonic()
        self.changed = asyncio.Event()
        self._ring: deque[Entry] = deque()
        self._bytes = 0

    def after(self, position: Position, most: int) -> list[Entry]:
        """What is kept after a position; nothing where that is not all of it."""
        if not self._ring or self._ring[0].position.born != position.born:
            return []
        skip = position.number + 1 - self._ring[0].position.number
        return [] if skip < 0 else list(islice(self._ring, skip, skip + most))

    def add(self, entries: Iterable[Entry]) -> None:
        """They were read; those that it is past already are nothing new."""
        for entry in entries:
            if self.position is None or entry.position <= self.position:
                continue
            if not follows(entry.position, self.position):
                self._forget()
            self.position = entry.position
            self._ring.append(entry)
            self._bytes += len(entry.body)
            while len(self._ring) > RING_MAX or self._bytes > RING_BYTES:
                self._bytes -= len(self._ring.popleft().body)
        self.wake()

    def place(self, last: Position) -> None:
        """Redis says that this is its last entry; what is newer than ours will be read."""
        at = self.position
        if at is None or last.born != at.born or last.number < at.number:
            self.position = last
            self._forget()
            self.wake()

    def lose(self) -> None:
        """Redis is away."""
        if self.position is not None:
            self.position = None
            self.away_since = time.monotonic()
            self.wake()

    def wake(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _forget(self) -> None:
        self._ring.clear()
        self._bytes = 0


def follows(position: Position, before: Position) -> bool:
    """Whether nothing can be between the two."""
    return position.born == before.born and position.number == before.number + 1
