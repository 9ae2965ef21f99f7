"""A small table of the database that every process has in memory, for what comes by the thousand.

A thread of a moment reads it again every FRESH_SECONDS while it is used: nobody waits for that, and
with the database away what is known goes on to hold.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from django.db import DatabaseError, connections

logger = logging.getLogger(__name__)
FRESH_SECONDS = 5.0
T = TypeVar("T")


class Remembered(Generic[T]):
    """What `read` says, by `()`. `unknown` is what a process goes by that could never read it.

    `read` may raise DatabaseError. The process that changes the table calls `reload`; the others
    go by what was there FRESH_SECONDS ago at worst.
    """

    def __init__(self, name: str, read: Callable[[], T], unknown: T) -> None:
        self._name = name
        self._read = read
        self._unknown = unknown
        self._value: T | None = None
        self._until = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> T:
        """What is known; only whoever asks first, in all the process's life, waits for a query."""
        if self._value is None:
            with self._lock:
                if self._value is None:
                    self._renew()
        elif time.monotonic() > self._until and self._lock.acquire(blocking=False):
            threading.Thread(target=self._renew_apart, name=self._name, daemon=True).start()
        assert self._value is not None
        return self._value

    def reload(self) -> None:
        """Read it now, for this process has changed it."""
        with self._lock:
            self._renew()

    def put(self, value: T) -> None:
        self._value, self._until = value, time.monotonic() + FRESH_SECONDS

    def _renew(self) -> None:
        try:
            self.put(self._read())
        except DatabaseError as error:
            logger.info("%s cannot be read: %s", self._name, error)
            self.put(self._unknown if self._value is None else self._value)

    def _renew_apart(self) -> None:
        try:
            self._renew()
        except Exception:  # whatever it is, what is known still holds
            logger.exception("%s cannot be read", self._name)
        finally:
            connections.close_all()
            self._lock.release()
