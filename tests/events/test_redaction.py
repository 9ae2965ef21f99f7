"""What an event may say: the keys that somebody has allowed, for each kind; nothing else."""

import re

import pytest

from events import log
from events.kinds import Kind
from events.models import EventLog
from events.redaction import ALLOWED, CHANGED, REDACTED
from tests.environment import ROOT

SECRET = "iotk_hush"
AFTERWARDS = re.compile(r"""\[["']payload["']\](\.|\[| =[^=])""")


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_says_what_may_stand_in_it(kind):
    assert kind in ALLOWED
    payload = dict.fromkeys(ALLOWED[kind], "kept") | {"key": SECRET}
    log.record(kind, "happened", payload=payload)
    [event] = EventLog.objects.all()
    assert event.payload == dict.fromkeys(ALLOWED[kind], "kept") | {"key": REDACTED}


@pytest.mark.parametrize("kind", CHANGED)
def test_of_a_change_only_the_fields_that_are_allowed_are_told(kind):
    before_and_after = {name: ["a", "b"] for name in CHANGED[kind]}
    log.record(kind, "changed", payload={"changes": {**before_and_after, "secret": ["", SECRET]}})
    [event] = EventLog.objects.all()
    assert event.payload == {"changes": {**before_and_after, "secret": REDACTED}}
    assert SECRET not in str(event.payload)


def test_what_is_redacted_is_logged_by_name_alone(caplog):
    log.record(Kind.DEVICE_CHANGED, "changed", payload={"password": SECRET})
    assert "['password']" in caplog.text
    assert SECRET not in caplog.text


def test_no_word_for_a_secret_is_allowed():
    names = {name for allowed in (*ALLOWED.values(), *CHANGED.values()) for name in allowed}
    for word in ("password", "secret", "token", "api_key", "digest", "config"):
        assert word not in names


def test_nothing_is_put_into_an_event_past_the_list():
    """What is put there afterwards was not looked at."""
    for app in ("accounts", "devices", "telemetry", "events", "iotflow"):
        for path in (ROOT / app).rglob("*.py"):
            assert not AFTERWARDS.search(path.read_text()), path
