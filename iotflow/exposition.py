"""The text of /metrics: what the processes of this server counted, and what the stores say.

A store is asked within ASK_SECONDS or left out: a scrape never fails for one, and tells most while
one is away.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import accumulate

from django.conf import settings
from django.db import connections
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from devices import notices
from devices.tally import tally
from events import outbox
from events.models import Outbox
from iotflow import __version__, worker
from iotflow.lib import metrics, siblings
from iotflow.lib.metrics import Cells, Family, Histogram, Labels
from iotflow.lib.siblings import Numbers
from telemetry.mqtt import figures

ASK_SECONDS = 1.0
Question = Callable[[], Iterable[Metric]]


def text() -> bytes:
    """Everything, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything())
    return generate_latest(registry)


class _Everything:
    def collect(self) -> Iterator[Metric]:
        numbers = siblings.numbers()
        yield _build()
        for family in metrics.families.values():
            yield _metric(family, _together(family, numbers))
        yield from _processes([one.pid for one in numbers if one.is_live])
        yield from _answers()


# --- What processes count -----------------------------------------------------------------------
def _together(family: Family, numbers: Iterable[Numbers]) -> Cells:
    """The numbers of all processes as one; a state only of those that live."""
    found: dict[Labels, list[Sequence[float]]] = {}
    for one in numbers:
        if one.is_live or family.kind != "gauge":
            for labels, cell in one.families.get(family.name, {}).items():
                found.setdefault(labels, []).append(cell)
    return {
        labels: [family.merge(column) for column in zip(*cells, strict=True)]
        for labels, cells in found.items()
    }


def _metric(family: Family, cells: Cells) -> Metric:
    if isinstance(family, Histogram):
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        metric = HistogramMetricFamily(family.name, family.about, labels=family.labels)
        for labels, cell in cells.items():
            buckets = list(zip(bounds, accumulate(cell[:-1]), strict=True))
            metric.add_metric(labels, buckets, cell[-1])
        return metric
    made = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}[family.kind]
    metric = made(family.name, family.about, labels=family.labels)
    for labels, cell in cells.items():
        metric.add_metric(labels, cell[0])
    return metric


def _processes(pids: Iterable[int]) -> Iterator[Metric]:
    """Memory, processor time and open files of each process."""
    found: dict[str, Metric] = {}
    for pid in pids:
        for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            family = found.setdefault(
                metric.name, Metric(metric.name, metric.documentation, metric.type)
            )
            for sample in metric.samples:
                family.add_sample(sample.name, {"pid": str(pid)}, sample.value)
    yield from found.values()


def _build() -> Metric:
    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "telemetry": settings.TELEMETRY_STORE,
    }
    metric = GaugeMetricFamily("iotflow_build_info", "What runs here.", labels=list(facts))
    metric.add_metric(list(facts.values()), 1)
    return metric


# --- What stores say ----------------------------------------------------------------------------
def _outbox() -> Iterator[Metric]:
    waiting = Outbox.objects.count()
    yield GaugeMetricFamily("iotflow_outbox_events", "Events in the outbox.", waiting)
    yield GaugeMetricFamily(
        "iotflow_outbox_age_seconds",
        "How long the oldest of them has waited.",
        outbox.age_seconds(),
    )


def _devices() -> Iterator[Metric]:
    counted = tally()
    yield GaugeMetricFamily("iotflow_devices_online", "Devices online.", counted.online)
    by_status = GaugeMetricFamily("iotflow_devices", "Devices by status.", labels=["status"])
    for status in ("active", "inactive", "maintenance"):
        by_status.add_metric([status], getattr(counted, status))
    yield by_status


def _jobs() -> Iterator[Metric]:
    succeeded = GaugeMetricFamily(
        "iotflow_job_success_timestamp_seconds",
        "When a job of the worker last succeeded.",
        labels=["job"],
    )
    took = GaugeMetricFamily("iotflow_job_seconds", "How long it took then.", labels=["job"])
    for name, run in worker.last_runs().items():
        succeeded.add_metric([name], run.ended)
        took.add_metric([name], run.seconds)
    yield from (succeeded, took)


def _bridges() -> Iterator[Metric]:
    settled = CounterMetricFamily(
        "iotflow_mqtt_messages",
        "MQTT messages, by what became of them.",
        labels=["bridge", "outcome"],
    )
    counts = {
        name: CounterMetricFamily(f"iotflow_mqtt_{name}", about, labels=["bridge"])
        for name, about in (
            ("retries", "Batches begun again, for a store was away."),
            ("dropped", "Messages that the broker says it dropped."),
        )
    }
    states = {
        name: GaugeMetricFamily(f"iotflow_mqtt_{name}", about, labels=["bridge"])
        for name, about in (
            ("held_messages", "Messages that a bridge has not acknowledged yet."),
            ("connected", "1 while it is connected to the broker."),
            ("noted_timestamp_seconds", "When it was last heard of."),
        )
    }
    for name, one in figures.bridges().items():
        for outcome, count in one.settled.items():
            settled.add_metric([name, outcome], count)
        counts["retries"].add_metric([name], one.retries)
        counts["dropped"].add_metric([name], one.dropped)
        states["held_messages"].add_metric([name], one.held)
        states["connected"].add_metric([name], one.is_connected)
        states["noted_timestamp_seconds"].add_metric([name], one.noted)
    yield from (settled, *counts.values(), *states.values())


def _notices() -> Iterator[Metric]:
    oldest = notices.oldest()
    yield GaugeMetricFamily(
        "iotflow_mqtt_notice_age_seconds",
        "How long the oldest notice for the broker has waited.",
        0.0 if oldest is None else max(0.0, time.time() - oldest.timestamp()),
    )


QUESTIONS: tuple[Question, ...] = (_outbox, _devices, _jobs, _bridges, _notices)
_pool = ThreadPoolExecutor(max_workers=len(QUESTIONS), thread_name_prefix="scrape")
_asked: dict[Question, Future[list[Metric]]] = {}


def _answers() -> Iterator[Metric]:
    """Of all questions at once. One that is still open from an earlier scrape is not asked anew."""
    deadline = time.monotonic() + ASK_SECONDS
    for question in QUESTIONS:
        asked = _asked.get(question)
        if asked is None or asked.done():
            _asked[question] = _pool.submit(_in_own_connections, question)
    for question in QUESTIONS:
        with suppress(Exception):  # whatever a driver raises, or the end of the time
            yield from _asked[question].result(timeout=max(0.0, deadline - time.monotonic()))


def _in_own_connections(question: Question) -> list[Metric]:
    try:
        return list(question())
    finally:
        connections.close_all()
