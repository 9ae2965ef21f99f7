"""Two ordered streams side by side."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def merged(
    left: Iterable[A],
    right: Iterable[B],
    left_key: Callable[[A], Any],
    right_key: Callable[[B], Any],
) -> Iterator[tuple[A | None, B | None]]:
    """Pairs of equal keys; None beside what the other has not. Both ascend by their keys.

    Neither goes on before what it gave is done with.
    """
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None or other is not None:
        if other is None or (one is not None and left_key(one) < right_key(other)):
            yield one, None
            one = next(lefts, None)
        elif one is None or right_key(other) < left_key(one):
            yield None, other
            other = next(rights, None)
        else:
            yield one, other
            one, other = next(lefts, None), next(rights, None)
