"""What deploy/monitoring asks Prometheus for is what /metrics exports."""

import json
import re
from collections.abc import Iterator

import yaml

from tests.environment import ROOT
from tests.project.test_metrics import documented

FOLDER = ROOT / "deploy" / "monitoring"
NAME = re.compile(r"\b(?:iotflow|process)_\w+")
DEMANDED = {
    *("IoTFlowStoreAway", "IoTFlowOutboxOld", "IoTFlowErrors", "IoTFlowSlow", "IoTFlowQueueFull"),
    *("IoTFlowBreakerOpen", "IoTFlowNoWorker", "IoTFlowIngestStopped"),
}


def rules() -> list[dict]:
    [group] = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return group["rules"]


def queries() -> Iterator[str]:
    """The dashboard's."""
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]


def families(query: str) -> set[str]:
    exported = documented()
    return {
        name if name in exported else re.sub("_(bucket|count|sum)$", "", name)
        for name in NAME.findall(query)
    }


def test_every_alert_is_on_what_is_exported_and_says_what_to_do():
    for rule in rules():
        assert families(rule["expr"]), rule["alert"]
        assert families(rule["expr"]) <= documented(), rule["alert"]
        assert {"summary", "do"} <= set(rule["annotations"]), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
    assert {rule["alert"] for rule in rules()} >= DEMANDED


def test_the_dashboard_shows_every_family_of_ours_and_nothing_that_is_not_there():
    shown = set().union(*map(families, queries()))
    assert shown <= documented()
    assert {name for name in documented() if name.startswith("iotflow_")} <= shown


def test_labels_that_alerts_and_panels_choose_by_are_those_of_the_families():
    said = [*queries(), *(rule["expr"] for rule in rules())]
    table = (ROOT / "docs" / "operations.md").read_text().split("### Families\n")[1]
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", table, re.MULTILINE))
    for query in said:
        for name, chosen in re.findall(r"\b(iotflow_\w+)\{([^}]*)\}", query):
            [family] = families(name)
            labels = set(re.findall(r"(\w+)=", chosen)) - {"instance"}
            assert labels <= set(re.findall(r"`(\w+)`", rows[family])), query


def test_each_panel_has_a_place_of_its_own():
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in panels}) == len(panels)
