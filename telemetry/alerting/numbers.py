"""Whether what a rule says makes sense together."""

from collections.abc import Callable
from typing import Any

from telemetry.alerting.machine import Kind
from telemetry.readings import NAME, Errors

NUMBERS = {
    Kind.ABOVE: ("threshold",),
    Kind.BELOW: ("threshold",),
    Kind.OUTSIDE: ("low", "high"),
    Kind.RATE: ("threshold",),
    Kind.ABSENCE: ("expected_seconds", "missed"),
}
ALL_NUMBERS = ("threshold", "low", "high", "expected_seconds", "missed")


def faults(kind: str, value: Callable[[str], Any]) -> Errors:
    """What is wrong, by field; `value` gives what the rule has in a field."""
    errors: Errors = {}
    needed = NUMBERS[Kind(kind)]
    for name in ALL_NUMBERS:
        if (value(name) is not None) != (name in needed):
            what = "needs it" if name in needed else "has none"
            errors[name] = [f"A rule of kind “{kind}” {what}."]
    measurement = value("measurement")
    if measurement and not NAME.fullmatch(measurement):
        errors["measurement"] = ["This is no name of a measurement."]
    elif kind != Kind.ABSENCE and not measurement:
        errors["measurement"] = ["Which one is it about?"]
    return errors or _hysteresis_faults(kind, value)


def _hysteresis_faults(kind: str, value: Callable[[str], Any]) -> Errors:
    hysteresis = value("hysteresis") or 0.0
    if hysteresis < 0:
        return {"hysteresis": ["Must not be negative."]}
    if kind == Kind.OUTSIDE:
        width = value("high") - value("low")
        if width < 0:
            return {"low": ["Must not be above high."]}
        if 2 * hysteresis > width:
            return {"hysteresis": ["At most half of the band, or nothing would ever be fine."]}
    if kind == Kind.RATE and value("threshold") < hysteresis:
        return {"hysteresis": ["At most the rate, or nothing would ever be fine."]}
    return {}
