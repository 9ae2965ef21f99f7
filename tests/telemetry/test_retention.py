"""Policies of retention: which counts, how they come to be known, and what they refuse."""

import io
import json
import math
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from devices.models import Device
from events.models import EventLog
from iotflow.lib.timeparse import now_ms
from telemetry import policies, retention
from telemetry.backfill import Backfill, Sample
from telemetry.ingest import Submission, submit
from telemetry.models import DeviceData, RetentionChange, RetentionPolicy
from telemetry.readings import Reading
from telemetry.retention import FOR_EVER, Rule, Rules
from telemetry.rollups import Rolling
from telemetry.stores import rollup_store, telemetry_store

DAY = 86_400_000
HOUR = 3_600_000


def keep(device_type="", measurement="", days=0, rollup_days=None) -> RetentionPolicy:
    return policies.set_policy(
        device_type=device_type,
        measurement=measurement,
        days=days,
        rollup_days=rollup_days,
        actor="test",
    )


def run(*arguments, **options) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


class TestWhichCounts:
    RULES = Rules(
        [
            Rule("", "", 1, 0),
            Rule("camera", "", 2, 20),
            Rule("", "debug.*", 3, 0),
            Rule("camera", "debug.*", 4, 0),
            Rule("", "debug.net.*", 5, 0),
            Rule("", "debug.x", 6, 60),
            Rule("camera", "debug.x", 7, 0),
        ]
    )

    @pytest.mark.parametrize(
        ("device_type", "measurement", "days"),
        [
            ("sensor", "a", 1),
            ("camera", "a", 2),
            ("Camera", "a", 1),
            ("sensor", "debug.a", 3),
            ("sensor", "Debug.a", 1),
            ("sensor", "debug", 1),
            ("camera", "debug.a", 4),
            ("camera", "debug.net.a", 5),
            ("sensor", "debug.x", 6),
            ("camera", "debug.x", 7),
            ("camera", "debug.xy", 4),
        ],
    )
    def test_the_most_specific_policy(self, device_type, measurement, days):
        for _ in range(2):  # looked up, then remembered
            assert self.RULES.days(device_type, measurement) == days
        keeping = self.RULES.keeping(device_type)
        assert keeping.of(measurement) == days

    def test_without_a_policy_the_setting_counts(self, settings):
        settings.TELEMETRY_RETENTION_DAYS, settings.ROLLUP_RETENTION_DAYS = 30, 60
        rules = Rules([Rule("camera", "", 2, 20), Rule("gateway", "", 2), Rule("lamp", "", 2, 0)])
        assert rules.days("sensor", "a") == 30
        kept = [rules.rollup_days(t, "a") for t in ("sensor", "camera", "gateway", "lamp")]
        assert kept == [60, 20, 60, 0]
        assert rules.keeping("sensor").days == {"": 30}

    def test_what_is_remembered_is_bounded(self, monkeypatch):
        monkeypatch.setattr(retention, "REMEMBERED", 10)
        rules = Rules([Rule("", "a*", 3, 0)])
        assert {rules.days("sensor", f"a{n}") for n in range(100)} == {3}
        assert len(rules._found) <= 10

    def test_metadata_is_kept_as_long_as_the_last_value(self):
        rules = Rules([Rule("", "a", 1, 0), Rule("", "b", 5, 0), Rule("", "c", 0, 0)])
        reading = Reading(1, 1, 0, 0, {"a": 1, "b": 1}, {"m": 1})
        assert rules.expiries(reading) == {"a": DAY, "b": 5 * DAY, "": 5 * DAY}
        reading = Reading(1, 1, 0, 0, {"a": 1, "c": 1})
        assert rules.expiries(reading) == {"a": DAY, "c": None, "": None}
        assert Rules().expiries(reading) == {"a": None, "c": None, "": None}


