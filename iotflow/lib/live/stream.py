"""One listener, as Server-Sent Events: from where it was to now, and then what comes.

A place is `<born>-<number>.<time>`: the last entry of the channel that was sent, and the newest
time among all that was. While the channel still has what follows that entry, nothing is missing and
nothing comes twice. Where it has not, what is newer than all that was sent comes from the store, so
nothing comes twice; readings that came late meanwhile are missed, and the stream says so (`event:
gap`). A place without an entry is a time alone.

Going over from the store to the channel: the channel's last entry is noted first, the store is read
to its end after. What is in the channel up to that entry was stored before, so it was read. What
comes after it may have been read too: what was, is known for LATE_SECONDS by time and content. That
ends with the connection, so meanwhile a place is a time alone.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import Protocol

from iotflow.lib import json
from iotflow.lib.errors import StoreAway
from iotflow.lib.live import channels
from iotflow.lib.live.channels import Entry, Position
from iotflow.lib.live.hub import Hub
from iotflow.lib.live.listener import AWAY_SECONDS, RETRY_MS, Listener
from iotflow.lib.live.topics import Channel, Permit, Topic, follows
from iotflow.lib.metrics import Counter
from iotflow.lib.timeparse import EARLIEST, LATEST, format_ms

PLACE = re.compile(r"(?:(\d{1,17})-(\d{1,15})\.)?(-?\d{1,15})", re.ASCII)
AT_ONCE = 100
SENT_MAX = 5000
# So long after it was stored a reading may still come by the channel: a batch is told at its end.
LATE_SECONDS = 10.0
# So long the store is not asked when Redis is away: it may be back at once, with all that it had.
PATIENCE_SECONDS = 5.0
HEARTBEAT = b": heartbeat\n"
AWAY = b": a store is away\n\n"
BREAKS = Counter(
    "iotflow_stream_breaks_total",
    "Times a live stream had to go on from the store, or to say that it cannot.",
)
Row = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Place:
    """How far a listener has come: `time` is the newest that it was sent, in ms."""

    position: Position | None
    time: int

    def __str__(self) -> str:
        return f"{self.position}.{self.time}" if self.position else str(self.time)


def parse_place(text: str) -> Place | None:
    """The place that an id names; None where it is none."""
    found = PLACE.fullmatch(text)
    if found is None or not EARLIEST <= int(found[3]) < LATEST:
        return None
    position = Position(int(found[1]), int(found[2])) if found[1] else None
    return Place(position, int(found[3]))


class Source(Protocol):
    """Where what is gone from the channel still is."""

    def page(self, after: int) -> tuple[Sequence[Row], bool]:
        """What is later than `after`, oldest first: its times and bodies; whether there is more.

        Runs in a thread. Raises StoreAway.
        """


class Sent:
    """What was read from the store and sent, as long as it may come by the channel too."""

    def __init__(self) -> None:
        self._digests: dict[int, None] = {}
        self._until = 0.0

    def __bool__(self) -> bool:
        if self._digests and monotonic() > self._until:
            self._digests.clear()
        return bool(self._digests)

    def __contains__(self, row: Row) -> bool:
        return bool(self) and hash(row) in self._digests

    def add(self, rows: Iterable[Row]) -> None:
        self._digests.update(dict.fromkeys(map(hash, rows)))
        for digest in list(islice(self._digests, max(0, len(self._digests) - SENT_MAX))):
            del self._digests[digest]
        self._until = monotonic() + LATE_SECONDS


class Stream(Listener):
    """What `topic` says, from `place` on, as chunks of a text/event-stream; one of `who`'s.

    Where it `is_new`, that is what comes from now on. Without a `source` what the channel has no
    more is missing, and the stream says so. Of what comes by the channel `shape` makes what is
    told, or None; what the source has is so already. Before it reads the source it waits for
    `settle` seconds, where writers take their time to learn that somebody listens. It ends when
    `permit` does not hold any more, after `seconds`, or, where these are 0, when it has told all
    that there is.

    Raises TooManyRequests where `who` has too many, or all together have `most`.
    """

    def __init__(
        self,
        topic: Topic,
        permit: Permit,
        who: Hashable,
        most: int,
        *,
        place: Place,
        is_new: bool,
        source: Source | None = None,
        event: str = "reading",
        shape: Callable[[bytes], bytes | None] | None = None,
        settle: float = 0.0,
        seconds: int | None = None,
    ) -> None:
        super().__init__(topic, permit, who, most, seconds or None)
        self._source = source
        self._event = event.encode()
        self._shape = shape
        self._settle = settle
        self._position = place.position
        self._time = place.time
        self._is_new = is_new
        self._once = seconds == 0
        self._sent = Sent()
        self._noted: Position | None = None
        self._is_reading = False

    async def chunks(self, hub: Hub, channel: Channel) -> AsyncIterator[bytes]:
        yield b"retry: %d\n" % RETRY_MS + self._begun(channel)
        while not self.is_over():
            if chunk := await self._next(hub, channel):
                yield chunk
        yield b'event: end\ndata: {"reason":"%s"}\n\n' % self._reason.encode()

    def _begun(self, channel: Channel) -> bytes:
        if not self._is_new:
            return self._mark() if self._position else self._lost()
        if not self._settle:
            self._position = channel.position
        return self._mark()

    async def _next(self, hub: Hub, channel: Channel) -> bytes:
        """What is to be sent next, or nothing; waits for it."""
        changed, last, at = channel.changed, channel.position, self._position
        if at is None:
            return await self._from_store(hub, channel)
        if last is None and monotonic() - channel.away_since < PATIENCE_SECONDS:
            return await self._wait(changed, AWAY_SECONDS, AWAY)
        if last is None or last.born != at.born or last.number < at.number:
            return self._lost()
        if last.number == at.number:
            if self._once:
                self.end("caught up")
                return b""
            return await self._wait(changed, self.heartbeat, HEARTBEAT + self._mark())
        try:
            entries = channel.after(at, AT_ONCE) or await hub.in_thread(
                channels.between, channel.name, at, last, AT_ONCE
            )
        except StoreAway:
            return await self._wait(changed, AWAY_SECONDS, AWAY)
        return self._told(entries, at, channel.subjects) if entries else self._lost()

    async def _wait(self, changed: asyncio.Event, seconds: float, else_say: bytes) -> bytes:
        """Wait for a change, so long at most; what to say then. With 0 seconds, end instead."""
        if self._once:
            self.end("unavailable")
            return b""
        return b"" if await self.has_changed(changed, seconds) else else_say

    def _told(self, entries: Iterable[Entry], at: Position, subjects: Collection[int]) -> bytes:
        """The entries as events, up to where something is missing; there the place is lost."""
        parts = []
        for entry in entries:
            if not entry.body or not follows(entry.position, at):
                parts.append(self._lost())
                break
            at = self._position = entry.position
            body = entry.body if self._shape is None else self._shape(entry.body)
            if body and entry.subject in subjects and (entry.time, body) not in self._sent:
                parts.append(self._event_of(entry.time, body))
        return b"".join(parts)

    def _lost(self) -> bytes:
        """What follows the place is gone from the channel: the store is next."""
        BREAKS.add()
        self._position = None
        said = {"after": format_ms(self._time), "filled": self._source is not None}
        return b"event: gap\ndata: %s\n\n" % json.dumps(said)

    async def _from_store(self, hub: Hub, channel: Channel) -> bytes:
        """A page of what the store has. After the last the place is that noted before the first.

        While Redis is away there is none, and the store is asked again and again.
        """
        changed = channel.changed
        if not self._is_reading:
            await asyncio.sleep(self._settle)
            self._noted, self._is_reading = channel.position, True
        rows: Sequence[Row] = ()
        more = False
        if self._source is not None:
            try:
                rows, more = await hub.in_thread(self._source.page, self._time)
            except StoreAway:
                return await self._wait(asyncio.Event(), AWAY_SECONDS, AWAY)
        told = b"".join([self._event_of(*row) for row in rows])
        if rows:
            self._sent.add(rows)
        if more:
            return told
        self._position, self._is_reading = self._noted, False
        if told or self._position:
            return told + self._mark()
        return await self._wait(changed, AWAY_SECONDS, AWAY)

    def _event_of(self, time: int, body: bytes) -> bytes:
        self._time = max(self._time, time)
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (self._place(), self._event, body)

    def _mark(self) -> bytes:
        """The place alone: it is no event, and a client that comes back names it."""
        return b"id: %s\n\n" % self._place()

    def _place(self) -> bytes:
        return str(Place(None if self._sent else self._position, self._time)).encode()
