"""Values as Cassandra's protocol carries them (native_protocol_v4.spec, section 6).

The driver finds a type for every value and asks it; for the few types that readings are written
with that takes several times as long as packing them.
"""

import struct
from collections.abc import Mapping
from typing import Any

from cassandra.query import BoundStatement

from iotflow.lib import json
from telemetry.readings import Value

DAY_ZERO = 2**31  # a date counts from there

long = struct.Struct(">q").pack  # a timestamp too, in ms
integer = struct.Struct(">i").pack
short = struct.Struct(">h").pack
_double = struct.Struct(">d").pack
_unsigned = struct.Struct(">I").pack
ABSENT = integer(-1)
EIGHT = integer(8)
# The column of a Cell that holds a value, by its kind.
COLUMNS = {
    "float": "double_value",
    "int": "long_value",
    "bool": "bool_value",
    "text": "text_value",
    "json": "text_value",
}


def bound(prepared: Any, *values: bytes | object) -> BoundStatement:
    """The statement with values that are packed already."""
    statement = BoundStatement(prepared)
    statement.values = list(values)
    return statement


def date(number: int) -> bytes:
    """Days since 1970, or another number in a column of dates."""
    return _unsigned(number + DAY_ZERO)


def cell(value: Value) -> tuple[str, bytes]:
    """The kind of a value, and what its column holds.

    Raises struct.error for an integer beyond 64 bits, ValueError for half a surrogate pair.
    """
    match value:
        case float():
            return "float", _double(value)
        case bool():
            return "bool", b"\1" if value else b"\0"
        case int():
            return "int", long(value)
        case str():
            return "text", value.encode()
        case _:
            return "json", json.dumps(value)


def _around(kind: str) -> tuple[bytes, bytes]:
    place = ["double_value", "long_value", "bool_value", "text_value"].index(COLUMNS[kind])
    return sized(kind.encode()) + place * ABSENT, (3 - place) * ABSENT


def sized(part: bytes) -> bytes:
    return integer(len(part)) + part


AROUND = {kind: _around(kind) for kind in COLUMNS}


def latest_value(written: int, value: Value) -> bytes:
    """(written, kind, double, long, bool, text) as one tuple."""
    kind, packed = cell(value)
    before, after = AROUND[kind]
    return b"".join((EIGHT, long(written), before, integer(len(packed)), packed, after))


def texts(values: Mapping[str, bytes]) -> bytes:
    """A map of texts by text."""
    parts = [integer(len(values))]
    for key, value in values.items():
        name = key.encode()
        parts += (integer(len(name)), name, integer(len(value)), value)
    return b"".join(parts)
