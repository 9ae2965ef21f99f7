import random
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, transaction
from tqdm import tqdm

from accounts.models import User
from accounts.services import register_user
from devices.models import Device, DeviceGroup
from devices.services import add_to_group, create_group, register_device
from events import log
from events.kinds import Kind
from iotflow.lib.batches import batched
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import format_ms, now_ms
from telemetry.backfill import Backfill, Sample
from telemetry.simulation import Sensor, grid

ACTOR = "system"
DAY_SECONDS = 86_400
BOUNDS = {
    "users": (1, 10_000),
    "devices": (0, 10_000),
    "groups": (0, 1_000),
    "days": (0, 3_650),
    "interval": (1, DAY_SECONDS),
}
ROOMS = ("Kitchen", "Workshop", "Cold store", "Server room", "Greenhouse", "Office", "Cellar")
TYPES = ("climate", "sensor", "gateway")


@dataclass(slots=True)
class Made:
    users: int = 0
    devices: int = 0
    groups: int = 0
    readings: int = 0


class Command(BaseCommand):
    help = (
        "Make users, devices, groups and a history of readings that ends with the last midnight "
        "(UTC). The same --seed makes the same; what is there already is found again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--users", type=int, default=3, help="Default 3.")
        parser.add_argument("--devices", type=int, default=5, help="Of each user; default 5.")
        parser.add_argument("--groups", type=int, default=2, help="Of each user; default 2.")
        parser.add_argument("--days", type=int, default=7, help="Of history; default 7.")
        parser.add_argument(
            "--interval", type=int, default=300, metavar="SECONDS", help="Default 300."
        )
        parser.add_argument("--seed", type=int, default=42, help="Default 42.")
        parser.add_argument(
            "--password", help="Of users who have none; without it nobody can log in as them."
        )
        parser.add_argument("--dry-run", action="store_true", help="Say what would be made.")

    def handle(self, *args: Any, **options: Any) -> str:
        check(options)
        times = grid(now_ms(), options["days"], options["interval"])
        per_user = options["devices"] * len(times)
        self.stdout.write(
            f"{options['users']} user(s) with {options['devices']} device(s), "
            f"{options['groups']} group(s) and {per_user:,} readings each"
            + (f", {format_ms(times[0])} to {format_ms(times[-1])}." if times else ".")
        )
        if options["dry_run"]:
            return "Nothing was changed."
        made = Made()
        try:
            with tqdm(total=options["users"] * per_user, unit=" readings", disable=None) as bar:
                for number in range(1, options["users"] + 1):
                    self._seed_user(number, times, made, bar, options)
        except (StoreAway, DatabaseError) as error:
            raise CommandError(
                f"{error} {made.readings:,} readings are stored; running it again is safe."
            ) from error
        first, last = (username(options["seed"], number) for number in (1, options["users"]))
        return (
            f"Users: {first} to {last}. "
            f"New: {made.users} user(s), {made.devices} device(s), {made.groups} group(s). "
            f"{made.readings:,} readings stored."
        )

    def _seed_user(
        self, number: int, times: range, made: Made, bar: Any, options: dict[str, Any]
    ) -> None:
        seed = options["seed"]
        user = find_or_make_user(username(seed, number), options["password"], made)
        groups = [
            find_or_make_group(user, f"Group {index}", made)
            for index in range(1, options["groups"] + 1)
        ]
        choice = random.Random(f"{seed}:{number}")
        for index in range(1, options["devices"] + 1):
            room, device_type = choice.choice(ROOMS), choice.choice(TYPES)
            device = find_or_make_device(user, f"{room} {index}", device_type, made)
            if groups and not device.memberships.exists():
                add_to_group(group=groups[index % len(groups)], device=device, actor=ACTOR)
            self._seed_history(device, Sensor(f"{seed}:{number}", index), times, made, bar)

    def _seed_history(
        self, device: Device, sensor: Sensor, times: range, made: Made, bar: Any
    ) -> None:
        backfill = Backfill(device)
        for group in batched(times, settings.IMPORT_GROUP):
            backfill.write([Sample(time, sensor.measure(time)) for time in group])
            made.readings += len(group)
            bar.update(len(group))
        if times:
            backfill.finish("seed", ACTOR)


def check(options: dict[str, Any]) -> None:
    """CommandError for what is out of bounds, or for a password that nobody may have."""
    for name, (least, most) in BOUNDS.items():
        if not least <= options[name] <= most:
            raise CommandError(f"--{name} must be from {least} to {most:,}.")
    if options["password"] is not None:
        try:
            validate_password(options["password"])
        except ValidationError as error:
            raise CommandError(f"--password: {' '.join(error.messages)}") from error


def username(seed: int, number: int) -> str:
    return f"seed{seed}-user{number}"


def find_or_make_user(name: str, password: str | None, made: Made) -> User:
    """The user of this name; `password` is set where there is none yet."""
    user = User.objects.filter(username=name).first()
    email = f"{name}@example.com"
    if user is None:
        made.users += 1
        if password is not None:
            return register_user(username=name, email=email, password=password)
        with transaction.atomic():
            user = User.objects.create_user(name, email)  # with no password at all
            log.record(Kind.USER_REGISTERED, f"{name} made by seed", actor=ACTOR, user_id=user.pk)
    elif password is not None and not user.has_usable_password():
        user.set_password(password)
        user.save(update_fields=["password"])
    return user


def find_or_make_group(user: User, name: str, made: Made) -> DeviceGroup:
    group = DeviceGroup.objects.filter(owner=user, name=name).first()
    if group is None:
        made.groups += 1
        group = create_group(owner=user, fields={"name": name}, actor=ACTOR)
    return group


def find_or_make_device(user: User, name: str, device_type: str, made: Made) -> Device:
    device: Device | None = Device.objects.filter(owner=user, name=name).first()
    if device is None:
        made.devices += 1
        fields = {"name": name, "device_type": device_type, "location": name.rsplit(" ", 1)[0]}
        device, _ = register_device(owner=user, fields=fields, actor=ACTOR)
    return device
