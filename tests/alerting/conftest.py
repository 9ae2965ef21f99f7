import math

import pytest

from telemetry import rollups
from telemetry.alerting import alerts, rollup
from telemetry.rollups import Rolling
from telemetry.stores import rollup_store


@pytest.fixture
def look(monkeypatch):
    """Rolls up what a device has said by `now` (ms), and has rules look at it then."""

    def by(thing, now):
        for module in (rollups, rollup):
            monkeypatch.setattr(module, "now_ms", lambda: now)
        progress = rollup_store().progress([thing.device.pk])[thing.device.pk]
        assert not Rolling(thing.device.pk, progress, math.inf, now).run()
        rollup.look_at_rollups()
        alerts.deliver_all()

    return by
