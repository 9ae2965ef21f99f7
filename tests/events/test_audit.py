"""The chain over the event log: what is whole verifies, and every tampering is found and named."""

import uuid
from datetime import datetime, timedelta
from time import monotonic

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from events import log, outbox, sinks
from events.audit import chain, documents, keys, sealer
from events.audit.diagnosis import audit as diagnosed
from events.kinds import Kind
from events.models import AuditDay, AuditHead, AuditLink, EventLog, Outbox
from iotflow.lib.timeparse import format_datetime
from tests.events.audit import (
    MINUTE,
    an_hour_ago,
    begun,
    change,
    document,
    expire,
    faults,
    insert,
    record,
    remove,
    seal,
    stored,
    submit,
    swap,
    verified,
)
from tests.races import and_hang_up, at_once

SUBMITTED = Kind.TELEMETRY_SUBMITTED
real = pytest.mark.real


@pytest.fixture
def start():
    return begun(an_hour_ago())


@pytest.fixture
def events(start):
    """Three, a second apart, sealed."""
    found = record(*(document(start + timedelta(seconds=n)) for n in range(3)))
    seal()
    return found


@pytest.fixture
def readings(start):
    """Three in one minute, sealed."""
    found = submit(*(document(start + timedelta(seconds=n), SUBMITTED) for n in range(3)))
    seal()
    return found


CHANGES = {
    "time": lambda event: event.time + timedelta(milliseconds=1),
    "kind": lambda event: "device.registered",
    "severity": lambda event: "error",
    "message": lambda event: event.message + ".",
    "actor": lambda event: "user:mallory",
    "user_id": lambda event: None,
    "device_id": lambda event: 70,
    "address": lambda event: "192.0.2.1",
    "request_id": lambda event: "another",
    "payload": lambda event: {"changes": {"a": [1, 2.25]}},
    "expires_at": lambda event: event.expires_at + timedelta(days=1),
}


def test_every_field_of_an_event_is_among_those_changed_here():
    assert {"id", *CHANGES} == {field.name for field in EventLog._meta.fields}


# --- What is whole --------------------------------------------------------------------------------


def test_what_nobody_touched_verifies(readings, events):
    found = verified()
    assert (found["events"], found["minutes"], found["pending"]) == (3, 1, 0)
    assert found["links"] == 5
    assert not Outbox.everything.exists()


def test_nothing_to_verify_is_said_where_nothing_was_sealed(capsys):
    call_command("verify_audit")
    assert "Nothing is sealed yet" in capsys.readouterr().out


def test_every_kind_of_value_is_read_back_as_it_was_sealed(start):
    payload = {
        "changes": {"name": "ü\u2028😀", "location": [0, -1, 2**62, 1.0, 0.1, 1e15, True, None]}
    }
    [event_id] = record(document(start, payload=payload))
    submit(document(start, SUBMITTED, payload={"measurements": list("äöü")}))
    seal()
    assert verified()["events"] == 1
    change(event_id, payload={"changes": {**payload["changes"], "location": [0]}})
    assert faults() == [("changed", event_id)]


def test_what_happened_before_the_chain_began_is_not_vouched_for():
    old = submit(document(an_hour_ago()), document(an_hour_ago(), SUBMITTED))
    begun(an_hour_ago() + 30 * MINUTE)
    seal()
    remove(old[0])
    assert verified()["events"] == 0


def test_an_event_of_before_that_arrives_late_is_vouched_for():
    begun(an_hour_ago() + 30 * MINUTE)
    [event_id] = record(document(an_hour_ago()))
    seal()
    assert verified()["events"] == 1
    remove(event_id)
    assert faults() == [("removed", event_id)]


# --- Tampering ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_field_is_found(name, events):
    change(events[1], **{name: CHANGES[name](stored(events[1]))})
    assert faults() == [("changed", events[1])]


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_field_of_a_submission_is_found_in_its_minute(name, start, readings):
    change(readings[1], **{name: CHANGES[name](stored(readings[1]))})
    minute = format_datetime(start)
    if name == "kind":  # the minute lacks one, and the other kind has one that nobody sealed
        assert faults() == [("inserted", readings[1]), ("removed", minute)]
    else:
        assert faults() == [("changed", minute)]


def test_a_removed_event_is_found(events):
    remove(events[1])
    [found] = verified()["faults"]
    assert (found["fault"], found["id"], found["kind"]) == ("removed", events[1], "device.changed")
    assert found["time"] is not None


