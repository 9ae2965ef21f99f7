"""Who may do what: every endpoint of the URL conf, asked by everybody who could ask.

The object asked for always belongs to `owner`, and the device asked for is the one that `device`
is. An endpoint that is not in the table fails until somebody has said who may call it.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission

from accounts.models import Token, User
from accounts.services import set_active
from devices import commands, configs
from devices.models import ApiKey, Device, DeviceGroup
from devices.services import add_to_group, create_group, register_device
from events.models import EventLog
from iotflow.lib.timeparse import now_ms
from telemetry.alerting import alerts
from telemetry.alerting.machine import Seen
from telemetry.alerting.models import AlertRule
from telemetry.alerting.rules import create_rule
from telemetry.notifications.channels import create_channel
from telemetry.notifications.models import Delivery
from tests.api import Answer, Api
from tests.endpoints import Endpoint, endpoints

V1 = "/api/v1"
OK = "2xx"
MODELS = (
    *("user", "device", "devicegroup", "command", "alertrule", "alert", "notificationchannel"),
)
_number = itertools.count(1)

ROLES = (
    "anonymous",
    "device",
    "inactive device",
    "device of a deactivated user",
    "other device",
    "owner",
    "other user",
    "deactivated user",
    "staff without permissions",
    "staff",
    "superuser",
)


def row(anonymous: Any, devices: Any, owner: Any, other: Any, staff: Any, **own: Any) -> dict:
    """What each role gets; `own` says it of one of them alone, by its name with underscores."""
    expected = {
        **dict.fromkeys(ROLES, anonymous),
        **{role: devices for role in ROLES if "device" in role.split()},
        "owner": owner,
        "other user": other,
        **dict.fromkeys(("staff without permissions", "staff", "superuser"), staff),
    }
    return expected | {name.replace("_", " "): status for name, status in own.items()}


PUBLIC = row(OK, OK, OK, OK, OK)
NOBODY = row(404, 404, 404, 404, 404)
OWN_STATE = row(401, OK, 401, 401, 401)  # of a device, switched off or not
OWN_WRITE = row(401, OK, 401, 401, 401, inactive_device=403, device_of_a_deactivated_user=403)
OWN_ANSWER = OWN_WRITE | {"other device": 404}
USERS = row(401, 401, OK, OK, OK)
SEEN = row(401, 401, OK, 404, OK)  # the owner's and staff's
CHANGED = row(401, 401, OK, 404, OK, staff_without_permissions=403)
READINGS = row(401, 404, OK, 404, OK, device=OK)
ERASED = READINGS | {"staff without permissions": 403}
OWN_ONLY = row(401, 401, OK, 404, 404)  # not even staff
STAFF = row(401, 401, 403, 403, OK)
NO_CODE = row(401, 401, 409, 404, 409, staff_without_permissions=403)  # it is a webhook
MANAGED = row(401, 401, 403, 403, OK, staff_without_permissions=403)


READING = {"data": {"temperature": 21.5}}
# For another's device the only verdict is that there is none of that id.
ANYBODYS_READINGS = row(401, 401, OK, 400, OK, staff_without_permissions=400)
# What a query has to say where the path is not enough.
QUERIES = {"/aggregated": "?field=temperature", "/stream": "?seconds=0"}


@dataclass
class World:
    """An owner with a device in a group, and one of everybody else."""

    owner: User
    device: Device
    group: DeviceGroup
    apis: dict[str, Api]
    ids: dict[str, Any] = field(default_factory=dict)

    def secrets(self) -> list[str]:
        """What nobody who is refused may read: names of the owner's, and ids."""
        owned = [self.owner.username, self.owner.email, self.device.name, self.group.name]
        return [*owned, *(str(value) for value in self.ids.values())]


