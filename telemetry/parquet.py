"""Readings as Parquet: a table that any tool reads with its types.

Imported where Parquet is asked for and not before, for pyarrow is large: 80 MB of memory.

The table has a row for each value (docs/adr/0022), so its columns are the same whatever a device
measures, and a measurement that changes its type or appears late changes nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from iotflow.lib import json
from telemetry.readings import StoredReading, Value

ROW_GROUP = 20_000  # rows that are held until they are written together

# `number` has every number, an integer as the double next to it; `integer` says it exactly. Of the
# last four columns one is not null: the one of the value's type, and for an integer `integer`.
SCHEMA = pa.schema(
    [
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("measurement", pa.string(), nullable=False),
        pa.field("number", pa.float64()),
        pa.field("integer", pa.int64()),
        pa.field("boolean", pa.bool_()),
        pa.field("text", pa.string()),
        pa.field("json", pa.string()),
        pa.field("metadata", pa.string()),
    ]
)


class Parquet:
    """An encoder (telemetry/encoders.py) that gives out each row group when it is full."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(self._sink, SCHEMA, compression="zstd")
        self._waiting: list[Any] = []
        self._rows = 0

    def begin(self) -> bytes:
        return self._sink.take()

    def encode(self, readings: Sequence[StoredReading]) -> bytes:
        if batch := _batch(readings):
            self._waiting.append(batch)
            self._rows += batch.num_rows
        if self._rows >= ROW_GROUP:
            self._write()
        return self._sink.take()

    def end(self) -> bytes:
        self._write()
        self._writer.close()
        return self._sink.take()

    def break_off(self, message: str, cursor: str | None) -> bytes:
        return b""  # without its footer it is no Parquet file

    def _write(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting, SCHEMA)
            self._writer.write_table(table, row_group_size=self._rows)
        self._waiting, self._rows = [], 0


def join(pieces: Sequence[Path], file: IO[bytes]) -> None:
    """Write what the encoder wrote into several files into one, a row group at a time."""
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for piece in pieces:
            with pq.ParquetFile(piece) as source:
                for number in range(source.num_row_groups):
                    table = source.read_row_group(number)
                    writer.write_table(table, row_group_size=table.num_rows)


class _Sink:
    """A file for pyarrow to write to; what was written is taken out again."""

    closed = False

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        written, self._written = b"".join(self._written), []
        return written

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _batch(readings: Sequence[StoredReading]) -> Any:
    rows = [row for reading in readings for row in _rows(reading)]
    if not rows:
        return None
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)


def _rows(reading: StoredReading) -> list[tuple[Any, ...]]:
    metadata = None if reading.metadata is None else json.dumps(reading.metadata).decode()
    return [
        (reading.time, name, *_typed(value), metadata) for name, value in reading.values.items()
    ]


def _typed(value: Value) -> tuple[Any, ...]:
    match value:
        case bool():
            return None, None, value, None, None
        case int():
            return float(value), value, None, None, None
        case float():
            return value, None, None, None, None
        case str():
            return None, None, None, value, None
        case _:
            return None, None, None, None, json.dumps(value).decode()
