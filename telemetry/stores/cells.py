"""A value in typed columns: what both stores share of their layout."""

from collections.abc import Iterable
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


class Row(NamedTuple):
    """A value as stored: its time in ms, its measurement and its cell."""

    time: int
    key: str
    cell: Cell


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


def to_reading(time: int, cells: dict[str, Cell]) -> StoredReading | None:
    """The cells of one time as a reading; None when no measurement is among them."""
    metadata = cells.pop(METADATA_KEY, None)
    values = {key: from_cell(cells[key]) for key in sorted(cells) if cells[key].kind is not None}
    if not values:
        return None
    return StoredReading(time, values, None if metadata is None else from_cell(metadata))


def to_readings(rows: Iterable[Row]) -> list[StoredReading]:
    """Rows ordered by time as readings, in their order."""
    cells: dict[int, dict[str, Cell]] = {}
    for row in rows:
        cells.setdefault(row.time, {})[row.key] = row.cell
    readings = (to_reading(time, of_time) for time, of_time in cells.items())
    return [reading for reading in readings if reading is not None]
