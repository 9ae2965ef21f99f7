"""What changed from one JSON object to another."""

from collections.abc import Iterator
from typing import Any

from iotflow.lib.json import Place

# Many changes below one long name would make a diff far larger than what it compares.
PATHS_MAX = 16_384

Operation = dict[str, Any]


def diff(before: dict[str, Any], after: dict[str, Any]) -> list[Operation]:
    """The operations of RFC 6902 (add, remove, replace) that lead from `before` to `after`.

    Paths are JSON pointers; lists are replaced whole. Empty when both are the same: the order of
    names does not count, the type of a value does (1, 1.0 and true are three). Where the paths
    alone would have more than PATHS_MAX characters, one operation replaces everything.
    """
    operations = []
    characters = 0
    for operation in _changes(before, after, ()):
        characters += len(operation["path"])
        if characters > PATHS_MAX:
            return [{"op": "replace", "path": "", "value": after}]
        operations.append(operation)
    return operations


def pointer(place: Place) -> str:
    """The JSON pointer (RFC 6901) to a place: `/network/servers/0`."""
    return "".join(f"/{str(name).replace('~', '~0').replace('/', '~1')}" for name in place)


def _changes(before: dict[str, Any], after: dict[str, Any], place: Place) -> Iterator[Operation]:
    for name, old in before.items():
        here = (*place, name)
        if name not in after:
            yield {"op": "remove", "path": pointer(here)}
        elif isinstance(old, dict) and isinstance(after[name], dict):
            yield from _changes(old, after[name], here)
        elif not _same(old, after[name]):
            yield {"op": "replace", "path": pointer(here), "value": after[name]}
    for name, new in after.items():
        if name not in before:
            yield {"op": "add", "path": pointer((*place, name)), "value": new}


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return bool(one == other)