class TestChanging:
    def test_a_policy_is_known_at_once_noted_and_an_event(self):
        keep("sensor", "a", 30)
        assert retention.days("sensor", "a") == 30
        assert retention.days("sensor", "b") == 0
        change = RetentionChange.objects.get()
        assert (change.how, change.days, change.previous_days) == ("set", 30, 0)
        event = EventLog.objects.get(kind="retention.changed")
        assert event.actor == "test"
        assert event.payload["days"] == 30
        keep("sensor", "a", 30)
        assert RetentionChange.objects.count() == 1  # nothing has changed

    def test_what_is_noted_is_what_held_and_what_holds_not_what_the_row_says(self, settings):
        settings.TELEMETRY_RETENTION_DAYS = 9
        policy = keep("", "a", 30)
        keep("sensor", "a", 5)
        policies.remove_policy(policy=RetentionPolicy.objects.get(days=5), actor="test")
        policies.remove_policy(policy=policy, actor="test")
        policies.remove_policy(policy=policy, actor="test")  # somebody was faster
        changes = RetentionChange.objects.order_by("id").values_list("previous_days", "days")
        assert list(changes) == [(9, 30), (30, 5), (5, 30), (30, 9)]
        assert retention.rules().ranked == []

    @pytest.mark.parametrize(
        "fields",
        [
            {"days": -1},
            {"days": 3651},
            {"days": 10, "rollup_days": 9},
            {"days": 0, "rollup_days": 9},
            {"days": 1, "measurement": "*"},
            {"days": 1, "measurement": "a*b"},
            {"days": 1, "measurement": "grün"},
            {"days": 1, "measurement": "a" * 256},
            {"days": 1, "device_type": "a" * 51},
            {"days": 1, "device_type": "a\0"},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, fields):
        with pytest.raises(ValidationError):
            keep(**fields)
        assert not RetentionPolicy.objects.exists()

    def test_another_setting_is_noted_by_the_worker_once(self, settings):
        for days in (0, 0, 30, 30, 7):
            settings.TELEMETRY_RETENTION_DAYS = days
            policies.note_setting()
        changes = RetentionChange.objects.order_by("id").values_list("previous_days", "days")
        assert list(changes) == [(None, 0), (0, 30), (30, 7)]


class TestBeingKnown:
    def test_submitting_asks_the_database_nothing_about_policies(
        self, sensor, django_assert_num_queries
    ):
        keep("sensor", "a", 30)
        device = Device.objects.get(pk=sensor.id)
        from telemetry.batches import records

        record = records([device])[device.pk]
        submit(Submission(record, {"a": 1}))
        # Nothing at all: the committer writes in its own thread, and the policies are in memory.
        with django_assert_num_queries(0):
            submit(Submission(record, {"a": 2}))
            assert retention.days("sensor", "a") == 30

    def test_who_could_never_read_them_keeps_everything(self, settings):
        settings.TELEMETRY_RETENTION_DAYS = 30
        assert FOR_EVER.days("sensor", "a") == 0

    def test_a_table_that_is_the_same_stays_with_what_was_looked_up(self):
        keep("", "a", 3)
        before = retention.rules()
        retention.rules.reload()
        assert retention.rules() is before


class TestTooOld:
    def test_a_reading_of_which_nothing_is_kept_is_refused_by_its_time(self, sensor):
        keep("sensor", "", 10)
        answer = sensor.api.post("/telemetry", {"data": {"a": 1}, "timestamp": "-11d"})
        assert answer.status == 400
        assert answer.json["details"] == {"timestamp": ["Older than the 10 days that it is kept."]}
        assert sensor.api.post("/telemetry", {"data": {"a": 1}, "timestamp": "-9d"}).status == 201

    def test_a_value_that_is_too_old_among_others_is_named(self, sensor):
        keep("", "debug.*", 1)
        body = {"data": {"a": 1, "debug.x": 1, "ü": 1}, "timestamp": "-2d"}
        answer = sensor.api.post("/telemetry", body)
        assert answer.status == 400
        assert answer.fields() == {"data.debug.x", "data.ü"}
        assert answer.json["details"]["data.debug.x"] == ["Older than the 1 day that it is kept."]
        body["data"] = {"a": 1}
        assert sensor.api.post("/telemetry", body).status == 201

    def test_of_a_batch_only_the_too_old_are_rejected(self, sensor):
        keep("sensor", "", 10)
        readings = [{"data": {"a": n}, "timestamp": f"-{n}d"} for n in (1, 9, 11)]
        answer = sensor.api.post("/telemetry/batch", {"readings": readings})
        assert answer.status == 207
        assert [r["status"] for r in answer.json["results"]] == ["stored", "stored", "rejected"]
        assert "timestamp" in answer.json["results"][2]["details"]

    def test_in_bulk_each_device_has_the_retention_of_its_type(self, alice, make_device):
        keep("camera", "", 10)
        devices = [make_device(alice, device_type=kind) for kind in ("camera", "sensor")]
        readings = [
            {"device_id": device.id, "data": {"a": 1}, "timestamp": "-20d"} for device in devices
        ]
        answer = alice.api.post("/telemetry/bulk", {"readings": readings})
        assert [r["status"] for r in answer.json["results"]] == ["rejected", "stored"]

    def test_imports_say_what_is_too_old(self, sensor):
        keep("sensor", "a", 10)
        backfill = Backfill(Device.objects.get(pk=sensor.id))
        now = now_ms()
        good, old = Sample(now - DAY, {"a": 1}), Sample(now - 20 * DAY, {"a": 1}, line=2)
        assert backfill.write([good, old]) == [
            (old, "timestamp: Older than the 10 days that it is kept.")
        ]
        assert backfill.stored == 1

    def test_a_change_of_the_devices_type_acts_on_its_next_reading(self, alice, sensor):
        keep("camera", "", 10)
        body = {"data": {"a": 1}, "timestamp": "-20d"}
        assert sensor.api.post("/telemetry", body).status == 201
        assert alice.api.patch(f"/devices/{sensor.id}", {"device_type": "camera"}).status == 200
        assert sensor.api.post("/telemetry", body).status == 400


def store_old(sensor, *ages_in_days, **values) -> None:
    device = Device.objects.get(pk=sensor.id)
    now = now_ms()
    assert not Backfill(device).write(
        [Sample(now - age * DAY, values or {"a": age}) for age in ages_in_days]
    )


def measurements(sensor) -> list[dict]:
    answer = sensor.api.get(f"/telemetry/{sensor.id}?start_time=-400d")
    return [row["measurements"] for row in answer.json["data"]]


class TestPurge:
    def test_without_a_policy_there_is_nothing_to_do(self, sensor):
        store_old(sensor, 100)
        assert "Nothing is stored for longer" in run("purge", "--policy", "--yes")
        assert measurements(sensor) == [{"a": 100}]

    def test_it_tells_first_and_deletes_when_told(self, sensor, alice, make_device):
        camera = make_device(alice, device_type="camera")
        store_old(sensor, 1, 20, 40)
        store_old(camera, 1, 20, 40)
        sensor.api.get(f"/telemetry/{sensor.id}/latest")
        keep("sensor", "", 30)
        out = run("purge", "--policy")
        assert f"device {sensor.id} (sensor)" in out
        assert f"device {camera.id}" not in out
        assert "Nothing was changed" in out
        assert len(measurements(sensor)) == 3
        out = run("purge", "--policy", "--yes")
        assert "of 1 device(s) deleted" in out
        assert measurements(sensor) == [{"a": 1}, {"a": 20}]
        assert len(measurements(camera)) == 3
        event = EventLog.objects.get(kind="telemetry.purged")
        assert event.payload["devices"] == 1
        assert "Nothing is stored for longer" in run("purge", "--policy", "--yes")

    def test_latest_values_that_went_are_not_in_the_cache_either(self, sensor):
        store_old(sensor, 40)
        latest = f"/telemetry/{sensor.id}/latest"
        assert sensor.api.get(latest).json["latest_data"] == {"a": 40}
        keep("", "a", 30)
        run("purge", "--policy", "--yes")
        assert sensor.api.get(latest).json["latest_data"] == {}

    def test_only_one_device(self, sensor, alice, make_device):
        other = make_device(alice)
        for device in (sensor, other):
            store_old(device, 40)
        keep("", "", 30)
        run("purge", "--policy", "--yes", "--device", str(sensor.id))
        assert measurements(sensor) == []
        assert len(measurements(other)) == 1
        assert RetentionChange.objects.get().applied_at is None
        with pytest.raises(CommandError, match="There is no device 99999"):
            run("purge", "--policy", "--device", "99999")

    def test_options_that_go_with_policy_are_refused_without(self):
        with pytest.raises(CommandError, match="go with --policy"):
            run("purge", "--yes")

    def test_what_has_expired(self, sensor):
        if telemetry_store().is_cassandra:
            assert "by itself" in run("purge")
            return
        store_old(sensor, 1, 2, 3)
        DeviceData.objects.filter(ts__lt=now_ms() - 2 * DAY).update(expires=now_ms() - 1)
        assert "2 expired value(s) would be deleted" in run("purge", "--dry-run")
        assert DeviceData.objects.count() == 3
        assert "2 expired value(s) deleted" in run("purge")
        assert DeviceData.objects.count() == 1


class TestRollups:
    def test_they_are_kept_and_read_as_the_policy_of_their_device_says(self, sensor, settings):
        settings.ROLLUP_RETENTION_DAYS = 1
        keep("sensor", "a", 2, rollup_days=0)
        at = now_ms() // DAY * DAY - DAY  # midnight; nearly two days ago at the most
        assert not Backfill(Device.objects.get(pk=sensor.id)).write(
            [Sample(at + n * HOUR, {"a": n, "b": n}) for n in range(3, 6)]
        )
        progress = rollup_store().progress([sensor.id])[sensor.id]
        assert not Rolling(sensor.id, progress, math.inf, now_ms() + 2 * 60_000).run()
        path = f"/telemetry/{sensor.id}/aggregated?aggregation=sum&window=1d&start_time=-30d"
        before = sensor.api.get(f"{path}&field=a").json["data"]
        assert [window["value"] for window in before] == [12]
        keep("sensor", "a", 1, rollup_days=0)
        run("purge", "--policy", "--yes")
        holder = next(policies.holders(sensor.id))
        keeping = Rules([Rule("", "", 1)]).keeping("sensor")
        telemetry_store().enforce(holder, keeping, now_ms() + DAY)  # as if a day had gone by
        assert measurements(sensor) == []
        assert sensor.api.get(f"{path}&field=a").json["data"] == before
        assert sensor.api.get(f"{path}&field=b").json["data"] == []


class TestCommand:
    def test_policies_are_set_listed_explained_and_removed(self, settings):
        settings.TELEMETRY_RETENTION_DAYS = 90
        out = run("retention", "set", "--type", "camera", "--days", "30", "--rollup-days", "365")
        assert "everything of type “camera” is kept 30 days, 90 days before" in out
        assert "manage.py purge --policy" in out
        run("retention", "set", "--measurement", "debug.*", "--days", "2")
        assert [line.split() for line in run("retention").splitlines()] == [
            ["TYPE", "MEASUREMENT", "DAYS", "OF", "ROLLUPS"],
            ["any", "debug.*", "2", "for", "ever"],
            ["camera", "any", "30", "365"],
            ["any", "any", "90", "for", "ever", "by", "the", "settings"],
        ]
        first, counts, *others = run("retention", "explain", "camera", "debug.x").splitlines()
        assert first == "“debug.x” of type “camera” is kept 2 days."
        assert counts.split(maxsplit=1) == [
            "counts",
            "policy for “debug.*”: 2 days, rollups for ever",
        ]
        assert len(others) == 2
        out = run("retention", "remove", "--measurement", "debug.*")
        assert "is kept 90 days, 2 days before" in out
        assert RetentionPolicy.objects.get().device_type == "camera"

    def test_a_dry_run_changes_nothing(self):
        keep("", "a", 5)
        for arguments in (("set", "--days", "3"), ("remove", "--measurement", "a")):
            assert "Nothing was changed." in run("retention", *arguments, "--dry-run")
        assert RetentionPolicy.objects.get().days == 5

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("set", "--days", "-1"), "greater than or equal to 0"),
            (("set", "--days", "-1", "--dry-run"), "greater than or equal to 0"),
            (("set", "--days", "9", "--rollup-days", "8"), "As long as the values"),
            (("set", "--days", "9", "--measurement", "a*b"), "No name"),
            (("remove", "--type", "x"), "There is no policy for everything of type “x”"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, arguments, reason):
        with pytest.raises(CommandError, match=reason):
            run("retention", *arguments)


