from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from tests.api import Somebody
from tests.notifications.receivers import Receiver


@pytest.fixture
def loopback(settings: Any) -> None:
    """Receivers of this machine are allowed, at any port and without TLS."""
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    settings.WEBHOOK_HTTP = True
    settings.WEBHOOK_PORTS = range(1, 65536)


@pytest.fixture
def receiver(loopback: None) -> Iterator[Receiver]:
    with Receiver().up() as receiver:
        yield receiver


@pytest.fixture
def make_channel(settings: Any) -> Callable[..., dict[str, Any]]:
    """Makes channels by the API; answers them as they are, a webhook's with its `secret`."""
    settings.SENDS_EMAIL = True

    def make(who: Somebody, address: str, **fields: Any) -> dict[str, Any]:
        kind = "webhook" if "://" in address else "email"
        body = {"name": "Ops", "kind": kind, "address": address, **fields}
        answer = who.api.post("/notification-channels", body)
        assert answer.status == 201, answer.text
        return {**answer.json["channel"], "secret": answer.json["secret"]}

    return make


@pytest.fixture
def send() -> Iterator[Callable[..., None]]:
    """Sends, as the worker does, until something holds."""
    from telemetry.notifications.sending import Postman
    from tests.services import eventually

    postman = Postman()

    def until(holds: Callable[[], bool], seconds: float = 20) -> None:
        def tried() -> bool:
            postman.send()
            return holds()

        eventually(tried, seconds)

    yield until
    postman.finish()
