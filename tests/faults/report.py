"""docs/reliability.md, from what was found alone."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench import ground, machine, servers
from tests.faults import cases

PAGE = ground.ROOT / "docs" / "reliability.md"
FIGURES = ground.ROOT / "docs" / "reliability.json"
INTRO = """\
# Reliability

This page is what `make test-faults` and `make soak` wrote; nobody edits it. The figures behind it are in
[reliability.json](reliability.json).

The first runs PostgreSQL, Cassandra, Redis, MongoDB's protocol, a server of two workers (granian, as in production) and
a worker, with a proxy before each store and before the server. In each case {devices} devices submit {rate} readings a
second in open loop, half of them at times of their own, the others under an `Idempotency-Key` and plainly by turns,
while their owner writes configurations and registers devices. After {before:.0f} s something is done to a component for
{seconds:.0f} s, then undone, and the load goes on. In the end every answer is held against what the stores have:

- *lost*: acknowledged and not in the history, or not in the feed of the owner; *doubled*: there at two times
- *latest*: devices whose latest value, in the store or as the API tells it, is not their newest reading
- *events*: of acknowledged submissions, configurations and registrations that are missing, or there twice
- *refused*: answered 503 or 429 with `Retry-After`; any other error fails the case
- *longest refusal*: of everything that was refused, in seconds; *recovery*: seconds from the end of the fault until
  a submission is acknowledged again. Nothing is started again for it but what was killed
- *no answer*: requests to a server that is itself killed, frozen or cut off

A submission that is refused is repeated, with the same time or key, until it is acknowledged, or the case fails. Of
those that were sent plainly, *acknowledged* lacks the refused. How long a refusal takes depends on how busy the machine
is with other things, which its load average tells: servers, proxies, clients and whatever else runs there share it.
"""
COLUMNS = (
    "case",
    "submitted",
    "acknowledged",
    "refused",
    "no answer",
    "lost",
    "doubled",
    "latest",
    "events lost",
    "events doubled",
    "longest refusal",
    "recovery",
)
PACKAGES = ("django", "granian", "psycopg2-binary", "scylla-driver", "redis", "pymongo")


def facts() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "processor": f"{machine.processor()}, {servers.cores()} cores",
        "load_average": round(os.getloadavg()[1], 1),
        "versions": {
            "Python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
            "servers": ground.services().get("SERVICES_STACK", "not known"),
        },
    }


def line(result: Any) -> str:
    """One case, for who waits."""
    verdict = "FAILED" if result.complaints else "ok"
    return (
        f"{verdict:<6} {result.name:<40} {result.acknowledged:>5}/{result.submitted:<5} "
        f"refused {result.refused:>5} (longest {result.refusal_max:.2f} s), "
        f"lost {result.lost}, doubled {result.doubled}, events lost {result.events_lost}, "
        f"doubled {result.events_doubled}, recovery {result.recovery:.1f} s"
    )


def keep(part: str, found: Mapping[str, Any], *, is_whole: bool) -> Path:
    """The figures of `cases` or `soak`; of a whole run beside those of the other, as the page."""
    if not is_whole:
        path = ground.VAR / f"faults-{part}.json"
        path.write_text(json.dumps(found, indent=1) + "\n")
        return path
    kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    kept[part] = dict(found)
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(text(kept))
    return PAGE


def text(kept: Mapping[str, Any]) -> str:
    from tests.faults import load, run

    parts = [
        INTRO.format(
            devices=run.DEVICES,
            rate=load.PER_SECOND,
            before=run.BEFORE_SECONDS,
            seconds=run.FAULT_SECONDS,
        )
    ]
    if "cases" in kept:
        parts += [cases_text(kept["cases"])]
    if "soak" in kept:
        parts += [soak_text(kept["soak"])]
    return "\n".join(parts)


def cases_text(found: Mapping[str, Any]) -> str:
    head = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    rows = [_row(case) for case in found["cases"]]
    faults = [f"- *{name}*: {what}" for name, what in cases.FAULTS.items()]
    failed = [
        f"- {case['name']} failed: {complaint[:300]}"
        for case in found["cases"]
        for complaint in case["complaints"]
    ]
    parts = ["## Cases", "", _where(found), "", *head, *rows, *_sum(found["cases"]), ""]
    return "\n".join([*parts, *failed, *([""] if failed else []), *faults, ""])


def soak_text(found: Mapping[str, Any]) -> str:
    loads = [
        f"| {name} | {one['requests']:,} | {one['per_second']:,.0f} | {one['p50']:.1f} "
        f"| {one['p99']:.1f} | {one['errors']} |"
        for name, one in found["loads"].items()
    ]
    memory = [
        f"| {name} | {one['first_third_mib']:.1f} | {one['last_third_mib']:.1f} |"
        for name, one in found["memory"].items()
    ]
    readings = found["readings"]
    return "\n".join(
        [
            "## Soak",
            "",
            f"`make soak`: {found['minutes']:g} minutes at about half of {found['full_rate']:,.0f} "
            "submissions a second, which is what the server took at full load just before.",
            _where(found),
            "",
            "| load | requests | a second | p50, ms | p99, ms | errors |",
            "|---|---|---|---|---|---|",
            *loads,
            "",
            "| memory (RSS) | mean of the first third, MiB | of the last third, MiB |",
            "|---|---|---|",
            *memory,
            "",
            f"{readings['acknowledged']:,} readings acknowledged, {readings['lost']:,} lost. "
            f"Largest queue of the committer seen: {found['queue_max']:,}; most events in the "
            f"outbox: {found['outbox_max']:,}. Memory of the last third over the first, at the "
            f"worst process: {found['growth']:+.1%}.",
            "",
        ]
    )


def _where(found: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    busy = f", load average {found['load_average']}" if "load_average" in found else ""
    return (
        f"Run {found['date']} of commit `{found['commit']}` on {found['processor']}{busy}. "
        f"{versions}."
    )


def _row(case: Mapping[str, Any]) -> str:
    cells = [
        case["name"],
        *(f"{case[name]:,}" for name in COUNTED),
        f"{case['refusal_max']:.2f}" if case["refusal_max"] else "–",
        f"{case['recovery']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


COUNTED = (
    *("submitted", "acknowledged", "refused", "unanswered", "lost", "doubled", "latest_wrong"),
    *("events_lost", "events_doubled"),
)


def _sum(found: list[Mapping[str, Any]]) -> list[str]:
    sums = [f"**{sum(case[name] for case in found):,}**" for name in COUNTED]
    longest = max(case["refusal_max"] for case in found)
    recovery = max(case["recovery"] for case in found)
    cells = [f"**{len(found)} cases**", *sums, f"**{longest:.2f}**", f"**{recovery:.1f}**"]
    return ["| " + " | ".join(cells) + " |"]
