"""What the benchmark makes of what it measures. It measures nothing here."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.bench import cases, figures, filling, ground, growth, ledger, long, report, servers, wrk
from tests.bench.failure import Failure
from tests.bench.population import People, Somebody
from tests.bench.wrk import Figures
from tests.environment import ROOT

SAID = """\
Running 3s test @ http://127.0.0.1:40000
  1 threads and 32 connections
Requests/sec:   1000.00

BENCH {"requests":3100,"us":3100000,"p50":1500,"p95":4000,"p99":9250,"statuses":{"201":3000,\
"503":100},"connect":1,"read":2,"write":0,"timeout":3}
"""
DEVICE = Somebody(7, "iotd_x")
WRITTEN = 1_700_000_000_000


def measured(per_second: float, **more: float) -> Figures:
    plain = Figures(100, 1.0, per_second, p50=1, p95=2, p99=3, errors=0, statuses={"200": 100})
    return replace(plain, **more)


# --- wrk ----------------------------------------------------------------------------------------
def test_what_wrk_says_is_read():
    found = wrk.parse(SAID, spent=0.031)
    assert (found.requests, found.seconds) == (3100, 3.1)
    assert (found.p50, found.p95, found.p99) == (1.5, 4.0, 9.25)
    assert found.load_us == pytest.approx(10)


def test_only_good_answers_count_as_speed_and_every_other_is_an_error():
    found = wrk.parse(SAID)
    assert found.per_second == pytest.approx(3000 / 3.1)
    assert found.errors == 100 + 1 + 2 + 3


def test_a_wrk_that_says_nothing_is_a_failure():
    with pytest.raises(Failure, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1")


def test_requests_one_after_another_have_the_same_figures():
    found = wrk.of_times([0.1] * 98 + [0.2, 0.5])
    assert found.requests == 100
    assert found.per_second == pytest.approx(100 / 10.5)
    assert (found.p50, found.p99) == (pytest.approx(100), pytest.approx(500))


def test_targets_are_lines_for_the_script_and_nobody_else_reads_their_keys(tmp_path):
    path = tmp_path / "targets"
    wrk.write_targets(path, [DEVICE.target("telemetry/{id}/latest"), wrk.Target("/floor")])
    assert path.read_text() == ("7\tX-API-Key\tiotd_x\t/api/v1/telemetry/7/latest\n0\t\t\t/floor\n")
    assert path.stat().st_mode & 0o777 == 0o600


# --- Figures ------------------------------------------------------------------------------------
def test_a_round_that_was_disturbed_does_not_move_the_median():
    found = figures.summary([measured(100), measured(90), measured(5, p50=80, errors=4)], 100)
    assert (found["per_second"], found["p50"]) == (90, 1)
    assert found["readings_per_second"] == 9000
    assert (found["requests"], found["errors"], len(found["rounds"])) == (300, 4, 3)


def test_ratios_are_of_what_was_measured_and_of_nothing_else():
    measured_cases = {
        "floor": figures.summary([measured(1000)]),
        "submit": figures.summary([measured(420)]),
        "batch": figures.summary([measured(50)], 100),
    }
    exports = [{"format": "csv", "peak_mib": 100}, {"format": "csv", "peak_mib": 130}]
    found = figures.ratios(measured_cases, {"driver batch": {"rounds": [8000]}}, exports)
    assert found == {
        "submit_over_floor": 0.42,
        "batch_over_driver": 0.625,
        "export_csv_memory": 1.3,
    }


def test_a_ratio_is_what_most_rounds_say_whatever_the_machine_did_between_them():
    cases_found = {
        "floor": figures.summary([measured(1000), measured(400), measured(1100)]),
        "submit": figures.summary([measured(400), measured(160), measured(900)]),
    }
    assert figures.ratios(cases_found, {}, [])["submit_over_floor"] == 0.4


def test_growth_is_told_as_it_is_and_over_a_floor_that_wavers():
    def size(floors: list[float], submits: list[float]) -> dict[str, object]:
        floor, submit = (
            figures.summary([measured(rate) for rate in rates]) for rates in (floors, submits)
        )
        return {"cases": {"submit": {**submit, "over_floor": figures.ratio(submit, floor)}}}

    sizes = [
        size([1000, 400, 900], [400, 160, 360]),
        size([700] * 3, [350] * 3),
        size([500, 600, 100], [100, 120, 20]),
    ]
    assert figures.dearer(sizes, "per_second") == {"submit": 3.6}
    assert figures.dearer(sizes, "over_floor") == {"submit": 2}


# --- The ledger ---------------------------------------------------------------------------------
def test_a_message_is_known_by_the_time_of_its_first_reading(tmp_path):
    def entered(kind: str, *firsts: int) -> dict[int, set[int]]:
        path = tmp_path / "taken"
        path.write_text("".join(f"{text(first)}\n" for first in firsts))
        book = ledger.Ledger()
        book.enter(kind, path, WRITTEN, [7, 8, 9])
        return dict(book.taken)

    assert entered("submit", WRITTEN, WRITTEN + 4) == {7: {WRITTEN}, 8: {WRITTEN + 4}}
    times = range(WRITTEN + 1, WRITTEN + 1 + 100 * ledger.STEP, ledger.STEP)
    assert entered("batch", WRITTEN + 1) == {8: set(times)}
    assert entered("bulk", WRITTEN + 1) == {device: set(times[:10]) for device in (7, 8, 9)}


@pytest.mark.parametrize(("kind", "of_one"), [("submit", 1), ("batch", 100), ("bulk", 100)])
def test_no_device_is_sent_a_time_twice(kind, of_one):
    devices, messages = range(1, 201), 5000
    sent = [
        reading
        for number in range(messages)
        for reading in ledger.readings(kind, WRITTEN + number, WRITTEN, devices)
    ]
    assert len(set(sent)) == len(sent) == messages * of_one


def text(ms: int) -> str:
    from iotflow.lib.timeparse import format_ms

    return format_ms(ms)


def test_what_is_acknowledged_and_not_found_is_lost_whatever_else_is_found():
    taken = {7: {1, 2, 3}, 8: {1}}
    assert ledger.compare(taken, {7: {1, 2, 3}, 8: {1, 5}}) == {
        "acknowledged": 4,
        "found": 5,
        "lost": 0,
    }
    assert ledger.compare(taken, {7: {1, 4, 5, 6}})["lost"] == 3


# --- What is stored beforehand ------------------------------------------------------------------
def test_a_history_is_cut_into_days():
    history = filling.History(7, 1, count=1000, step=600_000, end=WRITTEN)
    days = list(filling.by_day(history))
    assert [time for _, times in days for time in times] == list(history.times())
    assert all({text(time)[:10] for time in times} == {str(day)} for day, times in days)
    assert history.times()[-1] == WRITTEN


@pytest.mark.parametrize("size", [1000, 20_000, 1_000_000])
def test_as_many_readings_are_stored_as_the_growth_says(size):
    bench = growth.Growth.__new__(growth.Growth)
    bench.people, bench.now = People(1, "", ""), WRITTEN
    bench.readers = [Somebody(number, "") for number in range(1, growth.READERS + 1)]
    histories = bench.histories(size)
    assert sum(history.count for history in histories) == size
    of_long = sum(history.count for history in histories if history.device_id == bench.long)
    assert of_long == max(size // growth.LONG_SHARE, growth.DAY)


def test_a_long_history_lies_within_its_days_and_no_time_is_twice():
    histories = long.histories(7, 1, 10_000, WRITTEN)
    times = [time for history in histories for time in history.times()]
    assert len(set(times)) == len(times) > 9900
    assert WRITTEN - min(times) <= long.DAYS * long.DAY_MS


# --- Where it runs ------------------------------------------------------------------------------
SERVERS = {
    "DATABASE_URL": "postgres://me:word@127.0.0.1:5432/mine",
    "CASSANDRA_HOSTS": "127.0.0.1",
    "CASSANDRA_KEYSPACE": "telemetry",
    "REDIS_URL": "redis://:word@127.0.0.1:6379/0",
    "MONGODB_URI": "mongodb://me:word@127.0.0.1:27017/mine?authSource=admin",
    "MONGODB_DATABASE": "mine",
}


def test_it_has_databases_of_its_own():
    found = ground.environment(SERVERS)
    assert found["DATABASE_URL"] == "postgres://me:word@127.0.0.1:5432/iotflow_bench"
    assert found["REDIS_URL"] == "redis://:word@127.0.0.1:6379/14"
    assert found["CASSANDRA_KEYSPACE"] == found["MONGODB_DATABASE"] == "iotflow_bench"


def test_limits_are_on_at_values_that_never_bind():
    from iotflow.lib.rates import limits

    found = ground.environment(SERVERS)
    for name in ground.LIMITS:
        [limit] = limits(found[name])
        assert limit.amount > 100_000 * 3600  # an hour of more than any machine answers


def test_without_servers_it_says_how_to_start_them(monkeypatch, tmp_path):
    for name in ground.STORES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ground, "ROOT", tmp_path)
    with pytest.raises(Failure, match="make services"):
        ground.services()


def test_workers_and_threads_are_those_of_production():
    workers, threads = servers.production()
    assert workers >= 1
    assert threads >= 1
    helped = subprocess.run(
        [sys.executable, "-m", "tests.bench", "run", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"default: {workers}" in helped.stdout
    assert f"default: {threads}" in helped.stdout


# --- The page -----------------------------------------------------------------------------------
def test_the_page_is_what_its_figures_make():
    published = json.loads(report.FIGURES.read_text())
    assert report.PAGE.read_text() == report.page(**published)


def test_every_case_and_ratio_is_explained_on_the_page():
    many = [DEVICE]
    loads = [
        cases.floor(),
        cases.submit(many),
        cases.submit_ruled(many),
        cases.latest(many),
        cases.latest(many, "latest uncached"),
        cases.history(many),
        cases.batch(many),
        cases.bulk(many, People(1, "token", "")),
    ]
    assert {case.name for case in loads} <= set(report.CASES)
    assert set(figures.RATIOS) <= set(report.RATIOS)
    published = json.loads(report.FIGURES.read_text())["bench"]
    assert set(published["cases"]) <= set(report.CASES)
    assert set(published["alone"]) == set(report.ALONE)


def test_the_page_stands_the_original_figures_beside():
    page = report.PAGE.read_text()
    for figure in ("1000+ writes/s", "5000+/s", "300/s", "10,000+/s", "80–95 %"):
        assert figure in page


def test_publishing_one_part_keeps_the_other(tmp_path, monkeypatch):
    published = json.loads(report.FIGURES.read_text())
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(report, "FIGURES", tmp_path / "figures.json")
    report.publish(bench=published["bench"])
    assert "## Growth" not in (tmp_path / "page.md").read_text()
    report.publish(growth=published["growth"])
    assert (tmp_path / "page.md").read_text() == report.page(**published)


def test_what_is_lost_is_said():
    published = json.loads(report.FIGURES.read_text())["bench"]
    readings = {"acknowledged": 10, "found": 8, "lost": 2}
    said = {**published, "readings": readings, "lost": 2}
    assert "**2 lost**" in report.page(said, None)
    assert "2 are lost" in report.text(said)