def world() -> World:
    people = {name: person(name.replace(" ", "-")) for name in ("owner", "other user", "gone")}
    people["superuser"] = person("root", is_staff=True, is_superuser=True)
    people["staff"] = person("staff", is_staff=True)
    people["staff"].user_permissions.set(Permission.objects.filter(content_type__model__in=MODELS))
    people["staff without permissions"] = person("reader", is_staff=True)
    owner, other, gone = people["owner"], people["other user"], people["gone"]
    device, key = thing(owner, "secret boiler")
    _, switched_off = thing(owner, "switched off", status=Device.Status.INACTIVE)
    _, stranded = thing(gone, "stranded")
    _, foreign = thing(other, "foreign")
    group = create_group(owner=owner, fields={"name": f"secret group {next(_number)}"}, actor="")
    add_to_group(group=group, device=device, actor="")
    apis = {name: Api(token=Token.objects.create(user)[1]) for name, user in people.items()}
    set_active(users=[gone], active=False, actor=None)
    apis["deactivated user"] = apis.pop("gone")
    apis |= {
        "anonymous": Api(),
        "device": Api(key=key),
        "inactive device": Api(key=switched_off),
        "device of a deactivated user": Api(key=stranded),
        "other device": Api(key=foreign),
    }
    ids = {
        "user_id": owner.user_id,
        "device_id": device.pk,
        "group_id": group.pk,
        "key_id": ApiKey.objects.get(device=device).pk,
        "event_id": EventLog.objects.filter(user_id=owner.pk).latest("time").pk,
        "command_id": command_for(device),
        "rule_id": (rule := rule_about(owner, device)).pk,
        "alert_id": alert_of(rule, device),
        "channel_id": (delivery := sent_by(owner)).channel_id,
        "delivery_id": delivery.pk,
        "token_id": Token.objects.create(owner)[0].pk,
    }
    return World(owner, device, group, apis, ids)


def person(name: str, **fields: Any) -> User:
    name = f"{name}{next(_number)}"
    return User.objects.create_user(name, f"{name}@example.org", "swordfish 17", **fields)


def thing(owner: User, name: str, **fields: Any) -> tuple[Device, str]:
    fields = {"name": f"{name} {next(_number)}", **fields}
    return register_device(owner=owner, fields=fields, actor="")


def newcomer(_: World) -> dict[str, str]:
    name = f"new{next(_number)}"
    return {"username": name, "email": f"{name}@example.org", "password": "swordfish 17"}


def named(_: World) -> dict[str, str]:
    return {"name": f"new {next(_number)}"}


def rule_about(owner: User, device: Device) -> AlertRule:
    fields = {"name": "hot", "device": device, "measurement": "x", "kind": "above", "threshold": 1}
    return create_rule(owner=owner, fields=fields, actor="")


def command_for(device: Device) -> str:
    given = {"name": "reboot", "params": {}, "expires_in": timedelta(hours=1)}
    [command] = commands.create(devices=[device], actor="", **given)
    return str(command.pk)


def alert_of(rule: AlertRule, device: Device) -> str:
    alert = alerts.raised(rule, device, Seen(now_ms(), 2.0))
    alert.save(force_insert=True)
    alerts.deliver()
    return str(alert.pk)


def sent_by(owner: User) -> Delivery:
    fields = {"name": "ops", "kind": "webhook", "address": "https://example.org/hook"}
    channel, _ = create_channel(owner=owner, fields=fields, actor="")
    return Delivery.objects.create(channel=channel, body="{}", status=Delivery.Status.DELIVERED)


def a_channel(_: World) -> dict[str, Any]:
    return {"name": "ops", "kind": "webhook", "address": "https://example.org/hook"}


def a_rule(of: World) -> dict[str, Any]:
    about = {"device_id": of.device.pk, "measurement": "x", "kind": "above", "threshold": 1}
    return {"name": "too hot", **about}


def another_device(of: World) -> dict[str, int]:
    return {"device_id": thing(of.owner, "another")[0].pk}


def other_devices(of: World) -> dict[str, list[int]]:
    return {"device_ids": [another_device(of)["device_id"]]}


def its_devices(of: World) -> dict[str, list[int]]:
    return {"device_ids": [of.device.pk]}


def readings_of_it(of: World) -> dict[str, Any]:
    return {"readings": [{"device_id": of.device.pk, **READING}]}


def a_range(_: World) -> dict[str, str]:
    return {"start_time": "-1h", "stop_time": "now"}


def older_config(of: World) -> dict[str, int]:
    version, _ = configs.put(device=of.device, config={"every": next(_number)}, actor="")
    return {"version": version.version}


def nothing(_: World) -> dict[str, Any]:
    return {}


def login(of: World) -> dict[str, str]:
    return {"username": of.owner.username, "password": "swordfish 17"}


