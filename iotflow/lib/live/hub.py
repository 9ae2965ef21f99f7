"""What a process knows of the channels that its readers listen to, read once for all of them.

One thread reads all channels from Redis, by one command that waits, and hands what it finds to the
loop that the readers live in. There each channel keeps its newest entries, RING_MAX of them and
RING_BYTES at most; a reader takes from these what comes after its own position. None has a queue:
a slow one finds its place gone, and reads from Redis, or from the store, at its own pace.

Another task asks every STREAM_CHECK_SECONDS whether the readers still may read.
"""

import asyncio
import logging
import threading
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.db import DatabaseError, connections

from iotflow.lib.errors import StoreAway, TooManyRequests
from iotflow.lib.live import channels
from iotflow.lib.live.channels import Entry, Position
from iotflow.lib.metrics import Counter, Figure
from iotflow.lib.redis import shared

logger = logging.getLogger(__name__)
RING_MAX, RING_BYTES = 1000, 1 << 20
AT_ONCE = 200
LISTEN_SECONDS = 5.0
EMBEDDED_PAUSE = 0.1
AWAY_PAUSE = 0.5
THREADS = 4
SHARED_SECONDS = 1.0
ENDS = Counter("iotflow_stream_ends_total", "Live streams that ended, by why.", ("reason",))
BREAKS = Counter(
    "iotflow_stream_breaks_total",
    "Times a live stream had to go on from the store, or to say that it cannot.",
)
T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class Topic:
    """What there is to listen to: the name of its channel, and what it is about.

    `members` says what that is now, in a thread, where it may change.
    """

    name: str
    subjects: frozenset[int]
    members: Callable[[], Collection[int]] | None = None


