"""NDJSON as an export writes it, turned into readings, a line at a time."""

from collections.abc import Callable, Iterator
from datetime import tzinfo
from typing import IO, Any

from iotflow.lib import json
from iotflow.lib.timeparse import NotATime
from telemetry.importing import BadRow, Row, lines, parse_time, reasons
from telemetry.readings import metadata_errors, value_errors


class NdjsonFile:
    """A file of such lines, open for one pass."""

    def __init__(
        self,
        file: IO[bytes],
        *,
        zone: tzinfo,
        advance: Callable[[int], object] = lambda size: None,
    ) -> None:
        """`zone` is that of times that name none; `advance` is told of every line's bytes."""
        self._lines = lines(file, advance)
        self._zone = zone

    def __iter__(self) -> Iterator[Row | BadRow]:
        for number, text in enumerate(self._lines, start=1):
            if text.strip():
                yield parse_line(number, text, self._zone)


def parse_line(number: int, text: str, zone: tzinfo) -> Row | BadRow:
    """The line as a reading; a BadRow for what is refused of a device too, its clock apart."""
    try:
        body = json.loads(text)
    except ValueError as error:
        return BadRow(number, f"no JSON: {error}")
    if not isinstance(body, dict) or not isinstance(body.get("measurements"), dict):
        return BadRow(number, _no_reading(body))
    values, metadata = body["measurements"], body.get("metadata")
    if errors := value_errors(values) | metadata_errors(metadata):
        return BadRow(number, reasons(errors))
    try:
        time, doubt = parse_time(str(body.get("timestamp", "")), zone)
    except NotATime as error:
        return BadRow(number, str(error))
    return Row(number, time, values, doubt, metadata)


def _no_reading(body: Any) -> str:
    if isinstance(body, dict) and "error" in body:
        return str(body.get("message"))  # the last line of an export that broke off
    return "no object with “measurements”"
