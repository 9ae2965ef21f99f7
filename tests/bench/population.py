"""Who is there: an owner, staff, devices with keys, made as the application makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.bench.wrk import Target

API = "/api/v1"


@dataclass(frozen=True)
class Somebody:
    """A device, and its key."""

    id: int
    key: str

    def target(self, path: str) -> Target:
        return Target(f"{API}/{path.format(id=self.id)}", self.id, "X-API-Key", self.key)


@dataclass(frozen=True)
class People:
    owner_id: int
    token: str
    staff_token: str

    def target(self, path: str, device_id: int = 0) -> Target:
        return Target(
            f"{API}/{path.format(id=device_id)}",
            device_id,
            "Authorization",
            f"Bearer {self.token}",
        )


def people() -> People:
    from accounts.models import Token, User

    owner = User.objects.create_user("bench", "bench@example.org")
    staff = User.objects.create_user("staff", "staff@example.org", is_staff=True)
    token = partial(Token.objects.create)
    return People(owner.pk, token(owner)[1], token(staff)[1])


def rules(ruled: Sequence[Somebody], others: Sequence[Somebody], count: int) -> None:
    """So many rules of alerts: three about each of the `ruled`, by their type, the rest about
    others; what they watch never breaches them.
    """
    from devices.models import Device
    from telemetry.alerting.models import AlertRule

    def rule(**about: Any) -> AlertRule:
        return AlertRule(
            owner_id=owner_id, name="bench", kind="above", threshold=1e9, hysteresis=1.0, **about
        )

    [owner_id] = Device.objects.filter(pk=ruled[0].id).values_list("owner_id", flat=True)
    Device.objects.filter(pk__in=[one.id for one in ruled]).update(device_type="ruled")
    made = [
        rule(device_type="ruled", measurement=name)
        for name in ("temperature", "humidity", "battery")
    ]
    made += [
        rule(device_id=others[number % len(others)].id, measurement="temperature")
        for number in range(count - len(made))
    ]
    AlertRule.objects.bulk_create(made)


def devices(owner_id: int, name: str, count: int) -> list[Somebody]:
    """So many devices of the owner's."""
    from accounts.models import User
    from devices.services import register_device

    owner = User.objects.get(pk=owner_id)
    made = (
        register_device(owner=owner, fields={"name": f"{name} {number}"}, actor="bench")
        for number in range(1, count + 1)
    )
    return [Somebody(device.pk, key) for device, key in made]