class Channel:
    """One channel in a process; all but its making belongs to the loop.

    `position` is that of its last entry here, None while Redis is away; `changed` is set at the
    next change, and is another one from then on.
    """

    def __init__(self, topic: Topic) -> None:
        self.name = topic.name
        self.subjects = topic.subjects
        self.members = topic.members
        self.position: Position | None = None
        self.readers: set[Reader] = set()
        self.changed = asyncio.Event()
        self._ring: deque[Entry] = deque()
        self._bytes = 0

    def after(self, position: Position, most: int) -> list[Entry]:
        """What is kept here after a position; nothing where that is not all of it."""
        if not self._ring or self._ring[0].position.born != position.born:
            return []
        skip = position.number + 1 - self._ring[0].position.number
        if skip < 0:
            return []
        return [self._ring[n] for n in range(skip, min(skip + most, len(self._ring)))]

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if self._ring and not follows(entry.position, self._ring[-1].position):
                self._ring.clear()
                self._bytes = 0
            self._ring.append(entry)
            self._bytes += len(entry.body)
            while len(self._ring) > RING_MAX or self._bytes > RING_BYTES:
                self._bytes -= len(self._ring.popleft().body)
            self.position = entry.position
        self.wake()

    def place(self, position: Position | None) -> None:
        """This is its last entry in Redis; None where Redis is away."""
        known = self.position
        if position is not None and known is not None and position.born == known.born:
            return  # its entries are on their way
        if position != known:
            self.position = position
            self.wake()

    def wake(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


def follows(position: Position, before: Position) -> bool:
    """Whether nothing can be between the two."""
    return position.born == before.born and position.number == before.number + 1


class Slot:
    """A reader's place among those that there may be; given back at the latest with the object."""

    def __init__(self, places: "Places", who: Hashable) -> None:
        self._places = places
        self._who: Hashable | None = who

    def release(self) -> None:
        who, self._who = self._who, None
        if who is not None:
            self._places.give_back(who)

    def __del__(self) -> None:
        self.release()


class Places:
    """How many streams a process has open, of whom."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Tally[Hashable] = Tally()

    def __len__(self) -> int:
        return self._taken.total()

    def take(self, who: Hashable, most: int) -> Slot:
        """A place for a reader, where there are less than `most` in all. Raises TooManyRequests."""
        with self._lock:
            if self._taken[who] >= settings.STREAMS_EACH:
                raise TooManyRequests(
                    f"At most {settings.STREAMS_EACH} streams at a time; close one.", 10
                )
            if self._taken.total() >= most:
                raise TooManyRequests("This server has no room for another stream now.", 10)
            self._taken[who] += 1
        return Slot(self, who)

    def give_back(self, who: Hashable) -> None:
        with self._lock:
            self._taken[who] -= 1
            if self._taken[who] <= 0:
                del self._taken[who]


class Hub:
    """Of one loop: its channels, the thread that reads them, and the task that asks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._channels: dict[str, Channel] = {}
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}
        self._opening = asyncio.Lock()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="live")
        self._stop = threading.Event()
        self._some = threading.Event()
        self._thread = threading.Thread(target=self._read, name="live", daemon=True)
        self._thread.start()
        self._checking = loop.create_task(self._check())

    async def join(self, topic: Topic, reader: Reader) -> Channel:
        """The channel, read from now on; without a position where Redis is away."""
        async with self._opening:
            channel = self._channels.get(topic.name)
            if channel is None:
                channel = Channel(topic)
                try:
                    last = await self.in_thread(channels.listen, topic.name, topic.subjects)
                    channel.place(last)
                except StoreAway:
                    logger.info("Redis is away: a stream begins without it")
                self._channels[topic.name] = channel
            channel.readers.add(reader)
        self._some.set()
        return channel

    def leave(self, channel: Channel, reader: Reader) -> None:
        channel.readers.discard(reader)
        if not channel.readers and self._channels.get(channel.name) is channel:
            del self._channels[channel.name]

    def readers(self) -> list[Reader]:
        return [reader for channel in self._channels.values() for reader in channel.readers]

    async def in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run what waits for a store in one of a few threads."""

        def run() -> T:
            try:
                return call(*arguments)
            finally:
                connections.close_all()

        return await self._loop.run_in_executor(self._pool, run)

    async def shared(self, name: Hashable, call: Callable[..., T], *arguments: Any) -> T:
        """The same, once for all who ask for what is of the same name within SHARED_SECONDS."""
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = self._loop.create_task(self.in_thread(call, *arguments))
            task.add_done_callback(
                lambda _: self._loop.call_later(SHARED_SECONDS, self._asked.pop, name, None)
            )
        return await asyncio.shield(task)

    def end(self, reason: str) -> None:
        """End every stream, from any thread."""

        def run() -> None:
            for reader in self.readers():
                reader.end(reason)

        self._loop.call_soon_threadsafe(run)

    # --- The thread ---------------------------------------------------------------------------
    def _read(self) -> None:
        read: dict[str, Position] = {}
        listened = 0.0
        while not self._stop.is_set():
            open_ones = self._channels.copy()
            if not open_ones:
                read.clear()
                self._some.wait(1)
                self._some.clear()
                continue
            try:
                if time.monotonic() - listened > LISTEN_SECONDS:
                    self._listen(open_ones, read)
                    listened = time.monotonic()
                self._step(open_ones, read)
            except StoreAway:
                read.clear()
                listened = 0.0
                self._hand(self._lose)
                self._stop.wait(AWAY_PAUSE)
            except Exception:  # whatever it is, readers must not wait for ever because of it
                logger.exception("reading live channels failed")
                self._stop.wait(AWAY_PAUSE)

    def _listen(self, open_ones: dict[str, Channel], read: dict[str, Position]) -> None:
        """Keep the channels, make anew those that are gone, and see whether one was."""
        for name, channel in open_ones.items():
            last = channels.listen(name, channel.subjects)
            known = read.get(name) or channel.position
            if known is None or known.born != last.born:
                read[name] = last
                self._hand(partial(channel.place, last))

    def _step(self, open_ones: dict[str, Channel], read: dict[str, Position]) -> None:
        for name in read.keys() - open_ones.keys():
            del read[name]
        for name, channel in open_ones.items():
            if name not in read and channel.position is not None:
                read[name] = channel.position
        if not read:
            self._stop.wait(EMBEDDED_PAUSE)
            return
        found = channels.newer(read, AT_ONCE)
        for name, entries in found.items():
            read[name] = entries[-1].position
        if found:
            self._hand(partial(self._add, open_ones, found))
        elif not shared():
            self._stop.wait(EMBEDDED_PAUSE)

    def _lose(self) -> None:
        for channel in self._channels.values():
            channel.place(None)

    def _add(self, open_ones: dict[str, Channel], found: dict[str, list[Entry]]) -> None:
        for name, entries in found.items():
            open_ones[name].add(entries)

    def _hand(self, call: Callable[[], Any]) -> None:
        """Run it in the loop, and wait for that: what is not taken yet does not pile up."""
        done = threading.Event()

        def run() -> None:
            try:
                call()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(run)
        while not done.wait(1) and not self._stop.is_set():
            if self._loop.is_closed():
                return

    # --- The task -----------------------------------------------------------------------------
    async def _check(self) -> None:
        while True:
            await asyncio.sleep(settings.STREAM_CHECK_SECONDS)
            readers = self.readers()
            if not readers:
                continue
            try:
                await self._end_those_that_may_not(readers)
            except (StoreAway, DatabaseError) as error:
                # Nobody can change what anybody may while its database is away.
                logger.info("who may still read could not be asked: %s", error)
            except Exception:
                logger.exception("asking who may still read failed")

    async def _end_those_that_may_not(self, readers: Sequence[Reader]) -> None:
        for kind in {type(reader.permit) for reader in readers}:
            of_kind = [reader for reader in readers if type(reader.permit) is kind]
            held = await self.in_thread(kind.held, {reader.permit for reader in of_kind})
            for reader in of_kind:
                if reader.permit not in held:
                    reader.end("permission")
        for channel in list(self._channels.values()):
            if channel.members is not None:
                channel.subjects = frozenset(await self.in_thread(channel.members))
                await self.in_thread(channels.listen, channel.name, channel.subjects)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
places = Places()
Figure("iotflow_streams", "Live streams that are open.", (), lambda: {(): len(places)})


def hub() -> Hub:
    """The hub of the running loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub(loop)
    return _hubs[loop]


def end_all(reason: str) -> None:
    """End every stream of this process, from any thread."""
    for one in list(_hubs.values()):
        one.end(reason)
