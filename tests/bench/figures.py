"""From what was measured to what is said of it: medians of rounds, ratios."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tests.bench.wrk import Figures

MEDIANS = ("per_second", "p50", "p95", "p99", "server_us", "load_us", "busy")
SUMMED = ("requests", "errors")
Summaries = Mapping[str, Mapping[str, Any]]

# By name of the ratio: of what over what, in which figure.
RATIOS = {
    "submit_over_floor": ("submit", "floor", "per_second"),
    "submit_with_rules_over_submit": ("submit with rules", "submit", "per_second"),
    "latest_over_floor": ("latest cached", "floor", "per_second"),
    "latest_uncached_over_floor": ("latest uncached", "floor", "per_second"),
    "history_over_floor": ("history", "floor", "per_second"),
    "aggregate_30d_over_24h": ("aggregate 30 d", "aggregate 24 h", "p50"),
    "aggregate_30d_over_raw": ("aggregate 30 d", "aggregate 30 d from raw", "p50"),
}


def summary(rounds: Sequence[Figures], readings: int = 0) -> dict[str, Any]:
    """The median of each figure over the rounds, the sum of requests and errors, every round."""
    found: dict[str, Any] = {
        name: round(median(getattr(figures, name) for figures in rounds), 2) for name in MEDIANS
    }
    found |= {name: sum(getattr(figures, name) for figures in rounds) for name in SUMMED}
    if readings > 1:
        found["readings_per_second"] = round(found["per_second"] * readings, 1)
    return {**found, "rounds": [figures.as_json() for figures in rounds]}


def ratios(
    cases: Summaries, alone: Summaries, exports: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Those that can be told from what was measured."""
    found = {
        name: _paired(_rates(cases[above], figure), _rates(cases[below], figure))
        for name, (above, below, figure) in RATIOS.items()
        if above in cases and below in cases
    }
    if "batch" in cases and "driver batch" in alone:
        batches = cases["batch"]
        readings = batches["readings_per_second"] / batches["per_second"]
        rates = [readings * rate for rate in _rates(batches, "per_second")]
        found["batch_over_driver"] = _paired(rates, alone["driver batch"]["rounds"])
    for form in dict.fromkeys(export["format"] for export in exports):
        peaks = [export["peak_mib"] for export in exports if export["format"] == form]
        found[f"export_{form}_memory"] = peaks[-1] / peaks[0]
    return {name: round(value, 3) for name, value in found.items()}


def _rates(case: Mapping[str, Any], figure: str) -> list[float]:
    return [one[figure] for one in case["rounds"]]


def _paired(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of what each round says: a machine is the same for seconds, not for minutes.

    Of the two medians, where they were not measured in the same rounds.
    """
    if len(above) != len(below):
        return median(above) / median(below)
    return median(a / b for a, b in zip(above, below, strict=True))


def ratio(above: Mapping[str, Any], below: Mapping[str, Any]) -> float:
    """Of the rates of two cases that took turns."""
    return round(_paired(_rates(above, "per_second"), _rates(below, "per_second")), 4)


def dearer(sizes: Sequence[Mapping[str, Any]], figure: str) -> dict[str, float]:
    """By case, a rate at the first size over that at the last: above 1 where it costs more."""
    first, last = sizes[0]["cases"], sizes[-1]["cases"]
    return {
        name: round(case[figure] / max(last[name][figure], 1e-9), 3) for name, case in first.items()
    }
