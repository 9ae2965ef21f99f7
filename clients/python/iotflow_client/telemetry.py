"""Telemetry of many readings, sent and read back: the same for a device and for a user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from iotflow_client.connection import Connection, Retry, understood
from iotflow_client.errors import ValidationFailed
from iotflow_client.readings import (
    Latest,
    StoredReading,
    Verdict,
    all_refused,
    batch_body,
    latest,
    stored_reading,
    verdicts,
)
from iotflow_client.times import Time, asked

PAGE = 1000


def send_batch(
    connection: Connection, path: str, encoded: Sequence[bytes], retry: Retry | None = None
) -> list[Verdict]:
    """One call with readings as `encode` makes them; a verdict for each, in their order."""
    try:
        answer = connection.post(path, batch_body(encoded), retry=retry)
    except ValidationFailed as error:
        return all_refused(error, len(encoded))
    return verdicts(answer.body, len(encoded))


def read_latest(connection: Connection, device_id: int) -> Latest:
    return understood(latest, connection.get(f"/telemetry/{device_id}/latest"))


def read_history(
    connection: Connection,
    device_id: int,
    *,
    start: Time,
    end: Time | None,
    limit: int | None,
    fields: Iterable[str],
    order: str,
) -> Iterator[StoredReading]:
    """The readings one by one, `limit` of them or all; a page is asked for when it is needed."""
    query: dict[str, str | int] = {"start_time": asked(start), "order": order}
    if end is not None:
        query["end_time"] = asked(end)
    if isinstance(fields, str):
        raise TypeError("fields is a list of names.")
    if names := ",".join(fields):
        query["fields"] = names
    left = limit
    while left is None or left > 0:
        query["limit"] = PAGE if left is None else min(PAGE, left)
        answer = connection.get(f"/telemetry/{device_id}", query=query)
        page, cursor = understood(_page, answer)
        yield from page
        if cursor is None:
            return
        query["cursor"] = cursor
        left = None if left is None else left - len(page)


def _page(answer: dict[str, Any]) -> tuple[list[StoredReading], str | None]:
    cursor = answer["next_cursor"]
    return [stored_reading(row) for row in answer["data"]], None if cursor is None else str(cursor)
