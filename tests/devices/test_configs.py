"""The configuration a device is to run: written by its owner, read and reported by the device."""

import threading

import pytest
from django.db import connections

from devices import configs
from devices.services import delete_devices
from events.models import DeviceConfig, EventLog, ReportedConfig


def path(device, rest: str = "") -> str:
    return f"/devices/{device.id}/config{rest}"


def put(who, device, config, **headers):
    return who.api.put(path(device), {"config": config}, **headers)


def events(kind: str) -> list[EventLog]:
    return list(EventLog.objects.filter(kind=f"device.config_{kind}").order_by("time"))


def nested(levels: int) -> dict:
    config: dict = {}
    for _ in range(levels - 1):
        config = {"a": config}
    return config


class TestWriting:
    def test_a_device_without_one_is_at_version_0(self, alice, sensor):
        answer = alice.api.get(path(sensor))
        assert answer.status == 200
        assert answer.headers["ETag"] == '"0"'
        assert answer.json == {
            "status": "success",
            "device_id": sensor.id,
            "version": 0,
            "author": None,
            "created_at": None,
            "rolled_back_to": None,
            "config": {},
            "reported": None,
            "in_sync": True,
        }
        own = sensor.api.get("/devices/config")
        assert own.json == {
            "device_id": sensor.id,
            "version": 0,
            "config": {},
            "created_at": None,
        }

    def test_each_write_is_a_version_with_author_and_difference(self, alice, staff, sensor):
        first = put(alice, sensor, {"interval": 10, "mqtt": {"host": "a", "port": 1}})
        assert (first.status, first.json["version"], first.headers["ETag"]) == (200, 1, '"1"')
        assert first.json["author"] == "user:alice"
        assert {change["op"] for change in first.json["diff"]} == {"add"}
        second = put(staff, sensor, {"interval": 20, "mqtt": {"host": "a", "tls": True}})
        assert second.json["version"] == 2
        assert second.json["author"] == "user:staff"
        assert second.json["diff"] == [
            {"op": "replace", "path": "/interval", "value": 20},
            {"op": "remove", "path": "/mqtt/port"},
            {"op": "add", "path": "/mqtt/tls", "value": True},
        ]
        now = alice.api.get(path(sensor)).json
        assert now["config"] == {"interval": 20, "mqtt": {"host": "a", "tls": True}}
        assert now["created_at"] == second.json["created_at"]
        assert now["in_sync"] is False

    def test_the_same_again_makes_no_new_version(self, alice, sensor):
        put(alice, sensor, {"a": 1, "b": {"c": [1, {"d": None}]}})
        again = put(alice, sensor, {"b": {"c": [1, {"d": None}]}, "a": 1})
        assert (again.status, again.json["version"], again.json["diff"]) == (200, 1, [])
        assert len(events("changed")) == 1

    @pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), ([1], [1.0])])
    def test_another_type_is_another_value(self, one, other, alice, sensor):
        put(alice, sensor, {"a": one})
        assert put(alice, sensor, {"a": other}).json["version"] == 2
        stored = sensor.api.get("/devices/config").json["config"]["a"]
        assert type(stored) is type(other)

    @pytest.mark.parametrize(
        "config",
        [
            {"mqtt.host": 1, "a": {"b.c": {"": 2}}, "": 3, "_id": 4, "id": 5, "a$b": 6},
            {"big": 2**63 - 1, "small": -(2**63), "f": 1.5, "n": None, "l": [[], {}]},
            {"text": "NUL \0, quotes \" ' and 🌡", "ümläut": "✓"},
            {"/": {"~": 1}},
            nested(64),
        ],
    )
    def test_what_is_taken_comes_back_as_it_was(self, config, alice, sensor):
        assert put(alice, sensor, config).status == 200
        assert sensor.api.get("/devices/config").json["config"] == config
        assert alice.api.get(path(sensor, "/history")).json["history"][0]["config"] == config

    @pytest.mark.parametrize(
        ("body", "where"),
        [
            (b'{"config": {"a": {"$ref": "x", "$id": 1}}}', "/a/$ref"),
            (b'{"config": {"a\\u0000b": 1}}', "/a"),
            (b'{"config": {"a": [1, 9223372036854775808]}}', "/a/1"),
            (b'{"config": {"a": 1e999}}', "/a"),
            (b'{"config": {"a": "\\ud800"}}', "/a"),
            (b'{"config": {"\\ud800": 1}}', "/"),
            (b'{"config": ' + b'{"a":' * 64 + b"[]" + b"}" * 65, "nested deeper"),
            (b'{"config": [1]}', "object"),
            (b'{"config": "x"}', "object"),
            (b'{"config": null}', "null"),
            (b"{}", "required"),
        ],
    )
    def test_what_cannot_be_kept_as_it_is_is_refused(self, body, where, alice, sensor):
        answer = alice.api.put(path(sensor), body)
        assert answer.status == 400
        assert answer.fields() == {"config"}
        assert where in " ".join(answer.json["details"]["config"])
        assert alice.api.get(path(sensor)).json["version"] == 0

    @pytest.mark.parametrize(
        "body", [b"[]", b"3", b"null", b"{", b'{"config": NaN}', b'{"config":' * 5000]
    )
    def test_a_body_that_is_no_such_object_is_refused(self, body, alice, sensor):
        assert alice.api.put(path(sensor), body).status == 400

    def test_its_size_is_bounded(self, alice, sensor, settings):
        settings.DEVICE_CONFIG_BYTES = 100
        assert put(alice, sensor, {"a": "x" * 92}).status == 200
        refused = put(alice, sensor, {"a": "x" * 93})
        assert refused.status == 400
        assert refused.json["details"] == {"config": ["Has 101 bytes; at most 100 are taken."]}

    def test_if_match_lets_nobody_overwrite_what_they_have_not_seen(self, alice, sensor):
        tag = alice.api.get(path(sensor)).headers["ETag"]
        assert put(alice, sensor, {"a": 1}, if_match=tag).json["version"] == 1
        late = put(alice, sensor, {"a": 2}, if_match=tag)
        assert (late.status, late.json["error"]) == (409, "conflict")
        assert late.fields() == {"If-Match"}
        sensor.api.post("/devices/config/reported", {"version": 1})
        tag = alice.api.get(path(sensor)).headers["ETag"]  # holds the report too
        assert put(alice, sensor, {"a": 2}, if_match=tag).json["version"] == 2
        assert put(alice, sensor, {"a": 3}, if_match="*").json["version"] == 3
        assert put(alice, sensor, {"a": 3}, if_match='"1"').status == 409
        back = alice.api.post(path(sensor, "/rollback"), {"version": 1}, if_match='"1"')
        assert back.status == 409
        assert put(alice, sensor, {"a": 4}, if_match="4").fields() == {"If-Match"}

    def test_writers_at_the_same_time_each_get_a_version_of_their_own(self, alice, sensor):
        versions: list[int] = []

        def write(n: int) -> None:
            for m in range(3):
                answer = put(alice, sensor, {"writer": n, "round": m})
                assert answer.status == 200, answer.text
                versions.append(answer.json["version"])
            connections.close_all()

        threads = [threading.Thread(target=write, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(versions) == list(range(1, 16))
        kept = [tuple(version.config.values()) for version in DeviceConfig.objects.all()]
        assert sorted(kept) == sorted((n, m) for n in range(5) for m in range(3))
        told = sorted(event.payload["version"] for event in events("changed"))
        assert told == list(range(1, 16))

    def test_an_event_tells_the_paths_and_no_value(self, alice, sensor):
        put(alice, sensor, {"wifi": {"password": "hush hush"}, "n": 1})
        [event] = events("changed")
        assert (event.actor, event.device_id) == ("user:alice", sensor.id)
        assert event.user_id == alice.user.pk
        assert event.payload == {"version": 1, "changes": 2, "paths": ["add /wifi", "add /n"]}
        put(alice, sensor, {f"key {n}": n for n in range(500)} | {"x" * 5000: 1})
        event = events("changed")[-1]
        assert event.payload["changes"] == 503
        assert len(event.payload["paths"]) == 50
        assert "hush" not in str([(e.message, e.payload) for e in EventLog.objects.all()])


class TestHistory:
    def test_newest_first_in_pages(self, alice, sensor):
        for n in range(5):
            put(alice, sensor, {"n": n})
        page = alice.api.get(path(sensor, "/history"), limit=2, offset=1).json
        assert [entry["version"] for entry in page["history"]] == [4, 3]
        assert page["history"][0]["diff"] == [{"op": "replace", "path": "/n", "value": 3}]
        assert page["history"][0]["author"] == "user:alice"
        assert page["meta"] == {"limit": 2, "offset": 1, "returned": 2, "total": 5}
        last = alice.api.get(path(sensor, "/history"), offset=3).json["history"]
        assert [entry["diff"][0]["op"] for entry in last] == ["replace", "add"]
        assert alice.api.get(path(sensor, "/history"), offset=9).json["history"] == []
        assert alice.api.get(path(sensor, "/history"), limit=0).fields() == {"limit"}

    def test_a_page_of_large_ones_ends_early_and_goes_on_by_offset(
        self, alice, sensor, monkeypatch
    ):
        monkeypatch.setattr(configs, "HISTORY_BYTES", 2500)
        for n in range(5):
            put(alice, sensor, {"n": n, "text": "x" * 1000})
        seen, offset = [], 0
        while entries := alice.api.get(path(sensor, "/history"), offset=offset).json["history"]:
            assert len(entries) <= 3
            seen += [entry["version"] for entry in entries]
            offset += len(entries)
        assert seen == [5, 4, 3, 2, 1]

    def test_of_a_device_without_any(self, alice, sensor):
        answer = alice.api.get(path(sensor, "/history")).json
        assert (answer["history"], answer["meta"]["total"]) == ([], 0)

    def test_a_rollback_is_a_new_version(self, alice, staff, sensor):
        put(alice, sensor, {"a": 1})
        put(alice, sensor, {"b": 2})
        answer = staff.api.post(path(sensor, "/rollback"), {"version": 1})
        assert answer.status == 200
        assert (answer.json["version"], answer.json["rolled_back_to"]) == (3, 1)
        assert answer.json["config"] == {"a": 1}
        assert sensor.api.get("/devices/config").json["version"] == 3
        [event] = events("rolled_back")
        assert event.payload["rolled_back_to"] == 1
        newest = alice.api.get(path(sensor, "/history")).json["history"][0]
        assert (newest["rolled_back_to"], newest["author"]) == (1, "user:staff")
        again = alice.api.post(path(sensor, "/rollback"), {"version": 1})  # it is so already
        assert (again.json["version"], again.json["diff"]) == (3, [])

    @pytest.mark.parametrize("version", [0, 2, -1, 2**31, "x", None, True, [1]])
    def test_there_is_no_way_back_to_what_never_was(self, version, alice, sensor):
        put(alice, sensor, {"a": 1})
        answer = alice.api.post(path(sensor, "/rollback"), {"version": version})
        if version is True:  # which DRF reads as 1
            assert answer.status in (200, 400)
        else:
            assert (answer.status, answer.fields()) == (400, {"version"})


class TestOnTheDevice:
    def test_it_reads_what_it_is_to_run_and_only_when_that_changed(self, alice, sensor):
        put(alice, sensor, {"interval": 10})
        answer = sensor.api.get("/devices/config")
        assert answer.headers["ETag"] == '"1"'
        assert answer.json["config"] == {"interval": 10}
        for tag in ('"1"', 'W/"1"', '"0", "1"', "*"):
            unchanged = with_tag(sensor.key, tag)
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            assert unchanged.headers["ETag"] == '"1"'
            assert "Content-Type" not in unchanged.headers
        put(alice, sensor, {"interval": 20})
        assert with_tag(sensor.key, '"1"').status_code == 200

    def test_what_it_reports_is_seen_by_its_owner(self, alice, sensor):
        put(alice, sensor, {"a": 1})
        said = sensor.api.post("/devices/config/reported", {"version": 1})
        assert said.status == 200
        assert said.json["reported"]["status"] == "applied"
        assert said.json["in_sync"] is True
        seen = alice.api.get(path(sensor))
        assert seen.json["reported"] == said.json["reported"]
        assert seen.json["in_sync"] is True
        tag = seen.headers["ETag"]
        assert tag.startswith('"1.')
        put(alice, sensor, {"a": 2})
        assert alice.api.get(path(sensor)).json["in_sync"] is False
        failed = {"version": 2, "status": "failed", "message": "no room left"}
        assert sensor.api.post("/devices/config/reported", failed).json["in_sync"] is False
        seen = alice.api.get(path(sensor))
        assert seen.json["reported"]["message"] == "no room left"
        assert seen.headers["ETag"] != tag
        assert ReportedConfig.objects.count() == 1

    def test_a_report_is_an_event_when_it_is_news(self, alice, sensor):
        put(alice, sensor, {"a": 1})
        for _ in range(3):
            sensor.api.post("/devices/config/reported", {"version": 1})
        sensor.api.post("/devices/config/reported", {"version": 1, "status": "failed"})
        assert [(e.severity, e.payload) for e in events("reported")] == [
            ("info", {"version": 1, "status": "applied"}),
            ("warning", {"version": 1, "status": "failed"}),
        ]
        assert {e.actor for e in events("reported")} == {f"device:{sensor.id}"}

    @pytest.mark.parametrize(
        ("body", "wrong"),
        [
            ({"version": 2}, "version"),
            ({"version": -1}, "version"),
            ({"version": 2**70}, "version"),
            ({"version": "x"}, "version"),
            ({}, "version"),
            ({"version": 1, "status": "done"}, "status"),
            ({"version": 1, "status": None}, "status"),
            ({"version": 1, "message": "x" * 501}, "message"),
            ({"version": 1, "message": "\0"}, "message"),
            ({"version": 1, "message": "\ud800"}, "message"),
            ({"version": 1, "message": ["x"]}, "message"),
            ([], "body"),
        ],
    )
    def test_a_bad_report_is_named(self, body, wrong, alice, sensor):
        put(alice, sensor, {"a": 1})
        answer = sensor.api.post("/devices/config/reported", body)
        assert (answer.status, answer.fields()) == (400, {wrong})
        assert alice.api.get(path(sensor)).json["reported"] is None

    def test_first_reports_at_the_same_time_are_one(self, sensor):
        statuses = []

        def say() -> None:
            answer = sensor.api.post("/devices/config/reported", {"version": 0})
            statuses.append(answer.status)
            connections.close_all()

        threads = [threading.Thread(target=say) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 6
        assert ReportedConfig.objects.count() == 1

    def test_it_still_tells_its_location_and_versions_under_the_same_path(self, sensor):
        answer = sensor.api.put("/devices/config", {"firmware_version": "2.0"})
        assert answer.json["device"]["firmware_version"] == "2.0"

    def test_switched_off_it_reads_and_does_not_report(self, staff, sensor):
        staff.api.put(f"/admin/devices/{sensor.id}/status", {"status": "inactive"})
        assert sensor.api.get("/devices/config").status == 200
        assert sensor.api.post("/devices/config/reported", {"version": 0}).status == 403
        assert sensor.api.put("/devices/config", {"location": "x"}).status == 403


class TestWhose:
    def test_somebody_elses_is_not_there(self, alice, bob, sensor, anybody):
        put(alice, sensor, {"a": 1})
        for who, status in ((bob.api, 404), (anybody, 401), (sensor.api, 401)):
            assert who.get(path(sensor)).status == status
            assert who.put(path(sensor), {"config": {}}).status == status
            assert who.get(path(sensor, "/history")).status == status
            assert who.post(path(sensor, "/rollback"), {"version": 1}).status == status
        assert alice.api.get("/devices/config").status == 401
        assert alice.api.post("/devices/config/reported", {"version": 1}).status == 401

    def test_a_deleted_devices_is_gone_at_once_and_erased_later(self, alice, sensor):
        for n in range(3):
            put(alice, sensor, {"n": n})
        sensor.api.post("/devices/config/reported", {"version": 3})
        delete_devices(devices=[sensor.device], actor="test")
        assert alice.api.get(path(sensor)).status == 404
        assert sensor.api.get("/devices/config").status == 401
        assert configs.count(sensor.id) == 3
        for _ in range(2):
            configs.erase(sensor.id)
        assert configs.count(sensor.id) == 0
        assert not DeviceConfig.objects.exists()
        assert not ReportedConfig.objects.exists()


def with_tag(key: str, tag: str):
    from django.test import Client

    return Client().get("/api/v1/devices/config", HTTP_X_API_KEY=key, HTTP_IF_NONE_MATCH=tag)
