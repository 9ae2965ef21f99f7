"""A value in typed columns: what both stores share of their layout."""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from iotflow.lib import json
from telemetry.readings import StoredReading, Value

METADATA_KEY = ""  # no measurement can have it


class Cell(NamedTuple):
    """`kind` names the column that counts: float, int, bool, text or json (in the text column).

    Where it is None the value has expired: what is left is that of another type, written before
    under a longer retention.
    """

    kind: str | None
    double_value: float | None = None
    long_value: int | None = None
    bool_value: bool | None = None
    text_value: str | None = None


def to_cell(value: Value) -> Cell:
    match value:
        case bool():
            return Cell("bool", bool_value=value)
        case int():
            return Cell("int", long_value=value)
        case float():
            return Cell("float", double_value=value)
        case str():
            return Cell("text", text_value=value)
        case _:
            return Cell("json", text_value=json.dumps(value).decode())


def from_cell(cell: Cell) -> Any:
    match cell.kind:
        case "bool":
            return cell.bool_value
        case "int":
            return cell.long_value
        case "float":
            return cell.double_value
        case "text":
            return cell.text_value
        case _:
            return json.loads(cell.text_value or "null")


def to_reading(
    time: int, rows: Iterable[Sequence[Any]], fields: Collection[str] = ()
) -> StoredReading | None:
    """Rows (time, key, then a Cell) of one time, by name, as a reading; `fields` of it, if any.

    None when no measurement is among them.
    """
    values: dict[str, Value] = {}
    metadata = None
    # As from_cell does, which is a call and a Cell for each of thousands.
    for _, key, kind, double_value, long_value, bool_value, text_value in rows:
        if kind == "float":
            value = double_value
        elif kind == "int":
            value = long_value
        elif kind == "text":
            value = text_value
        elif kind == "bool":
            value = bool_value
        elif kind is None:
            continue  # the value has expired, or was deleted; its row has not yet
        else:
            value = json.loads(text_value or "null")
        if key == METADATA_KEY:
            metadata = value
        elif not fields or key in fields:
            values[key] = value
    return StoredReading(time, values, metadata) if values else None


def to_readings(rows: Iterable[Sequence[Any]]) -> list[StoredReading]:
    """Rows (time, key, then a Cell) ordered by time as readings, in their order."""
    groups = groupby(rows, key=itemgetter(0))
    readings = (to_reading(time, sorted(of_time, key=itemgetter(1))) for time, of_time in groups)
    return [reading for reading in readings if reading is not None]
