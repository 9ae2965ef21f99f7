"""Whether what a rule says makes sense together."""

from collections.abc import Callable
from typing import Any

from telemetry.alerting import weekly
from telemetry.alerting.machine import CHANGES_MAX, RELATIVE, SCORE_MAX, Kind
from telemetry.readings import NAME, Errors
from telemetry.windows import NO_ZONE, zones

NEEDED = {
    Kind.ABOVE: ("threshold",),
    Kind.BELOW: ("threshold",),
    Kind.OUTSIDE: ("low", "high"),
    Kind.RATE: ("threshold",),
    Kind.FLAPPING: ("threshold", "within_seconds"),
    Kind.ABSENCE: ("expected_seconds", "missed"),
    Kind.ANOMALY: ("threshold",),
}
ALL = ("threshold", "low", "high", "within_seconds", "expected_seconds", "missed")
# Kinds that may be about an aggregation; the last one is about nothing else.
SUMMED_UP = (Kind.ABOVE, Kind.BELOW, Kind.OUTSIDE, Kind.ANOMALY)


def faults(kind: str, value: Callable[[str], Any]) -> Errors:
    """What is wrong, by field; `value` gives what the rule has in a field."""
    errors: Errors = {}
    for name in ALL:
        is_needed = name in NEEDED[Kind(kind)]
        if (value(name) is not None) != is_needed:
            what = "needs it" if is_needed else "has none"
            errors[name] = [f"A rule of kind “{kind}” {what}."]
    measurement = value("measurement")
    if measurement and not NAME.fullmatch(measurement):
        errors["measurement"] = ["This is no name of a measurement."]
    elif kind != Kind.ABSENCE and not measurement:
        errors["measurement"] = ["Which one is it about?"]
    errors |= _window_faults(kind, value) | _mute_faults(value)
    return errors or _band_faults(kind, value)


def _window_faults(kind: str, value: Callable[[str], Any]) -> Errors:
    if value("aggregation") and kind not in SUMMED_UP:
        return {"aggregation": [f"A rule of kind “{kind}” has none."]}
    if kind == Kind.ANOMALY and not value("aggregation"):
        return {"aggregation": [f"A rule of kind “{kind}” needs it."]}
    if bool(value("aggregation")) != bool(value("window")):
        name = "window" if value("aggregation") else "aggregation"
        return {name: ["An aggregation needs its window, and a window its aggregation."]}
    return {}


def _mute_faults(value: Callable[[str], Any]) -> Errors:
    muted_from, muted_until = value("muted_from"), value("muted_until")
    if muted_from and (muted_until is None or muted_until <= muted_from):
        return {"muted_until": ["Must be after muted_from."]}
    zone = value("muted_timezone") or "UTC"
    if zone not in zones():
        return {"muted_timezone": [NO_ZONE]}
    try:
        weekly.parse(value("muted_weekly") or "", zone)
    except ValueError as error:
        return {"muted_weekly": [str(error)]}
    return {}


def _band_faults(kind: str, value: Callable[[str], Any]) -> Errors:
    hysteresis = value("hysteresis") or 0.0
    if kind == Kind.OUTSIDE:
        width = value("high") - value("low")
        if width < 0:
            return {"low": ["Must not be above high."]}
        if 2 * hysteresis > width:
            return {"hysteresis": ["At most half of the band, or nothing would ever be fine."]}
    if kind == Kind.FLAPPING and not 1 <= value("threshold") <= CHANGES_MAX:
        return {"threshold": [f"From 1 to {CHANGES_MAX} changes."]}
    if kind == Kind.ANOMALY and not 1 <= value("threshold") <= SCORE_MAX:
        return {"threshold": [f"A score from 1 to {SCORE_MAX:,}."]}
    if kind in (*RELATIVE, Kind.ANOMALY) and value("threshold") < hysteresis:
        return {"hysteresis": ["At most the threshold, or nothing would ever be fine."]}
    return {}