def test_an_inserted_event_is_found(start, events):
    event_id = insert(document(start + timedelta(seconds=1)))
    assert faults() == [("inserted", event_id)]


def test_an_inserted_event_is_found_after_the_sealer_has_passed(start, events):
    event_id = insert(document(timezone.now()))
    seal()
    assert faults() == [("inserted", event_id)]


def test_an_event_of_an_unknown_kind_is_found(start, events):
    event_id = insert(document(start) | {"kind": "device.exploded"})
    assert faults() == [("inserted", event_id)]


def test_a_swapped_pair_is_found(events):
    swap(events[0], events[2])
    assert faults() == sorted([("changed", events[0]), ("changed", events[2])])


def test_a_removed_submission_is_found_in_its_minute(start, readings):
    remove(readings[1])
    assert faults() == [("removed", format_datetime(start))]


def test_an_inserted_submission_is_found_in_its_minute(start, readings):
    insert(document(start + timedelta(seconds=9), SUBMITTED))
    assert faults() == [("inserted", format_datetime(start))]


def test_a_submission_inserted_where_there_was_none_is_named(start, readings):
    event_id = insert(document(start + 3 * MINUTE, SUBMITTED))
    assert faults() == [("inserted", event_id)]


def test_a_submission_moved_to_another_minute_is_found_in_both(start):
    [event_id, _] = submit(*(document(start + n * MINUTE, SUBMITTED) for n in range(2)))
    submit(document(start, SUBMITTED))
    seal()
    change(event_id, time=start + MINUTE)
    assert faults() == [
        ("inserted", format_datetime(start + MINUTE)),
        ("removed", format_datetime(start)),
    ]


def test_an_event_changed_before_it_was_sealed_is_found(start):
    [event_id] = record(document(start))
    change(event_id, message="nothing")
    assert faults() == [("changed", event_id)]
    seal()
    assert faults() == [("changed", event_id)]


@real
def test_what_only_documents_can_be_is_found(events):
    """Fields too many or too few, other types, another way to write an id."""
    collection = sinks._collection()
    [one, other, third] = [uuid.UUID(event_id).hex for event_id in events]
    collection.update_one({"_id": one}, {"$set": {"id": "more"}})
    collection.update_one({"_id": other}, {"$unset": {"address": ""}})
    collection.update_one({"_id": third}, {"$set": {"user_id": 8.0}})
    copy = collection.find_one({"_id": third}) | {"_id": events[2]}
    collection.insert_one(copy)
    assert faults() == sorted(
        [*(("changed", event_id) for event_id in events), ("inserted", events[2])]
    )


# --- The chain ------------------------------------------------------------------------------------


def test_a_tail_that_is_cut_off_shows(events):
    AuditLink.objects.filter(number__gt=2).delete()
    found = [one["text"] for one in verified()["faults"] if one["fault"] == "chain"]
    assert any("Links 3 to 4 at the end of the chain are gone." in text for text in found)


def test_a_gap_shows(events):
    AuditLink.objects.filter(number=3).delete()
    found = [one["text"] for one in verified()["faults"] if one["fault"] == "chain"]
    assert found == ["Links 3 to 3 of the chain are gone."]


def test_a_chain_rewritten_without_the_key_shows(events, settings):
    """All of it: event, links, days and head, by somebody who has both databases."""
    change(events[1], message="nothing")
    settings.AUDIT_KEY = "m" * 40
    key = keys.current()
    with transaction.atomic():
        for model in (AuditLink, AuditDay, AuditHead):
            model.objects.all().delete()
    begun(an_hour_ago())
    for event in EventLog.objects.order_by("time"):
        entry = sealer._of_event(
            {**vars(event), "id": str(event.id), "time": event.time.isoformat()}
            | {"expires_at": event.expires_at.isoformat()},
            key,
        )
        with transaction.atomic():
            chain.append(AuditHead.objects.get(), [entry], key)
    settings.AUDIT_KEY = "k" * 40
    found = verified()["faults"]
    assert [one["fault"] for one in found] == ["chain"]
    assert "neither variable" in found[0]["text"]


def test_a_link_that_was_changed_shows(events):
    AuditLink.objects.filter(number=3).update(count=2)
    assert ("chain", events[1]) in faults()


