"""Parquet turned into readings: what an export wrote, or any table with a column of times."""

from collections.abc import Callable, Iterator, Mapping
from datetime import tzinfo
from itertools import groupby
from math import isnan
from operator import itemgetter
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from iotflow.lib import json
from iotflow.lib.timeparse import EARLIEST, EPOCH, LATEST, MILLISECOND, NotATime
from telemetry.importing import (
    BadFile,
    BadRow,
    Row,
    layout,
    listed,
    local_time,
    parse_time,
    reasons,
)
from telemetry.parquet import SCHEMA
from telemetry.readings import Value, metadata_errors, value_errors

ROWS = 2000
Cells = tuple[Any, ...]


class ParquetFile:
    """A Parquet file, open for one pass. Raises BadFile, also on the way.

    Rows are counted from 1; of an export a reading is several of them, told by the first.
    """

    def __init__(
        self,
        file: IO[bytes],
        *,
        time: str | None,
        zone: tzinfo,
        mapping: Mapping[str, str] | None = None,
        advance: Callable[[int], object] = lambda size: None,
    ) -> None:
        """As CsvFile; without `time` it has to be an export."""
        self._size = file.seek(0, 2)
        file.seek(0)
        try:
            self._file = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise BadFile(f"It is no Parquet file, or not a whole one: {error}") from error
        self._advance = advance
        schema = self._file.schema_arrow
        if time is None:
            self._columns = _exported(schema)
            self._rows = self._exported_rows
            self._time: Callable[[Any], tuple[int, str]] = _instant
        else:
            found = layout(schema.names, time, mapping)
            self._columns = [schema.names[column] for column, _ in found.measurements]
            self._names = [name for _, name in found.measurements]
            _check_types([schema.field(column) for column, _ in found.measurements])
            self._columns.append(schema.names[found.time])
            self._time = _reader_of(schema.field(found.time).type, zone)
            self._rows = self._table_rows

    def __iter__(self) -> Iterator[Row | BadRow]:
        return self._rows()

    def _exported_rows(self) -> Iterator[Row | BadRow]:
        """Rows of one time, which an export writes one after another, as a reading."""
        number = 1
        for time, group in groupby(self._cells(), key=itemgetter(0)):
            rows = list(group)
            yield self._reading(number, time, rows)
            number += len(rows)

    def _table_rows(self) -> Iterator[Row | BadRow]:
        for number, (*cells, time) in enumerate(self._cells(), start=1):
            values = {
                name: value
                for name, value in zip(self._names, cells, strict=True)
                if value is not None and not (isinstance(value, float) and isnan(value))
            }
            yield self._row(number, time, values)

    def _cells(self) -> Iterator[Cells]:
        """The columns of each row, times as milliseconds or as what else they are."""
        total = max(self._file.metadata.num_rows, 1)
        try:
            for batch in self._file.iter_batches(batch_size=ROWS, columns=self._columns):
                columns = [batch.column(name) for name in self._columns]
                yield from zip(*map(_values, columns), strict=True)
                self._advance(self._size * batch.num_rows // total)
        except (pa.ArrowException, OSError) as error:
            raise BadFile(f"It cannot be read to its end: {error}") from error

    def _reading(self, number: int, time: int, rows: list[Cells]) -> Row | BadRow:
        try:
            values = {cells[1]: _value(*cells[2:7]) for cells in rows}
            metadata = None if rows[0][7] is None else json.loads(rows[0][7])
        except ValueError as error:
            return BadRow(number, f"no JSON: {error}")
        return self._row(number, time, values, metadata)

    def _row(
        self, number: int, time: Any, values: dict[str, Any], metadata: Any = None
    ) -> Row | BadRow:
        if not values:
            return BadRow(number, "no value in any column")
        if errors := value_errors(values) | metadata_errors(metadata):
            return BadRow(number, reasons(errors))
        try:
            ms, doubt = self._time(time)
        except NotATime as error:
            return BadRow(number, str(error))
        return Row(number, ms, values, doubt, metadata)


def _exported(schema: Any) -> list[str]:
    wrong = [
        field.name
        for field in SCHEMA
        if field.name not in schema.names or schema.field(field.name).type != field.type
    ]
    if wrong:
        raise BadFile(
            "It is no export. Name the column of times with --time; its columns are: "
            f"{listed(schema.names)}."
        )
    return list(SCHEMA.names)


def _check_types(fields: list[Any]) -> None:
    for field in fields:
        if not _is_value(field.type):
            raise BadFile(
                f"Column “{field.name}” has type {field.type}, which is no measurement's. Name "
                "the columns to import with --map COLUMN=MEASUREMENT."
            )


def _is_value(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_value(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_value(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_is_value(field.type) for field in kind)
    return bool(
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_null(kind)
    )


def _values(column: Any) -> list[Any]:
    """A column's values; instants and local times alike as milliseconds."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64())
    return list(column.to_pylist())


def _reader_of(kind: Any, zone: tzinfo) -> Callable[[Any], tuple[int, str]]:
    """What turns a column's value into milliseconds and what is in doubt. It raises NotATime."""
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return _instant
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return lambda ms: _local(ms, zone)
    return lambda value: parse_time("" if value is None else str(value), zone)


def _instant(ms: int | None) -> tuple[int, str]:
    if ms is None or not EARLIEST <= ms <= LATEST:
        raise NotATime("no time within the years 1 to 9999")
    return ms, ""


def _local(ms: int | None, zone: tzinfo) -> tuple[int, str]:
    try:
        moment = EPOCH.replace(tzinfo=None) + _instant(ms)[0] * MILLISECOND
        at, doubt = local_time(moment, zone)
    except OverflowError as error:
        raise NotATime("no time within the years 1 to 9999") from error
    return _instant(at)[0], doubt


def _value(
    number: float | None, integer: int | None, boolean: bool | None, text: str | None, body: str
) -> Value | None:
    for value in (integer, number, boolean, text):
        if value is not None:
            return value
    return None if body is None else json.loads(body)
