"""Events as lines of a file, as they are read."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from events.models import EventLog
from iotflow.lib import json
from iotflow.lib.errors import StoreAway
from iotflow.lib.formula import harmless
from iotflow.lib.timeparse import format_datetime

FORMATS = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}
NAMES = (
    *("id", "time", "kind", "severity", "message", "actor"),
    *("user_id", "device_id", "address", "request_id", "payload"),
)


def lines(form: str, events: Iterable[EventLog]) -> Iterator[bytes]:
    """The file; its last line says so where the event log went away before its end."""
    if form == "csv":
        yield _row(NAMES)
    try:
        for event in events:
            fields = _fields(event)
            yield json.dumps(fields) + b"\n" if form == "ndjson" else _row(_cells(fields))
    except StoreAway as error:
        text = f"error: {error}"
        yield json.dumps({"error": text}) + b"\n" if form == "ndjson" else _row([text])


def _fields(event: EventLog) -> dict[str, Any]:
    fields = {name: getattr(event, name) for name in NAMES}
    return {**fields, "id": str(event.id), "time": format_datetime(event.time)}


def _cells(fields: dict[str, Any]) -> list[str]:
    texts = {**fields, "payload": json.dumps(fields["payload"]).decode()}
    return ["" if text is None else harmless(str(text)) for text in texts.values()]


def _row(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()
