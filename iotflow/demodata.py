"""What the demo shows: an admin, a user, three devices with recorded readings, one to try by hand
and a few that are simulated. Made once, found again afterwards.

Passwords and keys are made up at random and kept in VAR_DIR, for the owner of the files only.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db.models import Q
from django.utils import timezone

from accounts.models import User
from accounts.services import register_user
from devices import keys
from devices.models import ApiKey, Device, DeviceGroup
from devices.services import (
    add_to_group,
    create_group,
    delete_devices,
    register_device,
    rotate_key,
)
from iotflow.lib.privatefile import read_private, write_private
from telemetry.latest import latest

ACTOR = "system"
ADMIN, USER = "admin", "demo"
HAND_DEVICE = "My first sensor"
SIMULATED = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """A file of samples/ and how it is imported."""

    device: str
    file: str
    location: str
    options: Mapping[str, Any]


SAMPLES = (
    Sample(
        "Seattle weather",
        "seattle-temps.csv",
        "Seattle, outdoors (°F)",
        {"time": "date", "tz": "America/Los_Angeles"},
    ),
    Sample("Water main", "water-flow.csv", "A water main (l/s)", {"time": "Time"}),
    Sample(
        "Office room",
        "occupancy.csv",
        "An office (°C, %, lux, ppm)",
        {
            "time": "time",
            "map": ["V1=temperature", "V2=humidity", "V3=light", "V4=co2"],
        },
    ),
)


class Kept:
    """What the demo keeps between its runs: passwords, keys, and which samples are imported."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._data: dict[str, Any] = read_private(path) or {}
        except ValueError:
            self._data = {}  # cut off by a full disk, say: everything in it can be made anew

    def password(self, name: str) -> str:
        """The password kept under this name; made up and kept when there is none."""
        if name not in self._data:
            self.put(name, secrets.token_urlsafe(12))
        return str(self._data[name])

    def get(self, name: str) -> Any:
        return self._data.get(name)

    def put(self, name: str, value: Any) -> None:
        self._data[name] = value
        write_private(self._path, self._data)


def admin(kept: Kept) -> str | None:
    """Find or make the superuser; its password, None where somebody has changed it since."""
    user = User.objects.filter(username=ADMIN).first()
    password = kept.password("admin_password")
    if user is None:
        User.objects.create_superuser(ADMIN, "admin@example.com", password)
        return password
    return password if user.check_password(password) else None


def owner(kept: Kept) -> User:
    """Find or make the user who owns the demo's devices."""
    user = User.objects.filter(username=USER).first()
    return user or register_user(
        username=USER, email="demo@example.com", password=kept.password("user_password")
    )


def import_samples(owner: User, kept: Kept, say: Callable[[str], object]) -> None:
    """Import each file of samples/ once, moved in time so that it ends now."""
    for sample in SAMPLES:
        device = Device.objects.filter(owner=owner, name=sample.device).first()
        if device is not None and kept.get(sample.file) == device.pk and _has_data(device):
            say(f"  {sample.device}: there already")
            continue
        if device is not None:  # an import that broke off; moved anew, its times would be doubled
            delete_devices(devices=[device], actor=ACTOR)
        fields = {"name": sample.device, "location": sample.location}
        device, _ = register_device(owner=owner, fields=fields, actor=ACTOR)
        path = settings.BASE_DIR / "samples" / sample.file
        say(f"  {sample.device}: {sample.file}")
        call_command(
            "import_telemetry",
            str(path),
            device=str(device.pk),
            shift_to_now=True,
            stdout=_Indented(say),
            **sample.options,
        )
        kept.put(sample.file, device.pk)


def device_with_key(owner: User, name: str, kept: Kept, device_type: str) -> tuple[Device, str]:
    """The device of this name and a key of it that is valid; both made where they are not there."""
    device = Device.objects.filter(owner=owner, name=name).first()
    kept_key = kept.get(f"key of {name}")
    if device is None:
        fields = {"name": name, "device_type": device_type}
        device, secret = register_device(owner=owner, fields=fields, actor=ACTOR)
    elif kept_key and _is_valid(device, kept_key):
        return device, str(kept_key)
    else:
        _, secret = rotate_key(device=device, actor=ACTOR)
    kept.put(f"key of {name}", secret)
    return device, secret


def simulated_keys(owner: User, kept: Kept) -> list[dict[str, str]]:
    """The simulated devices, as `simulate --keys` reads them."""
    names = [f"Simulated {number}" for number in range(1, SIMULATED + 1)]
    return [
        {"name": name, "api_key": device_with_key(owner, name, kept, "simulator")[1]}
        for name in names
    ]


def groups(owner: User) -> None:
    """Find or make the groups of recorded and of simulated devices."""
    samples = [sample.device for sample in SAMPLES]
    for name, description, color, members in (
        ("Recorded", "Readings of real instruments", "#0A66C2", Q(name__in=samples)),
        ("Simulated", "Devices that post now and then", "#0F766E", Q(device_type="simulator")),
    ):
        group = DeviceGroup.objects.filter(owner=owner, name=name).first() or create_group(
            owner=owner,
            fields={"description": description, "color": color, "name": name},
            actor=ACTOR,
        )
        for device in Device.objects.filter(members, owner=owner).exclude(groups=group):
            add_to_group(group=group, device=device, actor=ACTOR)


def _has_data(device: Device) -> bool:
    return bool(latest(device.pk, device.latest_epoch))


def _is_valid(device: Device, key: str) -> bool:
    digest = keys.digest(key, settings.API_KEY_PEPPER)
    return bool(ApiKey.objects.valid(timezone.now()).filter(device=device, digest=digest).exists())


class _Indented:
    """Passes on what a command within the demo says, as part of the demo's step."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say

    def write(self, text: str) -> None:
        if text.strip():
            self._say(f"    {text.rstrip()}")
