"""docs/benchmarks.md, from the figures alone: the page can be made again from its JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import cases
from tests.bench.ground import ROOT, VAR

PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "benchmarks.json"
Found = Mapping[str, Any]

# By case: what it does, and what the original's documentation says of it.
CASES = {
    "floor": ("`GET` of a view that answers a constant, behind the same middleware", ""),
    "submit": ("`POST /telemetry`: one reading of 3 measurements, with its time", "1000+ writes/s"),
    "submit with rules": ("the same where 3 of 1,000 alert rules are about the device", ""),
    "latest cached": ("`GET /telemetry/{id}/latest` by the device's key", "5000+/s"),
    "latest uncached": ("the same on a server whose entries in Redis end at once", ""),
    "history": ("`GET /telemetry/{id}?limit=100`: the newest 100 of 24 h", "300/s"),
    "batch": ("`POST /telemetry/batch`: 100 readings of one device", ""),
    "bulk": ("`POST /telemetry/bulk`: 100 readings of 10 devices, by a user's token", ""),
    "aggregate 24 h": ("hourly means of one measurement over a day, one request at a time", ""),
    "aggregate 30 d": ("hourly means over 30 days, one request at a time", ""),
    "aggregate 30 d from raw": ("the same before anything was rolled up", ""),
}
ALONE = {
    "driver single": ("the bare driver, 50 readings of as many devices a group; readings/s", ""),
    "driver batch": ("the bare driver, 100 readings of one device a group; readings/s", ""),
    "key check": (
        "keys found good in one thread, 50 in a round trip as the committer does, caches warm",
        "10,000+/s",
    ),
}
RATIOS = {
    "submit_over_floor": "submit ÷ floor, in requests/s",
    "submit_with_rules_over_submit": "submit with rules ÷ submit",
    "latest_over_floor": "latest cached ÷ floor",
    "latest_uncached_over_floor": "latest uncached ÷ floor",
    "history_over_floor": "history ÷ floor",
    "batch_over_driver": "batch ÷ bare driver, in readings/s",
    "aggregate_30d_over_24h": "time of aggregate 30 d ÷ 24 h",
    "aggregate_30d_over_raw": "time of aggregate 30 d ÷ the same from raw",
}
GROWTH = {
    "floor": "the floor, which knows nothing of data: how much the machine itself wavers",
    "submit": "as above",
    "latest cached": "as above",
    "history": "the newest 100 of 24 h, of devices with 100 readings in that day",
    "history, long": "the same of one device that holds a tenth of everything",
    "aggregate 24 h": "hourly means of a day of 100 readings",
    "aggregate 24 h, long": "the same of the device that holds a tenth",
}
HITS = "80–95 %"

INTRO = """\
# Benchmarks

This page is what `make bench` and `make bench-growth` wrote; nobody edits it. The figures behind it are in
[benchmarks.json](benchmarks.json).

```
make bench              # about 10 minutes; starts the four servers with `make services`
make bench QUICK=1      # under 3 minutes: less data, fewer rounds; writes var/bench/latest.json only
make bench-growth       # about 25 minutes: the same at a thousand, a hundred thousand, ten million readings
make bench ARGS="--only submit,latest --workers 2 --threads 64"
```

