"""Where webhooks may lead: the wall between what a user writes and what is inside."""

import socket
from ipaddress import ip_address, ip_network

import pytest

from telemetry.notifications import targets, webhook
from telemetry.notifications.failure import Failed
from tests.notifications.receivers import Receiver

INSIDE = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16", "192.88.99.1"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001::1"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1"),
]
OUTSIDE = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
URLS = [
    "https://127.0.0.1/",
    "https://127.1/",
    "https://0x7f.0.0.1/",
    "https://2130706433/",
    "https://017700000001/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::]/",
    "https://0/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[64:ff9b::7f00:1]/",
]
SENSELESS = [
    "http://example.org/",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org/",
    "https://",
    "https:///path",
    "//example.org/",
    "example.org",
    "https://user:pass@example.org/",  # pragma: allowlist secret
    "https://example.org:22/",
    "https://example.org:0/",
    "https://example.org:99999/",
    "https://example.org:x/",
    "https://example.org/#part",
    "https://example.org/a b",
    "https://example.org/\r\nX: y",
    "https://exämple.org/",
    "https://[::1/",
    "https://[fe80::1%25eth0]/",
]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_refused(address):
    assert not targets.is_allowed(ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_outside_is_allowed(address):
    assert targets.is_allowed(ip_address(address))


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1"])
def test_what_is_inside_can_be_allowed_and_nothing_else_is(settings, address):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("10.1.0.0/16"), ip_network("fd12::/16")]
    assert targets.is_allowed(ip_address(address))
    for other in ("10.2.0.1", "127.0.0.1", "fd13::1", "::1"):
        assert not targets.is_allowed(ip_address(other))


@pytest.mark.parametrize("url", URLS)
def test_a_channel_to_an_address_inside_is_refused_however_it_is_written(alice, url):
    body = {"name": "x", "kind": "webhook", "address": url}
    answer = alice.api.post("/notification-channels", body)
    assert answer.status == 400
    assert answer.json["details"] == {"address": ["This address is not allowed."]}


@pytest.mark.parametrize("url", SENSELESS)
def test_a_url_that_makes_no_sense_is_refused(alice, url):
    body = {"name": "x", "kind": "webhook", "address": url}
    answer = alice.api.post("/notification-channels", body)
    assert answer.status == 400
    assert list(answer.json["details"]) == ["address"]


def looked_up(monkeypatch, *answers):
    """Each look-up of a name gets the next answer; addresses are what they are."""
    real, left = socket.getaddrinfo, list(answers)

    def getaddrinfo(host, port, *args, **kwargs):
        if host != "hooks.example.org":
            return real(host, port, *args, **kwargs)
        if kwargs.get("flags"):
            raise socket.gaierror
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port or 0)) for one in left.pop(0)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_what_leads_inside_is_refused_when_it_is_sent(settings, loopback, host):
    with Receiver().up() as receiver:
        settings.WEBHOOK_ALLOWED_NETWORKS = []
        with pytest.raises(Failed, match="not allowed"):
            webhook.post(f"http://{host}:{receiver.port}/", b"{}", {})
    assert receiver.received == []


def test_a_name_is_looked_up_once_and_the_address_that_was_checked_is_asked(
    settings, loopback, monkeypatch
):
    """The name says 127.0.0.2, which is allowed, and from then on what is not."""
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.2")]
    looked_up(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
    with Receiver().up() as receiver, pytest.raises(Failed, match="refused the connection"):
        webhook.post(f"http://hooks.example.org:{receiver.port}/", b"{}", {})
    assert receiver.received == []


def test_of_several_addresses_only_those_that_are_allowed_are_asked(
    settings, loopback, monkeypatch
):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.1")]
    looked_up(monkeypatch, ["10.0.0.1", "127.0.0.3", "127.0.0.1"])
    with Receiver().up() as receiver:
        assert webhook.post(f"http://hooks.example.org:{receiver.port}/", b"{}", {}) == "HTTP 204"
    assert receiver.received[0].headers["host"] == f"hooks.example.org:{receiver.port}"
