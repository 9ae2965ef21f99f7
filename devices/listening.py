"""A device that waits for its commands: as a stream of events, or for one answer.

It is woken by the channel of its commands (devices.commands), and then the database is asked: what
the channel says is that there is something, and no more. While Redis is away the database is asked
every AWAY_SECONDS.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from time import monotonic
from weakref import finalize

from django.conf import settings
from django.db import DatabaseError

from devices import commands
from devices.models import Command
from devices.permits import KeyPermit
from iotflow.lib.errors import StoreAway
from iotflow.lib.live.hub import Hub, hub
from iotflow.lib.live.places import places
from iotflow.lib.live.stream import ENDS, RETRY_MS
from iotflow.lib.live.topics import Channel, Permit, Topic

AWAY_SECONDS = 2.0
RETRY = b"retry: %d\n\n" % RETRY_MS
Handed = Sequence[Command]


class Listener:
    """What is handed out to a device of `permit`, as chunks that `told` makes of it.

    With `is_one_answer` the first that there is, or nothing after `seconds`, is the end of it;
    without, it goes on for as long as the permit holds, or for `seconds`. `idle` is sent where
    there is nothing, so that it is noticed where nobody listens any more. `end` makes the last
    chunk, of the reason.

    Raises TooManyRequests where there is no room for it.
    """

    def __init__(
        self,
        permit: KeyPermit,
        most: int,
        *,
        told: Callable[[Handed], bytes],
        end: Callable[[str], bytes],
        idle: bytes,
        is_one_answer: bool,
        seconds: float | None,
    ) -> None:
        who = f"device:{permit.device_id}"
        places.take(who, most)
        self._give_back = finalize(self, places.give_back, who)
        self.permit: Permit = permit
        self._device_id = permit.device_id
        self.heartbeat: float = settings.STREAM_HEARTBEAT_SECONDS
        self._told = told
        self._end = end
        self._idle = idle
        self._is_one_answer = is_one_answer
        self._deadline = None if seconds is None else monotonic() + seconds
        self._reason = ""
        self._hub: Hub | None = None
        self._channel: Channel | None = None

    def end(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._channel is not None:
            self._channel.wake()

    def close(self) -> None:
        """What the answer calls at its end, in any thread, whether or not it was begun."""
        if self._hub is not None:
            self._hub.loop.call_soon_threadsafe(self._leave)
        self._give_back()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._hub = hub()
        subject = commands.subject(self._device_id)
        topic = Topic(f"commands.{self._device_id}", frozenset([subject]))
        # Before the database is asked: what comes after that is told.
        self._channel = channel = await self._hub.join(topic, self)
        try:
            if not self._is_one_answer:
                yield RETRY
            while not self._reason:
                changed = channel.changed
                if handed := await self._take(self._hub):
                    yield self._told(handed)
                    if self._is_one_answer:
                        return
                elif self._is_over():
                    break
                elif not await self._has_changed(channel, changed):
                    yield self._idle
            yield self._end(self._reason)
        finally:
            self._leave()

    async def _take(self, hub: Hub) -> Handed:
        try:
            return await hub.in_thread(commands.hand_out, self._device_id)
        except (StoreAway, DatabaseError):
            return ()

    async def _has_changed(self, channel: Channel, changed: asyncio.Event) -> bool:
        """Wait for something new, as long as nobody needs to be told that there is nothing."""
        seconds = self.heartbeat if channel.position else min(self.heartbeat, AWAY_SECONDS)
        if self._deadline is not None:
            seconds = min(seconds, self._deadline - monotonic())
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return False
        return True

    def _is_over(self) -> bool:
        if self._deadline is not None and monotonic() >= self._deadline:
            self.end("time")
        return bool(self._reason)

    def _leave(self) -> None:
        if self._hub is not None and self._channel is not None:
            self._hub.leave(self._channel, self)
            self._channel = None
            if not self._is_one_answer:
                ENDS.add(self._reason or "closed")
        self._give_back()
