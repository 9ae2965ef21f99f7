"""A device's readings as a file, read page by page: it takes the same memory however many.

The server ends a response properly whatever happens to its body. So an export that breaks off says
so in its last line, and where to go on; else it would look complete. A Parquet file has no lines:
without its footer it cannot be read at all.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from django.db import DatabaseError

from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import format_ms
from telemetry.cursors import HistoryCursor
from telemetry.encoders import Csv, Encoder, Ndjson
from telemetry.latest import latest_of
from telemetry.models import RangeDeletion
from telemetry.parameters import ExportParameters
from telemetry.readings import HistoryPage, HistoryQuery
from telemetry.stores import telemetry_store

logger = logging.getLogger(__name__)
PAGE_FIRST, PAGE, PAGE_VALUES = 100, 1000, 10_000


def export(device_id: int, epoch: int, asked: ExportParameters) -> Iterator[bytes]:
    """Chunks of the file; the first page is read before this returns. Raises StoreAway."""
    query = _query(device_id, asked)
    found = pages(query)
    found = chain([next(found)], found)
    encoder = encoder_of(asked.format, asked.fields, device_id, epoch)
    return filter(None, _chunks(found, encoder, query))


def pages(query: HistoryQuery) -> Iterator[HistoryPage]:
    """All pages of the query, its `limit` apart: of about PAGE_VALUES values each.

    Readings may have a hundred values or one. Raises StoreAway.
    """
    query = replace(query, limit=PAGE_FIRST)
    while True:
        page = telemetry_store().history(query)
        yield page
        if page.next_after is None:
            return
        values = sum(len(reading.values) for reading in page.readings)
        limit = PAGE_VALUES * len(page.readings) // values if values else PAGE
        query = replace(query, after=page.next_after, limit=min(max(limit, PAGE_FIRST), PAGE))


def encoder_of(wanted: str, fields: frozenset[str], device_id: int, epoch: int) -> Encoder:
    """The encoder of a format of parameters.FORMATS. Raises StoreAway."""
    if wanted == "csv":
        return Csv(sorted(fields or measurements(device_id, epoch)))
    if wanted == "ndjson":
        return Ndjson()
    from telemetry.parquet import Parquet  # a large library, for those who want it

    return Parquet()


def measurements(device_id: int, epoch: int) -> set[str]:
    """All there are; those of a deleted range that is not settled are still among the old ones."""
    unsettled = RangeDeletion.objects.filter(device_id=device_id).values_list("epoch", flat=True)
    places = [(device_id, one) for one in {epoch, *unsettled}]
    return {name for values in latest_of(places).values() for name in values}


def _query(device_id: int, asked: ExportParameters) -> HistoryQuery:
    start, end, after = asked.span.start, asked.span.end, None
    if asked.cursor is not None:
        start, end, after = asked.cursor.start, asked.cursor.end, asked.cursor.after
    return HistoryQuery(
        device_id=device_id,
        start=start,
        end=end,
        limit=PAGE,
        descending=asked.descending,
        after=after,
        fields=asked.fields,
    )


def _chunks(found: Iterable[HistoryPage], encoder: Encoder, query: HistoryQuery) -> Iterator[bytes]:
    after = query.after
    try:
        yield encoder.begin()
        for page in found:
            yield encoder.encode(page.readings)
            after = page.next_after
        yield encoder.end()
    except (StoreAway, DatabaseError) as error:
        logger.warning("an export broke off: %s", error)
        last, cursor = "", None
        if after is not None:
            last = f" after {format_ms(after)}"
            cursor = HistoryCursor(query.descending, query.start, query.end, after).encode()
        message = f"The export broke off{last}: the telemetry store did not answer in time."
        yield encoder.break_off(message, cursor)
