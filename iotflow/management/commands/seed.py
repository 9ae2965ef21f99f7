import random
from dataclasses import dataclass
from itertools import islice
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
from devices.services import add_all_to_group, create_group, register_devices
from events import log
from events.kinds import Kind
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import format_ms, now_ms
from telemetry.backfill import Backfill, Sample, finish_all, write_together
from telemetry.simulation import Sensor, grid

ACTOR = "system"
DAY_SECONDS = 86_400
TOGETHER = 500  # devices that are made, or begin to write, at once
BOUNDS = {
    "users": (1, 10_000),
    "devices": (0, 1_000_000),
    "groups": (0, 1_000),
    "readings": (0, 1_000_000_000),
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
        parser.add_argument("--devices", type=int, default=15, help="In all; default 15.")
        parser.add_argument("--groups", type=int, default=2, help="Of each user; default 2.")
        history = parser.add_mutually_exclusive_group()
        history.add_argument("--days", type=int, default=7, help="Of history; default 7.")
        history.add_argument(
            "--readings", type=int, help="In all, instead of --days: each device has its share."
        )
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
        plan = Plan(options)
        self.stdout.write(
            f"{plan.users} user(s) with {options['groups']} group(s) each, "
            f"{plan.devices:,} device(s) and {plan.readings:,} readings in all"
            + (f", {format_ms(plan.times(0)[0])} to the last midnight." if plan.readings else ".")
        )
        if options["dry_run"]:
            return "Nothing was changed."
        made = Made()
        try:
            with (
                tqdm(total=plan.devices, unit=" devices", disable=None) as devices,
                tqdm(total=plan.readings, unit=" readings", disable=None) as readings,
            ):
                seeding = Seeding(options, plan, made, devices, readings)
                for number in range(1, plan.users + 1):
                    seeding.seed_user(number)
        except (StoreAway, DatabaseError) as error:
            raise CommandError(
                f"{error} {made.readings:,} readings are stored; running it again is safe."
            ) from error
        first, last = (username(options["seed"], number) for number in (1, plan.users))
        return (
            f"Users: {first} to {last}. "
            f"New: {made.users} user(s), {made.devices:,} device(s), {made.groups} group(s). "
            f"{made.readings:,} readings stored."
        )


class Plan:
    """How many of everything, and which device has how much of it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.users: int = options["users"]
        self.devices: int = options["devices"]
        self._step = 1000 * options["interval"]
        self._grid = grid(now_ms(), options["days"], options["interval"])
        self._readings: int | None = options["readings"]

    @property
    def readings(self) -> int:
        if self._readings is not None and self.devices:
            return self._readings
        return self.devices * len(self._grid)

    def owned(self, number: int) -> range:
        """The devices, counted from 0, of the user `number`, counted from 1."""
        return range(number - 1, self.devices, self.users)

    def times(self, device: int) -> range:
        """When this device measures, rising, in ms."""
        if self._readings is None:
            return self._grid
        share = self._readings // self.devices + (device < self._readings % self.devices)
        return range(self._grid.stop - share * self._step, self._grid.stop, self._step)


class Seeding:
    """Makes what the plan says, and counts it in `made`."""

    def __init__(
        self, options: dict[str, Any], plan: Plan, made: Made, devices: Any, readings: Any
    ) -> None:
        self._options = options
        self._plan = plan
        self._made = made
        self._devices_bar = devices
        self._readings_bar = readings

    def seed_user(self, number: int) -> None:
        seed = self._options["seed"]
        user = find_or_make_user(username(seed, number), self._options["password"], self._made)
        groups = [
            find_or_make_group(user, f"Group {index}", self._made)
            for index in range(1, self._options["groups"] + 1)
        ]
        choice = random.Random(f"{seed}:{number}")
        indexes = enumerate(self._plan.owned(number), 1)
        while some := list(islice(indexes, TOGETHER)):
            wanted = [
                (f"{choice.choice(ROOMS)} {index}", choice.choice(TYPES)) for index, _ in some
            ]
            devices = self._find_or_make_devices(user, wanted)
            self._put_into(groups, devices)
            sensors = [Sensor(f"{seed}:{number}", index) for index, _ in some]
            times = [self._plan.times(device) for _, device in some]
            self._seed_histories(devices, sensors, times)
            self._devices_bar.update(len(devices))

    def _find_or_make_devices(self, user: User, wanted: list[tuple[str, str]]) -> list[Device]:
        """Devices with these names, of these types where they are made."""
        named = Device.objects.filter(owner=user, name__in=[name for name, _ in wanted])
        there = set(named.values_list("name", flat=True))
        rows = [
            {"name": name, "device_type": device_type, "location": name.rsplit(" ", 1)[0]}
            for name, device_type in wanted
            if name not in there
        ]
        self._made.devices += len(register_devices(owner=user, rows=rows, actor=ACTOR))
        found = {device.name: device for device in named.prefetch_related("memberships")}
        return [found[name] for name, _ in wanted]

    def _put_into(self, groups: list[DeviceGroup], devices: list[Device]) -> None:
        """Each device that is in no group into one of these, in turn."""
        alone = [device for device in devices if not device.memberships.all()]
        for turn, group in enumerate(groups):
            add_all_to_group(group=group, devices=alone[turn :: len(groups)], actor=ACTOR)

    def _seed_histories(
        self, devices: list[Device], sensors: list[Sensor], times: list[range]
    ) -> None:
        backfills = [Backfill(device) for device in devices]
        samples = (
            (backfill, Sample(time, sensor.measure(time)))
            for backfill, sensor, moments in zip(backfills, sensors, times, strict=True)
            for time in moments
        )
        while some := list(islice(samples, settings.IMPORT_GROUP)):
            together: dict[Backfill, list[Sample]] = {}
            for backfill, sample in some:
                together.setdefault(backfill, []).append(sample)
            write_together(together)
            self._made.readings += len(some)
            self._readings_bar.update(len(some))
        finish_all([one for one in backfills if one.stored], "seed", ACTOR)


def check(options: dict[str, Any]) -> None:
    """CommandError for what is out of bounds, or for a password that nobody may have."""
    for name, (least, most) in BOUNDS.items():
        if options[name] is not None and not least <= options[name] <= most:
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
