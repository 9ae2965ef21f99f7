"""One listener, as Server-Sent Events: from where it was to now, and then what comes.

A place is `<born>-<number>.<time>`: the last entry of the channel that was sent, and the newest
time among all that was. While the channel still has what follows that entry, nothing is missing and
nothing comes twice. Where it has not, the rest is read from the store by time: what is newer than
all that was sent, so nothing comes twice; a reading that came late meanwhile is missed, and the
stream says so (`event: gap`). A place without an entry is a time alone.

Going over from the store to the channel: the channel's last entry is noted first, the store is read
to its end after. What is in the channel up to that entry was stored before, so it was read. What
comes after it may have been read too: what was, is known for LATE_SECONDS by time and content.
"""

import asyncio
import re
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from django.conf import settings

from iotflow.lib import json
from iotflow.lib.errors import StoreAway
from iotflow.lib.live import channels
from iotflow.lib.live.channels import Entry, Position
from iotflow.lib.live.hub import BREAKS, ENDS, Channel, Hub, Permit, Slot, Topic, follows, hub
from iotflow.lib.timeparse import EARLIEST, LATEST, format_ms

PLACE = re.compile(r"(?:(\d{1,17})-(\d{1,15})\.)?(-?\d{1,15})", re.ASCII)
AT_ONCE = 200
SENT_MAX = 20_000
# So long after it was stored a reading may still come by the channel: a batch is told at its end.
LATE_SECONDS = 30.0
AWAY_SECONDS = 2.0
RETRY_MS = 3000
# So long a channel that was there is waited for: Redis may be back with all that it had.
PATIENCE_SECONDS = 5.0
HEARTBEAT = b": heartbeat\n\n"
AWAY = b": Redis is away\n\n"


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
    if found is None or not EARLIEST <= int(found[3]) <= LATEST:
        return None
    position = Position(int(found[1]), int(found[2])) if found[1] else None
    return Place(position, int(found[3]))


class Source(Protocol):
    """Where what is gone from the channel still is; those that are equal say the same."""

    def page(self, after: int) -> tuple[Sequence[tuple[int, bytes]], bool]:
        """What is later than `after`, oldest first: its times and bodies; whether there is more.

        Runs in a thread. Raises StoreAway.
        """


