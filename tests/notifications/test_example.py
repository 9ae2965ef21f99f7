"""The receiver that docs/notifications.md shows is one."""

import os
import re
import subprocess
import sys

import pytest

from iotflow.lib.child import free_port
from telemetry.notifications import signing, webhook
from telemetry.notifications.failure import Failed
from telemetry.notifications.models import Delivery
from telemetry.notifications.sending import _headers
from tests.environment import ROOT
from tests.services import eventually

EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def example(tmp_path, loopback):
    """Its address, its secret and what it writes."""
    [code] = EXAMPLE.findall((ROOT / "docs" / "notifications.md").read_text())
    secret, port = signing.new_secret(), free_port()
    environment = {**os.environ, "WEBHOOK_SECRET": signing.written(secret), "PORT": str(port)}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=said, stderr=subprocess.DEVNULL
        )
    try:
        yield f"http://127.0.0.1:{port}/", secret, tmp_path / "said"
    finally:
        process.kill()
        process.wait()


def test_it_takes_what_is_signed_and_nothing_else(example, alice, make_channel):
    url, secret, said = example
    made = make_channel(alice, url)
    delivery = Delivery.objects.create(channel_id=made["id"], body='{"type":"test"}')
    channel = delivery.channel

    def post(body=delivery.body, **more):
        return webhook.post(url, body.encode(), {**_headers(channel, delivery), **more})

    def refuses():
        try:
            post()
        except Failed as failure:
            return str(failure) == "HTTP 401"
        return False

    eventually(refuses)  # it has another secret than the channel
    channel.sealed_former, channel.sealed_secret = channel.sealed_secret, signing.seal(secret)
    assert post() == "HTTP 204"
    for changed in ({"webhook-id": "other"}, {"webhook-timestamp": "1"}):
        with pytest.raises(Failed, match="401"):
            post(**changed)
    with pytest.raises(Failed, match="401"):
        post('{"type":"made up"}')
    assert said.read_text() == f"{delivery.pk} {delivery.body}\n"