Load generator, server and the four databases share one machine, and the load is as much as they take. So **ratios
count**: to the floor, a view that does nothing behind the same server and middleware, and to the limit, the bare
driver. Figures by themselves say as much about the machine; they waver by a tenth from run to run, more where others
use it. Cases take turns in rounds, and medians of the rounds are given; a ratio is the median of what each round says
of it. Limits are on, at values that never bind.
The event log was measured on a stand-in that speaks MongoDB's protocol, not on MongoDB. No background worker ran.
"""


def page(bench: Found | None, growth: Found | None) -> str:
    parts = [INTRO]
    if bench:
        parts += [_machine(bench), _requests(bench), _alone(bench), _ratios(bench)]
        parts += [_exports(bench), _caches(bench), _lost(bench)]
    if growth:
        parts.append(_growth(growth))
    if bench:
        parts.append(_versions(bench))
    return "\n".join(part for part in parts if part)


def text(found: Found) -> str:
    """The medians and ratios for a terminal."""
    lines = ["Medians"]
    for name, case in found["cases"].items():
        extra = (
            f" = {case['readings_per_second']:,.0f} readings/s"
            if "readings_per_second" in case
            else ""
        )
        errors = f", {case['errors']} ERRORS" if case["errors"] else ""
        lines.append(
            f"  {name:<26} {case['per_second']:>9,.1f}/s  p50 {case['p50']:.1f} ms, "
            f"server {case['server_us']:,.0f} µs/request{extra}{errors}"
        )
    for name, alone in found["alone"].items():
        lines.append(f"  {name:<26} {alone['per_second']:>9,.0f}/s")
    lines.append("Ratios")
    lines += [f"  {name:<26} {value:.3f}" for name, value in found["ratios"].items()]
    for name, cache in (found["caches"] or {}).items():
        lines.append(f"  hits of {name:<18} {_share(cache['hit_rate'])}")
    readings = found["readings"]
    lines.append(
        f"Of {readings['acknowledged']:,} acknowledged readings {readings['lost']} are lost."
    )
    return "\n".join(lines)


def growth_text(found: Found) -> str:
    lines = ["Times dearer at the last size than at the first"]
    over = found["dearer_over_floor"]
    lines += [
        f"  {name:<26} {times:.2f}  ({over[name]:.2f} over the floor)"
        for name, times in found["dearer"].items()
    ]
    return "\n".join([*lines, f"{found['lost']} acknowledged readings are lost."])


def publish(bench: Found | None = None, growth: Found | None = None) -> str:
    """Write the page and its figures; what is not given stays as it was published before."""
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    figures = {"bench": bench or known.get("bench"), "growth": growth or known.get("growth")}
    made = page(**figures)
    FIGURES.write_text(as_json(figures))
    PAGE.write_text(made)
    return str(PAGE.relative_to(ROOT))


def as_json(found: Any) -> str:
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def publish_latest() -> str:
    """Publish the last runs' figures as they are in var/bench."""
    return publish(_read(VAR / "latest.json"), _read(VAR / "growth.json"))


def _read(path: Path) -> Found | None:
    return json.loads(path.read_text()) if path.exists() else None


def _machine(bench: Found) -> str:
    machine, settings = bench["machine"], bench["settings"]
    quick = " A quick run: less data, fewer rounds." if bench["quick"] else ""
    return f"""\
## What was measured on

{machine["cores"]} cores ({machine["processor"]}), {machine["memory_gib"]} GiB, {machine["system"]};
commit `{bench["commit"]}`, {bench["date"]}, in {bench["seconds"]} seconds. The server: {settings["workers"]} worker(s)
of {settings["threads"]} threads; wrk: {settings["connections"]} connections, {cases.AT_ONCE} for
messages of 100 readings.{quick}
"""


def _requests(bench: Found) -> str:
    rows = []
    for name, (what, original) in CASES.items():
        if case := bench["cases"].get(name):
            readings = (
                f"{case['readings_per_second']:,.0f}" if "readings_per_second" in case else ""
            )
            rows.append(
                (
                    *(name, what, _rate(case["per_second"]), readings),
                    *(f"{case[share]:,.1f}" for share in ("p50", "p95", "p99")),
                    *(case["errors"], f"{case['server_us'] / 1000:,.2f}", original),
                )
            )
    head = (
        *("case", "what it does", "requests/s", "readings/s", "p50 ms", "p95 ms", "p99 ms"),
        *("errors", "server's CPU, ms a request", "the original says"),
    )
    long = (
        f"The aggregates and exports are of one device with {bench['long']:,} readings in 30 days."
    )
    return f"## Requests\n\n{long}\n\n{table(head, rows)}"


def _alone(bench: Found) -> str:
    rows = [
        (name, what, _rate(bench["alone"][name]["per_second"]), original)
        for name, (what, original) in ALONE.items()
        if name in bench["alone"]
    ]
    head = ("case", "what it does", "per second", "the original says")
    return f"## One process by itself\n\n{table(head, rows)}" if rows else ""