class Sent:
    """What was read from the store and sent: its last SENT_MAX, as two arrays of numbers."""

    def __init__(self) -> None:
        self._times = array("q")
        self._digests = array("q")
        self._until = 0.0

    def add(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Their times go up."""
        for time, body in rows:
            self._times.append(time)
            self._digests.append(hash(body))
        if len(self._times) > SENT_MAX:
            del self._times[:-SENT_MAX], self._digests[:-SENT_MAX]
        self._until = monotonic() + LATE_SECONDS

    def has(self, time: int, body: bytes) -> bool:
        if not self._times:
            return False
        if monotonic() > self._until:
            del self._times[:], self._digests[:]
            return False
        found = bisect_left(self._times, time)
        return (
            found < len(self._times)
            and self._times[found] == time
            and self._digests[found] == hash(body)
        )


class Stream:
    """What `topic` says, from `place` on, as chunks of a text/event-stream.

    Without a `source` what the channel has no more is missing, and the stream says so. Of what
    comes by the channel `shape` makes what is told, or None; what the source has is so already.
    Before it reads the source it waits for `settle` seconds, where writers take their time to learn
    that somebody listens. It ends when `permit` does not hold any more, after `seconds`, or, where
    these are 0, when it has told all that there is.
    """

    def __init__(
        self,
        topic: Topic,
        permit: Permit,
        slot: Slot,
        *,
        place: Place,
        is_new: bool = False,
        source: Source | None = None,
        event: str = "reading",
        shape: Callable[[bytes], bytes | None] | None = None,
        settle: float = 0.0,
        seconds: int | None = None,
    ) -> None:
        self.permit = permit
        self._topic = topic
        self._slot = slot
        self._source = source
        self._event = event.encode()
        self._shape = shape
        self._settle = settle
        self._position = place.position
        self._time = place.time
        self._is_new = is_new
        self._is_live = place.position is not None
        self.heartbeat: float = settings.STREAM_HEARTBEAT_SECONDS
        self._once = seconds == 0
        self._deadline = None if seconds is None else monotonic() + seconds
        self._sent = Sent()
        self._away_since: float | None = None
        self._reason = ""
        self._channel: Channel | None = None
        self._hub: Hub | None = None

    def end(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._channel is not None:
            self._channel.wake()

    def close(self) -> None:
        """What the answer calls at its end, whether or not it was begun."""
        self._slot.release()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._hub = hub()
        self._channel = channel = await self._hub.join(self._topic, self)
        try:
            if self._is_new:
                self._position = channel.position
                self._is_live = self._position is not None
            yield b"retry: %d\n%s" % (RETRY_MS, self._mark())
            async for chunk in self._follow(self._hub, channel):
                if chunk:
                    yield chunk
            yield b'event: end\ndata: {"reason":"%s"}\n\n' % self._reason.encode()
        finally:
            self._hub.leave(channel, self)
            self._slot.release()
            ENDS.add(self._reason or "closed")

    async def _follow(self, hub: Hub, channel: Channel) -> AsyncIterator[bytes]:
        while not self._is_over():
            changed, last = channel.changed, channel.position
            position = self._position
            if self._is_patient(last):
                yield await self._wait(changed, AWAY_SECONDS, AWAY)
            elif position is None or last is None or position.born != last.born:
                async for chunk in self._catch_up(hub, channel, last):
                    yield chunk
            elif position.number >= last.number:
                if self._once:
                    self.end("caught up")
                else:
                    yield await self._wait(changed, self.heartbeat, HEARTBEAT)
            else:
                entries = channel.after(position, AT_ONCE) or await self._kept(
                    hub, channel, position, last
                )
                if entries is None:
                    yield await self._wait(changed, AWAY_SECONDS, AWAY)
                else:
                    yield self._told(entries, channel.subjects)

    def _is_patient(self, last: Position | None) -> bool:
        """Whether Redis has been away only for a moment, and there is a place to go on from."""
        if last is not None:
            self._away_since = None
            return False
        if self._away_since is None:
            self._away_since = monotonic()
        return self._is_live and monotonic() - self._away_since < PATIENCE_SECONDS

    def _is_over(self) -> bool:
        if self._deadline is not None and not self._once and monotonic() >= self._deadline:
            self.end("time")
        return bool(self._reason)

    async def _wait(self, changed: asyncio.Event, seconds: float, else_say: bytes) -> bytes:
        """Wait for a change, so long at most; what to send then. With 0 seconds, end instead."""
        if self._once:
            self.end("unavailable")
        left = seconds if self._deadline is None else max(0.0, self._deadline - monotonic())
        try:
            await asyncio.wait_for(changed.wait(), min(seconds, left))
        except TimeoutError:
            return else_say
        return b""

    async def _kept(
        self, hub: Hub, channel: Channel, position: Position, last: Position
    ) -> list[Entry] | None:
        """What Redis has after the position; None where it is away."""
        try:
            return await hub.in_thread(channels.between, channel.name, position, last, AT_ONCE)
        except StoreAway:
            return None

    def _told(self, entries: Sequence[Entry], subjects: frozenset[int]) -> bytes:
        """The entries as events, up to where something is missing; there the place is lost."""
        parts = []
        for entry in entries:
            assert self._position is not None
            if not entry.body or not follows(entry.position, self._position):
                self._position = None
                break
            self._position = entry.position
            if entry.subject not in subjects:
                continue
            body = entry.body if self._shape is None else self._shape(entry.body)
            if body is not None and not self._sent.has(entry.time, body):
                self._time = max(self._time, entry.time)
                parts.append(self._told_one(body))
        if not entries:
            self._position = None
        return b"".join(parts)

    async def _catch_up(
        self, hub: Hub, channel: Channel, last: Position | None
    ) -> AsyncIterator[bytes]:
        """Go on from the store to its end, then behind `last` of the channel; None: it is away."""
        if self._is_live:
            self._is_live = False
            BREAKS.add()
            yield self._gap()
        self._position = None
        if self._settle:
            await asyncio.sleep(self._settle)
            last = channel.position
        if self._source is not None:
            more = True
            while more and not self._is_over():
                name = (self._source, self._time, last)
                try:
                    rows, more = await hub.shared(name, self._source.page, self._time)
                except StoreAway:
                    yield await self._wait(asyncio.Event(), AWAY_SECONDS, b": a store is away\n\n")
                    return
                self._sent.add(rows)
                yield self._read(rows)
        if self._reason:
            return  # maybe not at the store's end: no place in the channel is to be named
        if last is not None:
            self._position = last
            self._is_live = True
            yield self._mark()
        elif self._once:
            self.end("caught up")
        else:
            yield await self._wait(channel.changed, AWAY_SECONDS, AWAY)

    def _read(self, rows: Iterable[tuple[int, bytes]]) -> bytes:
        parts = []
        for time, body in rows:
            self._time = max(self._time, time)
            parts.append(self._told_one(body))
        return b"".join(parts)

    def _place(self) -> bytes:
        return str(Place(self._position, self._time)).encode()

    def _told_one(self, body: bytes) -> bytes:
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (self._place(), self._event, body)

    def _mark(self) -> bytes:
        """The place alone: it is no event, and a client that comes back names it."""
        return b"id: %s\n\n" % self._place()

    def _gap(self) -> bytes:
        said = {"after": format_ms(self._time), "filled": self._source is not None}
        return b"event: gap\ndata: %s\n\n" % json.dumps(said)
