"""Two things at the same time, in an order that a test chooses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from django.db import connections, transaction

T = TypeVar("T")


def during(change: Callable[[], object], ask: Callable[[], T]) -> T:
    """What `ask` returns that came after `change` and before its commit, and had to wait for it."""
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            change()
            asked = thread.submit(and_hang_up, ask)
            with pytest.raises(TimeoutError):
                asked.result(timeout=0.5)
        return asked.result(timeout=10)


def at_once(count: int, ask: Callable[[], T]) -> list[T]:
    """What so many threads get that ask at the same time."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: and_hang_up(ask), range(count)))


def and_hang_up(ask: Callable[[], T]) -> T:
    try:
        return ask()
    finally:
        connections.close_all()