# What each endpoint expects of each role, and the least body that is valid there.
TABLE: dict[Endpoint, tuple[dict[str, Any], Callable[[World], Any] | None]] = {
    ("GET", "/"): (PUBLIC, None),
    ("GET", "/health"): (PUBLIC, None),
    ("GET", "/health/live"): (PUBLIC, None),
    ("GET", "/health/ready"): (PUBLIC, None),
    ("GET", "/status"): (PUBLIC, None),
    ("GET", "/metrics"): (NOBODY, None),  # until a variable says who: test_metrics.py
    ("GET", f"{V1}/health"): (PUBLIC, None),
    ("GET", f"{V1}/status"): (PUBLIC, None),
    ("GET", "/api/schema"): (PUBLIC, None),
    ("GET", "/api/docs"): (PUBLIC, None),
    ("POST", f"{V1}/auth/register"): (PUBLIC, newcomer),
    ("POST", f"{V1}/auth/login"): (PUBLIC, login),
    ("POST", f"{V1}/auth/logout"): (USERS, None),
    ("POST", f"{V1}/auth/logout-all"): (USERS, None),
    ("GET", f"{V1}/auth/tokens"): (USERS, None),
    ("DELETE", f"{V1}/auth/tokens/{{token_id}}"): (OWN_ONLY, None),
    ("GET", f"{V1}/users"): (STAFF, None),
    ("GET", f"{V1}/users/{{user_id}}"): (SEEN, None),
    ("PUT", f"{V1}/users/{{user_id}}"): (CHANGED, lambda of: {"email": of.owner.email}),
    ("DELETE", f"{V1}/users/{{user_id}}"): (MANAGED, None),
    ("PATCH", f"{V1}/users/{{user_id}}/activate"): (MANAGED, None),
    ("PATCH", f"{V1}/users/{{user_id}}/deactivate"): (MANAGED, None),
    ("GET", f"{V1}/devices"): (USERS, None),
    ("POST", f"{V1}/devices"): (USERS, named),
    ("GET", f"{V1}/devices/{{device_id}}"): (SEEN, None),
    ("PUT", f"{V1}/devices/{{device_id}}"): (CHANGED, named),
    ("PATCH", f"{V1}/devices/{{device_id}}"): (CHANGED, named),
    ("DELETE", f"{V1}/devices/{{device_id}}"): (CHANGED, None),
    ("POST", f"{V1}/devices/{{device_id}}/rotate-key"): (CHANGED, nothing),
    ("GET", f"{V1}/devices/{{device_id}}/keys"): (SEEN, None),
    ("POST", f"{V1}/devices/{{device_id}}/keys"): (CHANGED, nothing),
    ("DELETE", f"{V1}/devices/{{device_id}}/keys/{{key_id}}"): (CHANGED, None),
    ("POST", f"{V1}/devices/register"): (USERS, named),
    ("GET", f"{V1}/devices/status"): (OWN_STATE, None),
    ("POST", f"{V1}/devices/heartbeat"): (OWN_WRITE, None),
    ("PUT", f"{V1}/devices/config"): (OWN_WRITE, lambda _: {"location": "Attic"}),
    ("GET", f"{V1}/devices/config"): (OWN_STATE, None),
    ("POST", f"{V1}/devices/config/reported"): (OWN_WRITE, lambda _: {"version": 0}),
    ("GET", f"{V1}/devices/{{device_id}}/config"): (SEEN, None),
    ("PUT", f"{V1}/devices/{{device_id}}/config"): (CHANGED, lambda _: {"config": {"every": 60}}),
    ("GET", f"{V1}/devices/{{device_id}}/config/history"): (SEEN, None),
    ("POST", f"{V1}/devices/{{device_id}}/config/rollback"): (CHANGED, older_config),
    ("GET", f"{V1}/devices/credentials"): (OWN_STATE, None),
    ("GET", f"{V1}/devices/commands"): (OWN_WRITE, None),
    ("GET", f"{V1}/devices/commands/stream"): (OWN_WRITE, None),
    ("POST", f"{V1}/devices/commands/{{command_id}}/acknowledge"): (OWN_ANSWER, None),
    ("POST", f"{V1}/devices/commands/{{command_id}}/result"): (
        OWN_ANSWER,
        lambda _: {"status": "succeeded"},
    ),
    ("GET", f"{V1}/devices/{{device_id}}/commands"): (SEEN, None),
    ("POST", f"{V1}/devices/{{device_id}}/commands"): (CHANGED, named),
    ("GET", f"{V1}/groups/{{group_id}}/commands"): (SEEN, None),
    ("POST", f"{V1}/groups/{{group_id}}/commands"): (CHANGED, named),
    ("GET", f"{V1}/commands/{{command_id}}"): (SEEN, None),
    ("POST", f"{V1}/commands/{{command_id}}/cancel"): (CHANGED, None),
    ("GET", f"{V1}/devices/user/{{user_id}}"): (SEEN, None),
    ("GET", f"{V1}/devices/{{device_id}}/status"): (SEEN, None),
    ("GET", f"{V1}/devices/{{device_id}}/presence"): (SEEN, None),
    ("GET", f"{V1}/devices/{{device_id}}/groups"): (SEEN, None),
    ("GET", f"{V1}/groups"): (USERS, None),
    ("POST", f"{V1}/groups"): (USERS, named),
    ("GET", f"{V1}/groups/{{group_id}}"): (SEEN, None),
    ("PUT", f"{V1}/groups/{{group_id}}"): (CHANGED, named),
    ("PATCH", f"{V1}/groups/{{group_id}}"): (CHANGED, named),
    ("DELETE", f"{V1}/groups/{{group_id}}"): (CHANGED, None),
    ("GET", f"{V1}/groups/{{group_id}}/devices"): (SEEN, None),
    ("POST", f"{V1}/groups/{{group_id}}/devices"): (CHANGED, another_device),
    ("POST", f"{V1}/groups/{{group_id}}/devices/bulk"): (CHANGED, other_devices),
    ("DELETE", f"{V1}/groups/{{group_id}}/devices/bulk"): (CHANGED, its_devices),
    ("GET", f"{V1}/groups/{{group_id}}/telemetry/latest"): (SEEN, None),
    ("GET", f"{V1}/groups/{{group_id}}/stream"): (SEEN, None),
    ("DELETE", f"{V1}/groups/{{group_id}}/devices/{{device_id}}"): (CHANGED, None),
    ("GET", f"{V1}/admin/stats"): (STAFF, None),
    ("GET", f"{V1}/events"): (USERS, None),
    ("GET", f"{V1}/events/stream"): (USERS, None),
    ("GET", f"{V1}/events/{{event_id}}"): (SEEN, None),
    ("GET", f"{V1}/alert-rules"): (USERS, None),
    ("POST", f"{V1}/alert-rules"): (CHANGED, a_rule),
    ("GET", f"{V1}/alert-rules/{{rule_id}}"): (SEEN, None),
    ("PUT", f"{V1}/alert-rules/{{rule_id}}"): (CHANGED, lambda _: {"name": "other"}),
    ("PATCH", f"{V1}/alert-rules/{{rule_id}}"): (CHANGED, lambda _: {"threshold": 5}),
    ("DELETE", f"{V1}/alert-rules/{{rule_id}}"): (CHANGED, None),
    ("GET", f"{V1}/alerts"): (USERS, None),
    ("GET", f"{V1}/alerts/{{alert_id}}"): (SEEN, None),
    ("POST", f"{V1}/alerts/{{alert_id}}/acknowledge"): (CHANGED, nothing),
    ("POST", f"{V1}/alerts/{{alert_id}}/resolve"): (CHANGED, None),
    ("POST", f"{V1}/alerts/{{alert_id}}/comment"): (CHANGED, lambda _: {"text": "on my way"}),
    ("GET", f"{V1}/notification-channels"): (USERS, None),
    ("POST", f"{V1}/notification-channels"): (USERS, a_channel),
    ("GET", f"{V1}/notification-channels/{{channel_id}}"): (SEEN, None),
    ("PUT", f"{V1}/notification-channels/{{channel_id}}"): (CHANGED, named),
    ("PATCH", f"{V1}/notification-channels/{{channel_id}}"): (CHANGED, named),
    ("DELETE", f"{V1}/notification-channels/{{channel_id}}"): (CHANGED, None),
    ("POST", f"{V1}/notification-channels/{{channel_id}}/rotate-secret"): (CHANGED, nothing),
    ("POST", f"{V1}/notification-channels/{{channel_id}}/confirm"): (
        NO_CODE,
        lambda _: {"code": "x"},
    ),
    ("POST", f"{V1}/notification-channels/{{channel_id}}/test"): (CHANGED, None),
    ("GET", f"{V1}/notification-channels/{{channel_id}}/deliveries"): (SEEN, None),
    ("POST", f"{V1}/deliveries/{{delivery_id}}/replay"): (CHANGED, None),
    ("GET", f"{V1}/admin/devices"): (STAFF, None),
    ("GET", f"{V1}/admin/devices/statuses"): (STAFF, None),
    ("GET", f"{V1}/admin/devices/{{device_id}}"): (STAFF, None),
    ("PUT", f"{V1}/admin/devices/{{device_id}}"): (MANAGED, named),
    ("DELETE", f"{V1}/admin/devices/{{device_id}}"): (MANAGED, None),
    ("PUT", f"{V1}/admin/devices/{{device_id}}/status"): (MANAGED, lambda _: {"status": "active"}),
    ("POST", f"{V1}/telemetry"): (OWN_WRITE, lambda _: READING),
    ("POST", f"{V1}/telemetry/batch"): (OWN_WRITE, lambda _: {"readings": [READING]}),
    ("POST", f"{V1}/telemetry/bulk"): (ANYBODYS_READINGS, readings_of_it),
    ("GET", f"{V1}/telemetry/status"): (PUBLIC, None),
    ("GET", f"{V1}/telemetry/{{device_id}}"): (READINGS, None),
    ("GET", f"{V1}/telemetry/{{device_id}}/latest"): (READINGS, None),
    ("GET", f"{V1}/telemetry/{{device_id}}/aggregated"): (READINGS, None),
    ("GET", f"{V1}/telemetry/{{device_id}}/export"): (READINGS, None),
    ("GET", f"{V1}/telemetry/{{device_id}}/stream"): (READINGS, None),
    ("DELETE", f"{V1}/telemetry/{{device_id}}"): (ERASED, a_range),
    ("GET", f"{V1}/telemetry/user/{{user_id}}"): (SEEN, None),
}
NOBODYS = dict.fromkeys(
    ("user_id", "event_id", "command_id", "alert_id", "delivery_id"),
    "00000000-0000-4000-8000-000000000000",
)


