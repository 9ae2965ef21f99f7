"""How many streams a process has open, and whose."""

import threading
from collections import Counter as Tally
from collections.abc import Hashable

from django.conf import settings

from iotflow.lib.errors import TooManyRequests
from iotflow.lib.metrics import Figure

RETRY_SECONDS = 10


class Places:
    def __init__(self) -> None:
        # A collector that runs while it is held may find a stream that nobody closed.
        self._lock = threading.RLock()
        self._taken: Tally[Hashable] = Tally()

    def __len__(self) -> int:
        return self._taken.total()

    def take(self, who: Hashable, most: int) -> None:
        """One more, where less than `most` are taken in all. Raises TooManyRequests (429)."""
        with self._lock:
            if self._taken[who] >= settings.STREAMS_EACH:
                raise TooManyRequests(
                    f"At most {settings.STREAMS_EACH} streams at a time; close one.", RETRY_SECONDS
                )
            if len(self) >= most:
                raise TooManyRequests("This server has no room for another stream.", RETRY_SECONDS)
            self._taken[who] += 1

    def give_back(self, who: Hashable) -> None:
        with self._lock:
            self._taken[who] -= 1
            if not self._taken[who]:
                del self._taken[who]


places = Places()
Figure("iotflow_streams", "Live streams that are open.", (), lambda: {(): len(places)})