def test_a_head_that_was_kept_elsewhere_shows_an_older_state_put_back(events):
    kept = verified()["head"]
    assert verified(head=kept)["head"] == kept
    tail = AuditLink.objects.filter(number__gt=3)
    remove(str(tail.get().event_id))
    tail.delete()
    last = AuditLink.objects.get(number=3)
    AuditHead.objects.update(number=3, seal=last.seal)
    AuditDay.objects.update(last=3, seal=last.seal)
    assert verified()["faults"] == []
    assert "no longer holds the head" in verified(head=kept)["faults"][0]["text"]


def test_days_dropped_before_their_time_show(events):
    day = AuditDay.objects.get()
    AuditLink.objects.filter(number__lte=2).delete()
    second = AuditLink.objects.get(number=3)
    day.first, day.before = 3, second.seal
    day.save()
    assert "does not begin where it says" in verified()["faults"][0]["text"]


# --- Keys -----------------------------------------------------------------------------------------


def test_a_new_key_goes_on_where_the_former_is_known(start, readings, events, settings):
    former = settings.AUDIT_KEY
    settings.AUDIT_KEY = "n" * 40
    record(document(start), document(start, SUBMITTED))  # the second late, to a minute of before
    seal()
    found = verified()["faults"]
    assert [one["fault"] for one in found] == ["chain"]
    assert "neither variable" in found[0]["text"]
    settings.AUDIT_KEYS_OLD = [former]
    assert (verified()["events"], verified()["minutes"]) == (4, 1)
    remove(readings[0])
    assert faults() == [("removed", format_datetime(start))]


# --- Arriving late, twice, meanwhile --------------------------------------------------------------


def test_what_arrives_days_late_is_sealed_and_is_no_tampering(start, readings, events):
    late = record(document(start - timedelta(days=3)))
    told = document(start + timedelta(seconds=30), SUBMITTED)
    record(told)  # put long after its time: it cannot be in the minute's first seal
    seal()
    found = verified()
    assert (found["events"], found["minutes"], found["pending"]) == (4, 1, 0)
    assert AuditLink.objects.filter(scope="late").count() == 1
    remove(told["id"])
    remove(late[0])
    assert sorted(faults()) == sorted([("removed", format_datetime(start)), ("removed", late[0])])


def test_a_late_submission_that_is_sealed_already_is_sealed_once(start):
    """A delivery was taken for failed, after a long pause, and had been done."""
    one = document(start, SUBMITTED)
    submit(one)
    seal()
    record(one)
    seal()
    assert verified()["minutes"] == 1
    assert AuditLink.objects.filter(scope="late").count() == 0


def test_a_submission_repeated_while_its_event_waits_is_one(start):
    """The same id with two times: the first to arrive stays, and neither looks like tampering."""
    waits = document(start, SUBMITTED)
    again = waits | {"time": (start + 5 * MINUTE).isoformat()}
    outbox.put([waits])
    submit(again)
    outbox.relay_all()
    seal()
    assert EventLog.objects.count() == 1
    assert verified()["minutes"] == 1


def test_a_process_that_paused_tells_the_sealer_of_what_it_delivered(start):
    seal()
    log.submitted([document(start, SUBMITTED)])
    assert Outbox.objects.count() == 1
    outbox.relay_all()
    seal()
    found = verified()
    assert (found["minutes"], found["pending"]) == (1, 0)


def test_no_minute_is_sealed_while_something_of_it_may_wait(start):
    waits = document(start, SUBMITTED)
    outbox.put([waits])
    Outbox.objects.update(created_at=start + timedelta(seconds=5))
    submit(document(start + timedelta(seconds=2), SUBMITTED))
    seal()
    assert not AuditLink.objects.filter(scope="minute").exists()
    outbox.relay_all()
    assert not Outbox.everything.exists()
    seal()
    assert verified()["minutes"] == 1
    assert AuditLink.objects.get(scope="minute").count == 2


def test_delivered_twice_is_sealed_once(start):
    one = document(start)
    for _ in range(2):
        outbox.put([one])
        sinks.deliver([one])  # a relay that was killed before it could say so
        outbox.relay_all()
    seal()
    assert verified()["events"] == 1


def test_what_is_on_its_way_is_no_tampering(start, readings):
    one = document(start)
    outbox.put([one, document(start + timedelta(seconds=40), SUBMITTED)])
    sinks.deliver([row.document for row in Outbox.objects.all()])
    assert verified()["pending"] == 2
    outbox.relay_all()
    assert verified()["pending"] == 2
    seal()
    assert verified()["pending"] == 0