def ask(of: World, role: str, endpoint: Endpoint, ids: dict[str, Any]) -> Answer:
    method, path = endpoint
    make_body = TABLE[endpoint][1]
    body = make_body(of) if make_body else None
    query = next((query for end, query in QUERIES.items() if path.endswith(end)), "")
    return of.apis[role].request(method, path.format(**ids) + query, body)


def test_every_endpoint_is_in_the_table_and_no_other():
    assert set(TABLE) == set(endpoints())
    for endpoint, (expected, _) in TABLE.items():
        assert tuple(expected) == ROLES, endpoint


@pytest.mark.parametrize("endpoint", TABLE, ids=" ".join)
def test_each_role_gets_what_it_may(endpoint, transactional_db):
    expected, _ = TABLE[endpoint]
    shared = world()
    got = {}
    for role in ROLES:
        # What reads or is refused changes nothing; what changes something gets a world of its own.
        of = shared if endpoint[0] == "GET" or expected[role] != OK else world()
        answer = ask(of, role, endpoint, of.ids)
        got[role] = OK if 200 <= answer.status < 300 else answer.status
        if answer.status >= 400:
            leaks = [
                text for text in of.secrets() if re.search(rf"\b{re.escape(text)}\b", answer.text)
            ]
            assert leaks == [], f"{role} reads {leaks}"
    assert got == expected


@pytest.mark.parametrize(
    "endpoint",
    [one for one, (expected, _) in TABLE.items() if 404 in expected.values()],
    ids=" ".join,
)
def test_what_is_anothers_is_answered_like_what_does_not_exist(endpoint, transactional_db):
    expected, _ = TABLE[endpoint]
    of = world()
    nobodys_ids = {name: NOBODYS.get(name, 987_654_321) for name in of.ids}
    for role, status in expected.items():
        if status == 404:
            anothers, nobodys = (ask(of, role, endpoint, ids) for ids in (of.ids, nobodys_ids))
            assert anothers.status == nobodys.status == 404, role
            assert anothers.json == nobodys.json, role