class TestAdmin:
    @pytest.fixture
    def site(self, staff) -> Client:
        client = Client()
        client.force_login(staff.user)
        return client

    PATH = "/admin/telemetry/retentionpolicy/"

    def test_a_policy_made_changed_and_deleted_here_is_known_and_an_event_each(self, site):
        form = {"device_type": "camera", "measurement": "", "days": 30, "rollup_days": 0}
        assert site.post(f"{self.PATH}add/", form).status_code == 302
        assert retention.days("camera", "a") == 30
        policy = RetentionPolicy.objects.get()
        path = f"{self.PATH}{policy.pk}/change/"
        assert site.post(path, {"days": 10, "rollup_days": 20}).status_code == 302
        assert retention.days("camera", "a") == 10
        assert retention.rollup_days("camera", "a") == 20
        assert "10 days" in site.get(self.PATH).content.decode()
        assert site.post(f"{self.PATH}{policy.pk}/delete/", {"post": "yes"}).status_code == 302
        assert retention.days("camera", "a") == 0
        events = EventLog.objects.filter(kind="retention.changed")
        assert [event.actor for event in events] == ["user:staff"] * 3

    def test_several_are_deleted_at_once(self, site):
        kept = [keep("", name, 5) for name in "abc"]
        form = {"action": "delete_selected", "_selected_action": [p.pk for p in kept[:2]]}
        site.post(self.PATH, {**form, "post": "yes"})
        assert [p.measurement for p in RetentionPolicy.objects.all()] == ["c"]
        assert RetentionChange.objects.filter(how="removed").count() == 2

    @pytest.mark.parametrize(
        "wrong",
        [{"days": 5, "rollup_days": 4}, {"days": 9999}, {"measurement": "a*b"}, {"days": ""}],
    )
    def test_what_makes_no_sense_is_refused_by_the_form(self, site, wrong):
        form = {"device_type": "", "measurement": "a", "days": 5, "rollup_days": 0, **wrong}
        assert site.post(f"{self.PATH}add/", form).status_code == 200
        assert not RetentionPolicy.objects.exists()

    def test_one_for_the_same_values_is_refused_by_the_form(self, site):
        keep("", "a", 5)
        form = {"device_type": "", "measurement": "a", "days": 6, "rollup_days": 0}
        answer = site.post(f"{self.PATH}add/", form)
        assert "There is a policy for these values already." in answer.content.decode()

    def test_what_was_changed_can_be_looked_at_only(self, site):
        keep("camera", "", 30)
        path = "/admin/telemetry/retentionchange/"
        text = site.get(path).content.decode()
        assert "everything of type “camera”" in text
        assert "30 days" in text
        change = RetentionChange.objects.get()
        assert site.get(f"{path}{change.pk}/change/").status_code == 200
        assert site.post(f"{path}{change.pk}/delete/", {"post": "yes"}).status_code == 403
        assert site.get(f"{path}add/").status_code == 403


