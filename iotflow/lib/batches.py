"""Cutting what is long into what is bounded."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from django.db.models import QuerySet

T = TypeVar("T")
PIECE = 200


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items in order, the last one shorter; the input is never held whole."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def unheard(count: int) -> None:
    """For work whose progress nobody follows."""


def delete_in_pieces(rows: QuerySet[Any], advance: Callable[[int], object] = unheard) -> int:
    """Delete rows piece by piece: none locks others out for long, or runs into a time limit.

    `advance` is told how many each piece had.
    """
    total = 0
    while keys := list(rows.values_list("pk", flat=True)[:PIECE]):
        deleted = rows.model._default_manager.filter(pk__in=keys).delete()[0]
        advance(deleted)
        total += deleted
    return total
