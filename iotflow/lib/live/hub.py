"""What keeps a process's channels: read once for all who listen, who are asked whether they may.

One task asks Redis ten times a second for what came to all channels, another one every
STREAM_CHECK_SECONDS for who still may listen. All of it belongs to one loop; what waits for a store
runs in a few threads.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, connections

from iotflow.lib.errors import StoreAway
from iotflow.lib.live import channels
from iotflow.lib.live.channels import Position
from iotflow.lib.live.topics import Channel, Reader, Topic

logger = logging.getLogger(__name__)
AT_ONCE = 100
POLL_SECONDS = 0.1
LISTEN_SECONDS = 5.0
AWAY_PAUSE = 0.5
THREADS = 8
RESTART = "restart"
T = TypeVar("T")


class Hub:
    """Of one loop: its channels, the task that reads them, and the one that asks."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._channels: dict[str, Channel] = {}
        self._opening = asyncio.Lock()
        self._listen_at = 0.0
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="live")
        self._tasks = [self.loop.create_task(run()) for run in (self._read, self._check)]

    async def join(self, topic: Topic, reader: Reader) -> Channel:
        """The channel, read from now on; without a position where Redis is away."""
        async with self._opening:
            channel = self._channels.get(topic.name)
            if channel is None:
                channel = Channel(topic)
                try:
                    channel.place(await self.in_thread(channels.listen, topic.name, topic.subjects))
                except StoreAway:
                    logger.info("Redis is away: a stream begins without it")
                self._channels[topic.name] = channel
            channel.readers.add(reader)
        if _is_ending:
            reader.end(RESTART)
        return channel

    def leave(self, channel: Channel, reader: Reader) -> None:
        channel.readers.discard(reader)
        if not channel.readers and self._channels.get(channel.name) is channel:
            del self._channels[channel.name]

    def end(self, reason: str) -> None:
        """End every stream."""
        for channel in self._channels.values():
            for reader in channel.readers:
                reader.end(reason)

    async def in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run what waits for a store in one of a few threads."""

        def run() -> T:
            try:
                return call(*arguments)
            finally:
                connections.close_all()

        try:
            done = self.loop.run_in_executor(self._pool, run)
        except RuntimeError:  # the threads take no more: the process ends
            raise asyncio.CancelledError from None
        return await done

    # --- What comes -----------------------------------------------------------------------------
    async def _read(self) -> None:
        while True:
            try:
                if time.monotonic() >= self._listen_at:
                    self._listen_at = time.monotonic() + LISTEN_SECONDS
                    await self._listen()
                if not await self._read_once():
                    await asyncio.sleep(POLL_SECONDS)
            except StoreAway:
                self._listen_at = 0.0
                for channel in self._channels.values():
                    channel.lose()
                await asyncio.sleep(AWAY_PAUSE)
            except Exception:  # whatever it is, readers must not wait for ever because of it
                logger.exception("reading live channels failed")
                await asyncio.sleep(AWAY_PAUSE)

    async def _listen(self) -> None:
        """Keep the channels, make anew those that are gone, and see whether one was."""
        asked = dict(self._channels)
        wanted = {name: channel.subjects for name, channel in asked.items()}
        for name, last in (await self.in_thread(_listen_to, wanted)).items():
            # One that was opened meanwhile knows better.
            if self._channels.get(name) is asked[name]:
                asked[name].place(last)

    async def _read_once(self) -> bool:
        """Whether there may be more at once."""
        read = {one.name: one.position for one in self._channels.values() if one.position}
        found = await self.in_thread(channels.newer, read, AT_ONCE) if read else {}
        for name, entries in found.items():
            if name in self._channels:
                self._channels[name].add(entries)
        return any(len(entries) == AT_ONCE for entries in found.values())

    # --- Who still may --------------------------------------------------------------------------
    async def _check(self) -> None:
        while True:
            await asyncio.sleep(settings.STREAM_CHECK_SECONDS)
            try:
                await self._end_those_that_may_not()
                await self._learn_members()
            except (StoreAway, DatabaseError) as error:
                # Nobody can change what anybody may while its database is away.
                logger.info("who may still read could not be asked: %s", error)
            except Exception:
                logger.exception("asking who may still read failed")

    async def _end_those_that_may_not(self) -> None:
        readers = [one for channel in self._channels.values() for one in channel.readers]
        for kind in {type(reader.permit) for reader in readers}:
            of_kind = [reader for reader in readers if type(reader.permit) is kind]
            held = await self.in_thread(kind.held, {reader.permit for reader in of_kind})
            for reader in of_kind:
                if reader.permit not in held:
                    reader.end("permission")

    async def _learn_members(self) -> None:
        for channel in list(self._channels.values()):
            if channel.members is not None:
                members = await self.in_thread(channel.members)
                if members != channel.subjects:
                    channel.subjects = members
                    self._listen_at = 0.0


def _listen_to(wanted: Mapping[str, Collection[int]]) -> dict[str, Position]:
    return {name: channels.listen(name, subjects) for name, subjects in wanted.items()}


_hub: Hub | None = None
_is_ending = False


def hub() -> Hub:
    """That of this process; made in the loop that all its streams run in."""
    global _hub
    if _hub is None:
        _hub = Hub()
    return _hub


def finish() -> None:
    """End every stream of this process, and each that is yet to begin; from any thread."""
    global _is_ending
    _is_ending = True
    if _hub is not None:
        _hub.loop.call_soon_threadsafe(_hub.end, RESTART)
