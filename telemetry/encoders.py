"""Readings as bytes of a file, page by page: CSV for spreadsheets, NDJSON without loss.

Parquet is in telemetry/parquet.py, apart, because its library is large.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Protocol

from iotflow.lib import json
from iotflow.lib.errors import error_body
from iotflow.lib.formula import harmless
from iotflow.lib.timeparse import format_ms
from telemetry.readings import StoredReading, Value
from telemetry.selectors import reading_body


class Encoder(Protocol):
    """A file in the making: what to write at its beginning, for each page, and at its end."""

    def begin(self) -> bytes: ...

    def encode(self, readings: Sequence[StoredReading]) -> bytes:
        """These readings; maybe b"", and more with a later call."""

    def end(self) -> bytes: ...

    def break_off(self, message: str, cursor: str | None) -> bytes:
        """Instead of the end, so that the file does not look complete."""


class Ndjson:
    """A JSON object a line, as the history has it; every value comes back as what it was."""

    def begin(self) -> bytes:
        return b""

    def encode(self, readings: Sequence[StoredReading]) -> bytes:
        return b"".join(json.dumps(reading_body(reading)) + b"\n" for reading in readings)

    def end(self) -> bytes:
        return b""

    def break_off(self, message: str, cursor: str | None) -> bytes:
        return json.dumps({**error_body(503, message), "cursor": cursor}) + b"\n"


class Csv:
    """A column for each of `names`, in their order; no metadata."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)

    def begin(self) -> bytes:
        return _rows([["timestamp", *map(harmless, self._names)]])

    def encode(self, readings: Sequence[StoredReading]) -> bytes:
        return _rows(self._cells(reading) for reading in readings)

    def end(self) -> bytes:
        return b""

    def break_off(self, message: str, cursor: str | None) -> bytes:
        hint = "" if cursor is None else f" Go on with cursor={cursor}"
        return _rows([[f"error: {message}{hint}"]])

    def _cells(self, reading: StoredReading) -> list[str]:
        find = reading.values.get
        return [format_ms(reading.time), *[_cell(find(name)) for name in self._names]]


def _rows(rows: Iterable[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Value | None) -> str:
    if value is None:
        return ""
    return harmless(value) if isinstance(value, str) else json.dumps(value).decode()
