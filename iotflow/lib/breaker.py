"""A circuit breaker: a dead store costs its callers microseconds, not a time-out each.

The kept libraries hold a lock while the guarded call runs, which would line up every thread of
the process behind one slow server; this one only locks its own counters.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from iotflow.lib import tracing
from iotflow.lib.errors import StoreAway
from iotflow.lib.metrics import STORE_CALLS, STORE_FAILURES, Counter, Figure, Labels

logger = logging.getLogger(__name__)
REFUSALS = Counter(
    "iotflow_breaker_refusals_total",
    "Calls that were not tried, for the store was known to be away.",
    ("store", "calls"),
)
# A call that is let through to find out has so long before another one is.
TRIAL_SECONDS = 3.0
# A store that was away is cold when it is back, and may go again.
SHAKY_SECONDS = 10.0
_breakers: dict[Labels, "Breaker"] = {}
Figure(
    "iotflow_breaker_open",
    "1 while a process takes the store for away.",
    ("store", "calls"),
    lambda: {labels: breaker.is_open for labels, breaker in _breakers.copy().items()},
    merge=max,
)


class Breaker:
    """Opens after `failures` in a row; then lets one call through, `pause` seconds after the last.

    `calls` says which of the store's calls it guards, where there are several for one store.
    """

    def __init__(
        self,
        store: str,
        *errors: type[Exception],
        failures: int = 3,
        pause: float = 1.0,
        calls: str = "all",
    ) -> None:
        self.store = store
        self.errors = errors
        self.failures = failures
        self.pause = pause
        self._lock = threading.Lock()
        self._failed = 0
        self._next_try = 0.0
        self._shaky_until = 0.0
        self._labels = store.lower().removeprefix("the "), calls
        self._span = " ".join(self._labels).removesuffix(" all")
        _breakers.setdefault(self._labels, self)

    @property
    def is_open(self) -> bool:
        return self._failed >= self.failures

    @property
    def is_refusing(self) -> bool:
        """Whether a call would not even be tried now."""
        return self.is_open and time.monotonic() < self._next_try

    @property
    def is_shaky(self) -> bool:
        """Whether the last call failed, or it was open within the last SHAKY_SECONDS."""
        return self._failed > 0 or time.monotonic() < self._shaky_until

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Run a call to the store; its `errors` become StoreAway, which an open one raises."""
        self.admit()
        started = time.perf_counter()
        try:
            with tracing.span(self._span):
                yield
        except self.errors as error:
            STORE_FAILURES.add(*self._labels)
            self.fail(error)
            raise StoreAway(self.store) from error
        except BaseException:
            self.abstain()
            raise
        finally:
            STORE_CALLS.observe(time.perf_counter() - started, *self._labels)
        self.succeed()

    def admit(self) -> None:
        """Raises StoreAway where it is open; what is let through has to tell how it went."""
        with self._lock:
            if not self.is_open:
                return
            if self.is_refusing:
                REFUSALS.add(*self._labels)
                raise StoreAway(self.store)
            self._next_try = time.monotonic() + TRIAL_SECONDS  # this caller tries, no other one

    def fail(self, error: Exception) -> None:
        self._note(error, 1)

    def trip(self, error: Exception) -> None:
        """Open at once: this failure leaves no doubt."""
        self._note(error, self.failures)

    def abstain(self) -> None:
        """How the call went says nothing of the store: another one may find out."""
        with self._lock:
            self._next_try = time.monotonic()

    def _note(self, error: Exception, failures: int) -> None:
        with self._lock:
            was_open = self.is_open
            self._failed += failures
            self._next_try = time.monotonic() + self.pause
            if self.is_open and not was_open:
                logger.warning("%s is away: %s", self.store, error)

    def succeed(self) -> None:
        with self._lock:
            if self.is_open:
                logger.warning("%s is back", self.store)
                self._shaky_until = time.monotonic() + SHAKY_SECONDS
            self._failed = 0
