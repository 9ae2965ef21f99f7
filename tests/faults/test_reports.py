"""What is made of what was found: the page, and what a soak complains of."""

from dataclasses import asdict

from tests.faults import report
from tests.faults.run import Result
from tests.faults.soak import complaints, third_over_third

WHERE = {"date": "2026-01-01", "commit": "abc", "processor": "some", "versions": {"Python": "3"}}
SOAK = {
    **WHERE,
    "minutes": 30,
    "full_rate": 800.0,
    "loads": {
        "submit": {"requests": 9, "per_second": 400, "p50": 1.0, "p99": 2.0, "errors": 0},
    },
    "errors": 0,
    "memory": {"process 1": {"first_third_mib": 100.0, "last_third_mib": 101.0}},
    "growth": 0.01,
    "queue_max": 3,
    "outbox_max": 0,
    "outbox_left": False,
    "readings": {"acknowledged": 9, "found": 9, "lost": 0},
    "processes_changed": False,
}


def test_a_flat_memory_is_no_growth_and_a_rising_one_is():
    assert third_over_third([100.0] * 9) == 0
    assert third_over_third([100, 100, 100, 105, 105, 105, 110, 110, 110]) == 0.1


def test_a_soak_complains_of_each_thing_that_is_wrong():
    assert complaints(SOAK) == []
    wrong = {
        **SOAK,
        "growth": 0.06,
        "errors": 2,
        "readings": {"lost": 1},
        "outbox_left": True,
        "processes_changed": True,
    }
    assert len(complaints(wrong)) == 5


def test_the_page_has_a_row_for_each_case_and_their_sum():
    cases = [
        asdict(Result("Redis: kill", submitted=1200, acknowledged=1190, refusal_max=0.5)),
        asdict(Result("MongoDB: hang", submitted=300, acknowledged=300, lost=1)),
    ]
    page = report.text({"cases": {**WHERE, "cases": cases}, "soak": SOAK})
    assert "| Redis: kill | 1,200 | 1,190 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0.50 | 0.0 |" in page
    assert "| **2 cases** | **1,500** | **1,490** | **0** | **0** | **1** |" in page
    assert "9 readings acknowledged, 0 lost" in page
