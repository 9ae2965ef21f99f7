"""Ranges of time as clients ask for them; each bad one is a 400."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from iotflow.lib.timeparse import HINT, LATEST, NotATime, now_ms, parse_ms

NO_END = LATEST


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time as asked for: its bounds in ms, both included, and its texts."""

    start: int
    end: int
    start_text: str
    end_text: str


def parse_span(query: QueryDict, *, slack_ms: int = NO_END) -> Span:
    """`start_time` (default -24h) and `end_time` (default now); a 400 names what is wrong.

    Without an `end_time` what lies up to `slack_ms` ahead of now belongs to the range.
    """
    start_text, end_text = query.get("start_time") or "-24h", query.get("end_time") or "now"
    slack_ms = 0 if query.get("end_time") else slack_ms
    times = {"start_time": start_text, "end_time": end_text}
    return Span(*parse_bounds(times, slack_ms=slack_ms), start_text, end_text)


def parse_bounds(
    times: Mapping[str, Any], *, slack_ms: int = 0, missing: str = HINT
) -> tuple[int, int]:
    """The start and the end in ms, from their values by name, in this order; `slack_ms` on top.

    Raises ValidationError (400) with every name at fault, `missing` where there is no value.
    """
    now, bounds, errors = now_ms(), [], {}
    for name, value in times.items():
        try:
            bounds.append(parse_ms(value, now))
        except NotATime as error:
            errors[name] = [missing if value in (None, "") else str(error)]
    if errors:
        raise ValidationError(errors)
    start, end = bounds[0], min(bounds[1] + slack_ms, LATEST)
    if start > end:
        first, last = times
        raise ValidationError({first: [f"Must not be after {last}."]})
    return start, end
