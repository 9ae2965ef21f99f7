"""Listening to the event log: who may, what they are told of it, and where they catch up."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from events import sinks
from events.filters import EventFilter
from events.kinds import MASS
from events.models import EventLog
from events.news import MASSES, NAMES, OTHERS, body
from events.selectors import REST_OF_MS, later_slices
from events.serializers import hides_address
from iotflow.lib import json
from iotflow.lib.live.hub import Topic
from iotflow.lib.timeparse import now_ms, to_datetime, to_ms

PAGE = 200
Shape = Callable[[bytes], bytes | None]


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
        if not self.viewer.is_staff and event["user_id"] != self.viewer.pk:
            return None
        for name, wanted in self.filters.form.cleaned_data.items():
            if wanted in (None, "", []):
                continue
            choices = wanted if isinstance(wanted, list) else [wanted]
            if event[name] not in choices:
                return None
        if hides_address(event["actor"], self.viewer):
            event["address"] = ""
        return json.dumps(event)

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
        told = [(to_ms(row.time), self._body(row)) for row in rows]
        if len(told) <= PAGE:
            return told, False
        cut = next((n for n in range(PAGE, 0, -1) if told[n - 1][0] < told[n][0]), PAGE)
        return told[:cut], True

    def _body(self, event: EventLog) -> bytes:
        text = body({"id": event.id, **{name: getattr(event, name) for name in NAMES}}, event.time)
        return self.shape(text) or text
