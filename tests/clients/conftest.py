import itertools
import os
from collections.abc import Callable, Iterator

import pytest
from iotflow_client import Device, Retry, User

from tests.clients.middle import Middle, middle
from tests.environment import ROOT

KEY = "k" * 40
QUICK = Retry(tries=5, seconds=20, first=0.01)
_number = itertools.count(1)


@pytest.fixture(scope="session")
def grace(url: str) -> Iterator[User]:
    """A user of the live server."""
    with User(url) as user:
        user.register("grace", "grace@example.org", "swordfish 17")
        user.login("grace", "swordfish 17")
        yield user


@pytest.fixture
def device(grace: User) -> Iterator[Device]:
    """A device of grace's, new for each test."""
    with grace.register_device(f"device {next(_number)}") as device:
        yield device


@pytest.fixture
def alone() -> Iterator[Middle]:
    """A server that takes everything unless its plan says otherwise; nothing is behind it."""
    with middle() as found:
        yield found


@pytest.fixture
def between(url: str) -> Iterator[Middle]:
    """A server before the live one that fails as planned."""
    with middle(url) as found:
        yield found


@pytest.fixture
def speak() -> Iterator[Callable[..., Device]]:
    """Makes devices that try again quickly."""
    made: list[Device] = []

    def make(url: str, key: str = KEY, retry: Retry = QUICK, **options: object) -> Device:
        made.append(Device(url, key, retry=retry, timeout=5, **options))
        return made[-1]

    yield make
    for device in made:
        device.close()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of a process that finds the client."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "clients" / "python"), "NO_PROXY": "*"}