class TestDoctor:
    """What it says of retention; of the rest: tests/project/test_doctor.py."""

    def findings(self) -> list[dict]:
        out = run("doctor", "--json")
        return [row for row in json.loads(out)["findings"] if row["check"] == "retention"]

    def changed(self, days_ago: int) -> None:
        moment = timezone.now() - timedelta(days=days_ago)
        RetentionChange.objects.update(changed_at=moment)

    def test_where_nothing_was_changed_all_is_well(self):
        [row] = self.findings()
        assert row["level"] == "ok"
        assert "kept for ever" in row["what"]

    def test_a_shorter_retention_is_told_until_what_was_before_is_purged(self, sensor):
        store_old(sensor, 40)
        keep("sensor", "", 30)
        self.changed(days_ago=5)
        _, row = self.findings()
        assert row["level"] == "warning"
        assert "values written before" in row["what"]
        assert "(for ever); now it is 30 days" in row["what"]
        assert "purge --policy" in row["do"]
        run("purge", "--policy", "--yes")
        if telemetry_store().is_cassandra:
            # Those written before and younger than 30 days still live for ever.
            assert "That was done on" in self.findings()[1]["do"]
            self.changed(days_ago=31)
            run("purge", "--policy", "--yes")
        assert len(self.findings()) == 1

    def test_a_shorter_retention_is_over_when_the_former_has_run_out(self, sensor):
        keep("sensor", "", 30)
        RetentionChange.objects.all().delete()
        keep("sensor", "", 10)
        self.changed(days_ago=29)
        assert len(self.findings()) == 2
        self.changed(days_ago=31)
        assert len(self.findings()) == 1

    def test_a_longer_retention_is_told_while_what_was_before_expires(self, sensor):
        keep("sensor", "", 10)
        RetentionChange.objects.all().delete()
        keep("sensor", "", 0)
        self.changed(days_ago=5)
        _, row = self.findings()
        assert "(10 days); now it is for ever" in row["what"]
        if telemetry_store().is_cassandra:
            assert "imported again" in row["do"]
        run("purge", "--policy", "--yes")
        assert len(self.findings()) == (2 if telemetry_store().is_cassandra else 1)
        self.changed(days_ago=11)
        assert len(self.findings()) == 1

    def test_a_change_that_was_taken_back_is_not_told(self, sensor):
        keep("sensor", "", 10)
        policies.remove_policy(policy=RetentionPolicy.objects.get(), actor="test")
        told = [row["what"] for row in self.findings()]
        # Left is what was written meanwhile, which lives for ten days only.
        assert len(told) == 2
        assert "(10 days); now it is for ever" in told[1]

    def test_another_setting_is_told(self, settings):
        policies.note_setting()
        settings.TELEMETRY_RETENTION_DAYS = 30
        policies.note_setting()
        assert "Of everything, values" in self.findings()[1]["what"]

    def test_a_policy_for_a_type_that_no_device_has_is_told(self, sensor):
        keep("senzor", "", 0)
        assert "there is no device of this type" in self.findings()[1]["what"]

    def test_values_that_nobody_purges_are_told(self, sensor):
        if telemetry_store().is_cassandra:
            assert telemetry_store().expired(now_ms()) == 0
            return
        store_old(sensor, 1)
        DeviceData.objects.update(expires=now_ms() - 3 * 3_600_000)
        assert "1 values expired" in self.findings()[1]["what"]
