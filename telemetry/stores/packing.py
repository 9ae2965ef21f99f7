"""Values as Cassandra's protocol carries them (native_protocol_v4.spec, section 6).

The driver finds a type for every value and asks it; for the few types that readings are written
with that takes several times as long as packing them.
"""

import struct
from collections.abc import Mapping
from typing import Any

from cassandra.query import UNSET_VALUE, BoundStatement

from iotflow.lib import json
from telemetry.readings import Value

DAY_ZERO = 2**31  # a date counts from there

long = struct.Struct(">q").pack  # a timestamp too, in ms
integer = struct.Struct(">i").pack
short = struct.Struct(">h").pack
_double = struct.Struct(">d").pack
_unsigned = struct.Struct(">I").pack
ABSENT = integer(-1)
UNSET = UNSET_VALUE
# The parts of a Cell: kind, double, long, bool, text.
Parts = tuple[bytes, Any, Any, Any, Any]


def bound(prepared: Any, *values: bytes | object) -> BoundStatement:
    """The statement with values that are packed already."""
    statement = BoundStatement(prepared)
    statement.values = list(values)
    return statement


def date(number: int) -> bytes:
    """Days since 1970, or another number in a column of dates."""
    return _unsigned(number + DAY_ZERO)


def cell(value: Value, unset: Any = UNSET) -> Parts:
    """A value in the column of its type; `unset` in the others.

    Raises struct.error for an integer beyond 64 bits, ValueError for half a surrogate pair.
    """
    match value:
        case bool():
            return b"bool", unset, unset, b"\1" if value else b"\0", unset
        case int():
            return b"int", unset, long(value), unset, unset
        case float():
            return b"float", _double(value), unset, unset, unset
        case str():
            return b"text", unset, unset, unset, value.encode()
        case _:
            return b"json", unset, unset, unset, json.dumps(value)


def latest_value(written: int, value: Value) -> bytes:
    """(written, kind, double, long, bool, text) as one tuple."""
    parts = (long(written), *cell(value, None))
    return b"".join(ABSENT if part is None else integer(len(part)) + part for part in parts)


def texts(values: Mapping[str, bytes]) -> bytes:
    """A map of texts by text."""
    parts = [integer(len(values))]
    for key, value in values.items():
        name = key.encode()
        parts += (integer(len(name)), name, integer(len(value)), value)
    return b"".join(parts)
