"""Two server processes on the same stores: what one of them ends, the other refuses at once."""

import time
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from django.conf import settings
from django.utils import timezone

from devices import key_cache, keys
from tests.server import real_environment, running
from tests.services import hung, killed

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class Process:
    """The API as one server process answers it."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=15)

    def submit(self, key: str) -> int:
        return self._client.post(
            "/telemetry", headers={"X-API-Key": key}, json={"data": {"a": 1}}
        ).status_code

    def call(self, who, method: str, path: str, body: object = None) -> dict:
        headers = {"Authorization": f"Bearer {who.api.token}"}
        answer = self._client.request(method, path, headers=headers, json=body)
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def processes(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Process, Process]]:
    """A and B, on the test databases."""
    log, environment = tmp_path_factory.mktemp("servers"), real_environment()
    with running(log / "a.log", environment) as a, running(log / "b.log", environment) as b:
        yield Process(a), Process(b)


def rotate(a: Process, device, alice, staff) -> None:
    a.call(alice, "POST", f"/devices/{device.id}/rotate-key")


def revoke(a: Process, device, alice, staff) -> None:
    [key] = a.call(alice, "GET", f"/devices/{device.id}/keys")["keys"]
    a.call(alice, "DELETE", f"/devices/{device.id}/keys/{key['id']}")


def switch_off(a: Process, device, alice, staff) -> None:
    a.call(alice, "PATCH", f"/devices/{device.id}", {"status": "inactive"})


def deactivate_owner(a: Process, device, alice, staff) -> None:
    a.call(staff, "PATCH", f"/users/{alice.user.user_id}/deactivate")


def delete_device(a: Process, device, alice, staff) -> None:
    a.call(alice, "DELETE", f"/devices/{device.id}")


def delete_owner(a: Process, device, alice, staff) -> None:
    a.call(staff, "DELETE", f"/users/{alice.user.user_id}")


CHANGES = [
    (rotate, 401),
    (revoke, 401),
    (switch_off, 403),
    (deactivate_owner, 403),
    (delete_device, 401),
    (delete_owner, 401),
]


def use(processes: tuple[Process, Process], key: str) -> None:
    """The key is used on both, and cached for both."""
    for process in processes:
        assert process.submit(key) == 201
    digest = keys.digest(key, settings.API_KEY_PEPPER)
    assert key_cache.find(digest).record is not None


@pytest.mark.parametrize(("change", "refusal"), CHANGES)
def test_what_one_ends_the_other_refuses_at_once(
    processes, change, refusal, alice, staff, sensor, make_device
):
    other = make_device(staff)
    for key in (sensor.key, other.key):
        use(processes, key)
    a, b = processes
    change(a, sensor, alice, staff)
    assert b.submit(sensor.key) == refusal
    assert a.submit(sensor.key) == refusal
    assert b.submit(other.key) == 201


@pytest.mark.parametrize(("change", "refusal"), CHANGES)
def test_redis_dies_between_the_change_and_the_request(
    processes, change, refusal, alice, staff, sensor
):
    use(processes, sensor.key)
    a, b = processes
    change(a, sensor, alice, staff)
    with killed("redis"):
        assert b.submit(sensor.key) == refusal
    for _ in range(10):
        assert b.submit(sensor.key) == refusal
        time.sleep(0.1)


@pytest.mark.parametrize("away", [killed, hung])
@pytest.mark.parametrize(("change", "refusal"), CHANGES[:3])
def test_redis_is_away_during_the_change_and_returns_with_what_it_held(
    processes, away, change, refusal, alice, staff, sensor
):
    use(processes, sensor.key)
    a, b = processes
    with away("redis"):
        change(a, sensor, alice, staff)
        assert b.submit(sensor.key) == refusal
    for _ in range(10):
        assert b.submit(sensor.key) == refusal
        time.sleep(0.1)


def test_in_its_grace_an_old_key_works_on_both_and_then_on_neither(processes, alice, sensor):
    use(processes, sensor.key)
    a = processes[0]
    rotated = time.monotonic()
    answer = a.call(alice, "POST", f"/devices/{sensor.id}/rotate-key", {"grace_seconds": 3})
    use(processes, answer["api_key"])
    use(processes, sensor.key)
    assert time.monotonic() - rotated < 3, "too slow to see the grace"
    time.sleep(3.1 - (time.monotonic() - rotated))
    for process in processes:
        assert process.submit(sensor.key) == 401
        assert process.submit(answer["api_key"]) == 201


def test_a_key_that_waits_for_its_time_opens_neither_before(processes, alice, sensor):
    a = processes[0]
    start = timezone.now() + timedelta(seconds=2)
    body = {"valid_from": start.isoformat()}
    key = a.call(alice, "POST", f"/devices/{sensor.id}/keys", body)["api_key"]
    for process in processes:
        assert process.submit(key) == 401
    assert timezone.now() < start, "too slow to see it wait"
    time.sleep(2.1)
    use(processes, key)


def test_ended_tokens_are_refused_by_the_other(processes, alice):
    a, b = processes
    assert b.call(alice, "GET", "/devices")["devices"] == []
    assert a.call(alice, "POST", "/auth/logout-all")["ended"] == 1
    with pytest.raises(AssertionError, match="not_authenticated"):
        b.call(alice, "GET", "/devices")