def test_two_sealers_at_once_seal_everything_once(start):
    record(*(document(start + timedelta(seconds=n)) for n in range(60)))
    for n in range(20):
        submit(document(start + n * MINUTE, SUBMITTED))
    deadline = monotonic() + 60
    while (
        Outbox.everything.exists() or AuditHead.objects.get().minutes_until < sealer.whole_until()
    ):
        at_once(4, sealer.seal)
        assert monotonic() < deadline
    found = verified()
    assert (found["events"], found["minutes"], found["links"]) == (60, 20, 81)


@pytest.mark.parametrize("step", ["append", "delete"])
def test_a_sealer_killed_between_its_steps_goes_on(step, start, monkeypatch):
    record(*(document(start) for _ in range(3)))
    submit(document(start, SUBMITTED))
    with monkeypatch.context() as patch:
        if step == "append":
            patch.setattr(AuditHead, "save", _killed)
        else:
            patch.setattr("django.db.models.query.QuerySet.delete", _killed)
        with pytest.raises(KeyboardInterrupt):
            and_hang_up(sealer.seal)
    assert AuditLink.objects.count() == 1
    seal()
    found = verified()
    assert (found["events"], found["minutes"], found["pending"]) == (3, 1, 0)


def _killed(*args, **kwargs):
    raise KeyboardInterrupt


def test_events_that_arrive_while_it_is_verified_are_no_tampering(start, events, monkeypatch):
    """Each page of documents finds one more event, sealed already."""
    between = documents.between

    def and_more(kind, *args, **kwargs):
        if kind == Kind.DEVICE_CHANGED:
            record(document(timezone.now()))
            seal()
        return between(kind, *args, **kwargs)

    monkeypatch.setattr(documents, "between", and_more)
    assert verified()["faults"] == []


# --- Expiry ---------------------------------------------------------------------------------------


def test_what_expired_is_not_taken_for_removed(settings, start):
    settings.EVENT_RETENTION_DAYS = 1
    old = timezone.now() - timedelta(days=1, minutes=1)
    record(document(old))
    submit(document(sealer.minute_of(timezone.now() - timedelta(minutes=10)), SUBMITTED))
    kept = record(document(start))
    seal()
    expire(timezone.now())
    assert EventLog.objects.count() == 2
    found = verified()
    assert (found["events"], found["expired"]) == (1, 1)
    change(kept[0], expires_at=timezone.now() - MINUTE)  # so that the store removes it
    expire(timezone.now())
    assert faults() == [("removed", kept[0])]


def sealed_on(days_ago, monkeypatch, count=2):
    """A day's events, sealed that day, with what was to expire then."""
    now = timezone.now() - timedelta(days=days_ago)
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", lambda: now)
        begun(now - timedelta(hours=1))
        found = record(*(document(now - timedelta(seconds=n)) for n in range(count)))
        minute = sealer.minute_of(now) - 10 * MINUTE
        submit(*(document(minute + timedelta(seconds=n), SUBMITTED) for n in range(count)))
        seal()
    return found


def test_whole_days_are_dropped_and_the_rest_verifies(settings, monkeypatch):
    settings.EVENT_RETENTION_DAYS = 7
    for days_ago in (10, 9, 4, 3):
        sealed_on(days_ago, monkeypatch)
    expire(timezone.now())
    assert verified()["expired"] == 6
    assert AuditDay.objects.count() == 4
    seal()
    found = verified()
    assert (found["events"], found["minutes"], found["expired"]) == (4, 2, 0)
    first = AuditDay.objects.order_by("day").first()
    assert AuditDay.objects.count() == 3  # two with events, and today's that says where it begins
    assert AuditLink.objects.order_by("number").first().number == first.first > 1
    gone = EventLog.objects.filter(kind="device.changed").order_by("time").first()
    remove(str(gone.pk))
    assert faults() == [("removed", str(gone.pk))]


def test_since_and_until_narrow_it(settings, monkeypatch):
    settings.EVENT_RETENTION_DAYS = 50
    found = {days_ago: sealed_on(days_ago, monkeypatch) for days_ago in (10, 5, 1)}
    for ids in found.values():
        remove(ids[0])
    assert len(faults()) == 3
    assert faults(since="-7d") == sorted(("removed", found[n][0]) for n in (5, 1))
    assert faults(since="-7d", until="-3d") == [("removed", found[5][0])]
    assert verified(since="-3d", until="-2d")["events"] == 0


