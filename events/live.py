"""Listening to the event log: who may, what they are told of it, and where they catch up."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from events import sinks
from events.filters import EventFilter
from events.kinds import MASS
from events.models import EventLog
from events.news import MASSES, OTHERS, body
from events.selectors import REST_OF_MS, later_slices
from events.serializers import hides_address
from iotflow.lib import json
from iotflow.lib.live.topics import Topic
from iotflow.lib.timeparse import now_ms, to_datetime, to_ms

PAGE = 200


def topic(kinds: Collection[str] | None) -> Topic:
    """What has these kinds of events, or all of them: the masses only where they are wanted."""
    wanted = {MASSES, OTHERS}
    if kinds:
        wanted = {MASSES if kind in MASS else OTHERS for kind in kinds}
    return Topic("events." + "".join(map(str, sorted(wanted))), frozenset(wanted))


@dataclass(frozen=True, slots=True)
class View:
    """What a listener sees: the filters' values, by name, and who looks."""

    viewer: Any
    filters: EventFilter

    def shape(self, text: bytes) -> bytes | None:
        """An event as this viewer is told it; None where they are not."""
        event = json.loads(text)
        return self._told(event) if self._is_wanted(event) else None

    def page(self, after: int) -> tuple[Sequence[tuple[int, bytes]], bool]:
        """Events later than `after` (ms), oldest first; whether there are more. Raises StoreAway.

        No page splits a millisecond, unless it has no other.
        """
        self.filters.queryset = EventLog.objects.visible_to(self.viewer)
        rows: list[EventLog] = []
        with sinks.guarded():
            for low, high in later_slices(after + 1, now_ms() + 1000):
                part = self.filters.qs.order_by("time", "id").between(
                    to_datetime(low), to_datetime(high) + REST_OF_MS
                )
                rows += part[: PAGE + 1 - len(rows)]
                if len(rows) > PAGE:
                    break
        times = [to_ms(row.time) for row in rows]
        cut = len(rows)
        if cut > PAGE:
            cut = next((n for n in range(PAGE, 0, -1) if times[n - 1] < times[n]), PAGE)
        told = [self._told(body(vars(row), row.time)) for row in rows[:cut]]
        return list(zip(times, told, strict=False)), cut < len(rows)

    def _is_wanted(self, event: Mapping[str, Any]) -> bool:
        if not self.viewer.is_staff and event["user_id"] != self.viewer.pk:
            return False
        asked = self.filters.form.cleaned_data.items()
        wanted = {name: value for name, value in asked if value not in (None, "", [])}
        return all(
            event[name] in value if isinstance(value, list) else event[name] == value
            for name, value in wanted.items()
        )

    def _told(self, event: dict[str, Any]) -> bytes:
        if hides_address(event["actor"], self.viewer):
            event["address"] = ""
        return json.dumps(event)
