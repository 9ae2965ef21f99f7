"""Cutting what is long into what is bounded."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items in order, the last one shorter; the input is never held whole."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