# --- Around it ------------------------------------------------------------------------------------


def test_it_names_what_it_finds_to_people_too(capsys, events):
    remove(events[0])
    with pytest.raises(CommandError, match=r"1 fault\(s\) found") as caught:
        call_command("verify_audit", no_color=True)
    assert caught.value.returncode == 1
    out = capsys.readouterr().out
    assert f"REMOVED: device.changed {events[0]} 2" in out
    assert "\nHead: 4:" in out


def test_nonsense_is_told_from_a_fault(events):
    for options in ({"since": "tomorrow?"}, {"head": "7"}):
        with pytest.raises(CommandError) as caught:
            call_command("verify_audit", **options)
        assert caught.value.returncode == 2


def test_doctor_tells_how_far_it_is_and_that_the_newest_holds(start, readings, events):
    assert [finding.level for finding in diagnosed()] == ["ok", "ok"]
    remove(events[0])
    found = list(diagnosed())
    assert [finding.level for finding in found] == ["ok", "problem"]
    assert events[0] in found[1].what


def test_doctor_warns_of_a_sealer_that_is_behind(start):
    assert [finding.level for finding in diagnosed()] == ["warning", "ok"]


def test_a_long_event_log_is_read_in_pages(start, monkeypatch):
    monkeypatch.setattr(documents.between, "__defaults__", (7,))
    many = [document(start + timedelta(milliseconds=n // 20), SUBMITTED) for n in range(100)]
    submit(*many)
    record(*(document(start + timedelta(milliseconds=n // 20)) for n in range(100)))
    seal()
    assert AuditLink.objects.get(scope="minute").count == 100
    assert verified()["events"] == 100


# --- Whatever comes -------------------------------------------------------------------------------

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["record", "submit", "late", "twice", "waiting", "seal", "expire"]),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=12,
)
TAMPERINGS = ("change", "remove", "insert", "swap")


@given(acts=ACTS, tampering=st.sampled_from(TAMPERINGS), chosen=st.randoms(use_true_random=False))
@examples(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_history_verifies_and_any_one_tampering_is_found(settings, acts, tampering, chosen):
    for model in (AuditLink, AuditDay, AuditHead, EventLog):
        model.objects.all().delete()
    Outbox.everything.all().delete()
    settings.EVENT_RETENTION_DAYS = 1
    start = begun(an_hour_ago())
    for act, n in acts:
        _act(act, start + n * timedelta(seconds=45), n)
    outbox.relay_all()
    seal()
    assert verified()["pending"] == 0
    events = list(EventLog.objects.filter(expires_at__gt=timezone.now()).order_by("time", "id"))
    if len(events) < 2:
        return
    one, other = chosen.sample(events, 2)
    named = _tamper(tampering, one, other)
    said = {about for _, about in faults()}
    assert all(names <= said for names in named), (named, said)


def _act(act: str, time: datetime, n: int) -> None:
    if act == "record":
        record(document(time), document(time))
    elif act == "submit":
        some = [document(time, SUBMITTED) for _ in range(n % 3 + 1)]
        if time < AuditHead.objects.get().minutes_until or n % 2:
            log.submitted(some)  # by a process that paused, and tells of it
        else:
            submit(*some)
    elif act == "late":
        record(document(time - timedelta(days=1)), document(time, SUBMITTED))
    elif act == "twice":
        one = document(time)
        outbox.put([one])
        sinks.deliver([one])
        outbox.relay_all()
    elif act == "waiting":
        outbox.put([document(time), document(time, SUBMITTED)])
    elif act == "seal":
        seal()
    else:
        expire(timezone.now())


def _tamper(tampering: str, one: EventLog, other: EventLog) -> list[set[str]]:
    """What has to be named for it."""
    if tampering == "change":
        change(str(one.pk), message="nothing")
    elif tampering == "remove":
        remove(str(one.pk))
    elif tampering == "insert":
        new = document(one.time, Kind(one.kind))
        insert(new)
        return [{new["id"]}] if one.kind != SUBMITTED else [_names(one)]
    else:
        swap(str(one.pk), str(other.pk))
        return [_names(one), _names(other)]
    return [_names(one)]


def _names(event: EventLog) -> set[str]:
    if event.kind != SUBMITTED:
        return {str(event.pk)}
    return {str(format_datetime(sealer.minute_of(event.time)))}
