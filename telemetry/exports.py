"""A device's readings as a file: CSV for spreadsheets, NDJSON without loss; page by page.

The server ends a response properly whatever happens to its body. So an export that breaks off says
so in its last line, and where to go on; else it would look complete.
"""

import csv
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

from django.db import DatabaseError

from iotflow.lib import json
from iotflow.lib.errors import StoreAway, error_body
from iotflow.lib.timeparse import format_ms
from telemetry.latest import latest_of
from telemetry.models import RangeDeletion
from telemetry.parameters import ExportParameters
from telemetry.readings import HistoryQuery, StoredReading, Value
from telemetry.selectors import reading_body
from telemetry.stores import telemetry_store

logger = logging.getLogger(__name__)
PAGE = 1000
# A spreadsheet takes a text that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

Page = list[StoredReading]


def export(device_id: int, epoch: int, asked: ExportParameters) -> Iterator[bytes]:
    """Chunks of the file; the first page is read before this returns. Raises StoreAway."""
    pages = _pages(device_id, asked)
    pages = chain([next(pages)], pages)
    if asked.format == "ndjson":
        return _lines(pages, _ndjson, _ndjson_error)
    names = sorted(asked.fields or _measurements(device_id, epoch))
    header = _csv_row(["timestamp", *map(_harmless, names)])
    return chain([header], _lines(pages, lambda page: _csv(page, names), _csv_error))


def _measurements(device_id: int, epoch: int) -> set[str]:
    """All there are; those of a deleted range that is not settled are still among the old ones."""
    unsettled = RangeDeletion.objects.filter(device_id=device_id).values_list("epoch", flat=True)
    places = [(device_id, one) for one in {epoch, *unsettled}]
    return {name for values in latest_of(places).values() for name in values}


def _pages(device_id: int, asked: ExportParameters) -> Iterator[Page]:
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


def _lines(
    pages: Iterable[Page], encode: Callable[[Page], bytes], say: Callable[[str], bytes]
) -> Iterator[bytes]:
    last = ""
    try:
        for page in pages:
            yield encode(page)
            last = f" after {format_ms(page[-1].time)}" if page else last
    except (StoreAway, DatabaseError) as error:
        logger.warning("an export broke off: %s", error)
        yield say(f"The export broke off{last}: the telemetry store did not answer in time.")


def _ndjson(page: Page) -> bytes:
    return b"".join(json.dumps(reading_body(reading)) + b"\n" for reading in page)


def _ndjson_error(message: str) -> bytes:
    return json.dumps(error_body(503, message)) + b"\n"


def _csv(page: Page, names: list[str]) -> bytes:
    return b"".join(
        _csv_row([format_ms(reading.time), *(_cell(reading.values.get(name)) for name in names)])
        for reading in page
    )


def _csv_error(message: str) -> bytes:
    return _csv_row([f"error: {message}"])


def _csv_row(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


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
