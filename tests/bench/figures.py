"""From what was measured to what is said of it: medians of rounds, ratios."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tests.bench.wrk import Figures

SUMMED = ("requests", "errors")
MEDIANS = ("per_second", "p50", "p95", "p99", "server_us", "load_us", "busy")


def summary(rounds: Sequence[Figures], readings: int = 0) -> dict[str, Any]:
    """The median of each figure over the rounds, the sum of requests and errors, and each round."""
    found: dict[str, Any] = {
        **{
            name: round(median(getattr(figures, name) for figures in rounds), 2) for name in MEDIANS
        },
        **{name: sum(getattr(figures, name) for figures in rounds) for name in SUMMED},
        "rounds": [figures.as_json() for figures in rounds],
    }
    if readings:
        found["readings_per_second"] = round(found["per_second"] * readings, 1)
    return found


def ratios(cases: Mapping[str, Mapping[str, Any]], limit: Mapping[str, float]) -> dict[str, float]:
    """Those that count: of the floor, and of the bare driver. Of cases that were measured."""
    floor = cases["floor"]["per_second"]
    found = {
        f"{short}_over_floor": cases[name]["per_second"] / floor
        for short, name in (
            ("submit", "submit"),
            ("latest", "latest cached"),
            ("latest_uncached", "latest uncached"),
            ("history", "history"),
        )
        if name in cases
    }
    if "batch" in cases and limit.get("batch"):
        found["batch_over_driver"] = cases["batch"]["readings_per_second"] / limit["batch"]
    return {name: round(value, 3) for name, value in found.items()}
