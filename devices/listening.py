"""A device that waits for its commands: as a stream of events, or for one answer.

It is woken by the channel of its commands (devices.commands), and then the database is asked: what
the channel says is that there is something, and no more. While Redis is away the database is asked
every AWAY_SECONDS.
"""

from collections.abc import AsyncIterator, Callable, Sequence

from django.db import DatabaseError

from devices import commands
from devices.models import Command
from devices.permits import WriterPermit
from iotflow.lib.errors import StoreAway
from iotflow.lib.live.hub import Hub
from iotflow.lib.live.listener import AWAY_SECONDS, RETRY_MS, Listener
from iotflow.lib.live.topics import Channel, Topic

RETRY = b"retry: %d\n\n" % RETRY_MS
Handed = Sequence[Command]


class CommandListener(Listener):
    """What is handed out to a device of `permit`, as chunks that `told` makes of it.

    With `is_one_answer` the first that there is, or nothing after `seconds`, is the end of it;
    without, it goes on. `idle` is sent where there is nothing, so that it is noticed where nobody
    listens any more. `say_end` makes the last chunk, of the reason.
    """

    def __init__(
        self,
        permit: WriterPermit,
        most: int,
        *,
        told: Callable[[Handed], bytes],
        say_end: Callable[[str], bytes],
        idle: bytes,
        is_one_answer: bool,
        seconds: float | None,
    ) -> None:
        device_id = permit.device_id
        topic = Topic(f"commands.{device_id}", frozenset([commands.subject(device_id)]))
        super().__init__(topic, permit, f"device:{device_id}", most, seconds)
        self.is_stream = not is_one_answer
        self._device_id = device_id
        self._told = told
        self._say_end = say_end
        self._idle = idle

    async def chunks(self, hub: Hub, channel: Channel) -> AsyncIterator[bytes]:
        # The channel is read already, so what comes after the database was asked is told.
        if self.is_stream:
            yield RETRY
        while not self._reason:
            changed = channel.changed
            if handed := await self._take(hub):
                yield self._told(handed)
                if not self.is_stream:
                    return
            elif self.is_over():
                break
            elif not await self.has_changed(changed, self._patience(channel)):
                yield self._idle
        yield self._say_end(self._reason)

    async def _take(self, hub: Hub) -> Handed:
        try:
            return await hub.in_thread(commands.hand_out, self._device_id)
        except (StoreAway, DatabaseError):
            return ()

    def _patience(self, channel: Channel) -> float:
        """For so many seconds nobody needs to be told that there is nothing."""
        return self.heartbeat if channel.position else min(self.heartbeat, AWAY_SECONDS)