def _ratios(bench: Found) -> str:
    rows = [
        (f"`{name}`", RATIOS.get(name, _memory(name)), f"**{value:.3f}**")
        for name, value in bench["ratios"].items()
    ]
    return f"## Ratios\n\n{table(('in the JSON', 'ratio', 'value'), rows)}"


def _memory(name: str) -> str:
    form = name.removeprefix("export_").removesuffix("_memory")
    return f"peak memory of the larger export ÷ the smaller one, {form}"


def _exports(bench: Found) -> str:
    rows = [
        (
            f"{export['readings']:,} as {export['format']}",
            f"{export['seconds']:,.1f}",
            f"{export['readings'] / export['seconds']:,.0f}",
            f"{export['bytes'] / 2**20:,.1f}",
            f"{export['idle_mib']:.0f}",
            f"{export['peak_mib']:.0f}",
        )
        for export in bench["exports"]
    ]
    if not rows:
        return ""
    head = ("export", "seconds", "readings/s", "MiB sent", "MiB of memory before", "at its peak")
    said = "Each from a server of one process that was started for it; memory is its resident set."
    return f"## Exports\n\n{said}\n\n{table(head, rows)}"


def _caches(bench: Found) -> str:
    rows = [
        (name, f"{cache['hits']:,}", f"{cache['misses']:,}", _share(cache["hit_rate"]), HITS)
        for name, cache in (bench["caches"] or {}).items()
    ]
    if not rows:
        return ""
    said = (
        "Of the whole run, as `GET /api/v1/admin/stats` counts them; the server without a cache of "
        "latest\nvalues is not among them. Every device here asks often; where devices ask less "
        "than once an hour, keys hit less."
    )
    head = ("cache", "hits", "misses", "hit rate", "the original says")
    return f"## Cache hits\n\n{said}\n\n{table(head, rows)}"


def _lost(bench: Found) -> str:
    readings = bench["readings"]
    return f"""\
## Nothing acknowledged is lost

{readings["acknowledged"]:,} readings were acknowledged by 201 in this run, and every one was looked for in Cassandra
afterwards by its device and time: **{readings["lost"]} lost**. ({readings["found"]:,} were found: at the end of
each load wrk does not wait for what is under way, which is up to 100 readings for each of its connections.)
"""


def _growth(growth: Found) -> str:
    sizes = growth["sizes"]
    head = ("case", "what it does", *(f"{size['readings']:,}: requests/s" for size in sizes))
    head = (
        *head,
        *(f"{size['readings']:,}: p50 ms" for size in sizes),
        "times dearer",
        "over the floor",
    )
    rows = [
        (
            *(name, what),
            *(_rate(size["cases"][name]["per_second"]) for size in sizes),
            *(f"{size['cases'][name]['p50']:,.1f}" for size in sizes),
            f"**{growth['dearer'][name]:.2f}**",
            f"{growth['dearer_over_floor'][name]:.2f}",
        )
        for name, what in GROWTH.items()
        if name in growth["dearer"]
    ]
    loaded = ", ".join(f"{size['readings']:,} in {size['load_seconds']:,} s" for size in sizes)
    machine, lost = growth["machine"], growth["lost"]
    return f"""\
## Growth

The same requests while more and more is stored: requests/s at the first size over those at the last is how much dearer
they have become; the last column takes both as shares of the floor that took turns with them, for machines that waver.
The smallest size is measured last, when Cassandra is as warm as it was for the largest. Written beforehand, past the
server: {loaded}. What is measured at every size is the same
few devices, with 100 readings in the last day; a tenth of everything is the past of one of them, and other devices
hold the rest.
Commit `{growth["commit"]}`, {growth["date"]}, {machine["cores"]} cores; {lost} acknowledged readings were lost.

{table(head, rows)}"""


def _versions(bench: Found) -> str:
    rows = list(bench["versions"].items())
    return f"## Versions\n\n{table(('what', 'version'), rows)}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def _share(rate: float | None) -> str:
    return "none looked up" if rate is None else f"{100 * rate:.2f} %"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
