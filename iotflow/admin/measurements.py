"""Which measurements a page shows: a device may have sent any number of names."""

from collections.abc import Iterable
from typing import Any

SHOWN_MAX = 100


def shown(names: Iterable[str]) -> dict[str, Any]:
    """`names`, sorted, at most SHOWN_MAX; and how many more are `hidden`."""
    ordered = sorted(set(names))
    return {"names": ordered[:SHOWN_MAX], "hidden": len(ordered[SHOWN_MAX:])}
