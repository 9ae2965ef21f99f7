"""A device's readings as a file: CSV for spreadsheets, NDJSON without loss; page by page."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import replace

from iotflow.lib import json
from iotflow.lib.timeparse import format_ms
from telemetry.latest import latest
from telemetry.parameters import ExportParameters
from telemetry.readings import HistoryQuery, StoredReading, Value
from telemetry.selectors import reading_body
from telemetry.stores import telemetry_store

PAGE = 1000
# A spreadsheet takes a text that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(device_id: int, epoch: int, asked: ExportParameters) -> Iterator[bytes]:
    """Chunks of the file; the first page is read before this returns. Raises StoreAway."""
    pages = _pages(device_id, asked)
    first = next(pages)
    if asked.format == "ndjson":
        return _ndjson(first, pages)
    return _csv(sorted(asked.fields or latest(device_id, epoch)), first, pages)


def _pages(device_id: int, asked: ExportParameters) -> Iterator[list[StoredReading]]:
    query = HistoryQuery(
        device_id=device_id,
        start=asked.span.start,
        end=asked.span.end,
        limit=PAGE,
        descending=asked.descending,
        fields=asked.fields,
    )
    while True:
        page = telemetry_store().history(query)
        yield page.readings
        if page.next_after is None:
            return
        query = replace(query, after=page.next_after)


def _ndjson(first: list[StoredReading], pages: Iterable[list[StoredReading]]) -> Iterator[bytes]:
    for page in _all(first, pages):
        yield b"".join(json.dumps(reading_body(reading)) + b"\n" for reading in page)


def _csv(
    names: list[str], first: list[StoredReading], pages: Iterable[list[StoredReading]]
) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["timestamp", *(_harmless(name) for name in names)])
    for page in _all(first, pages):
        for reading in page:
            cells = (_cell(reading.values.get(name)) for name in names)
            writer.writerow([format_ms(reading.time), *cells])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()


def _all(
    first: list[StoredReading], pages: Iterable[list[StoredReading]]
) -> Iterator[list[StoredReading]]:
    yield first
    yield from pages


def _cell(value: Value | None) -> str:
    match value:
        case None:
            return ""
        case str():
            return _harmless(value)
        case _:
            return json.dumps(value).decode()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text
