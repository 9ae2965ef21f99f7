"""Where a webhook may lead: to addresses of the public internet, and to networks that are allowed.

A name is looked up here, and the connection goes to the very address that was looked at: what the
name says a moment later leads nowhere.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from telemetry.notifications.failure import Failed

CONNECT_SECONDS = 5.0
ADDRESSES_MAX = 2  # of a name that are tried, one after the other
Address = IPv4Address | IPv6Address

GLOBAL_V6 = ip_network("2000::/3")
NAT64 = ip_network("64:ff9b::/96")
# Global by the letter, but they lead into tunnels, or to what a cloud tells its machines.
NOWHERE = tuple(
    map(
        ip_network,
        (
            *("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"),
            *("2001::/23", "2002::/16"),
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart; `path` has the query too."""

    host: str
    port: int
    is_tls: bool
    path: str


def parse(text: str) -> Target:
    """The target that a URL names. Raises ValueError, whose text says what is wrong with it.

    A host that is written as an address is looked at here; a name when it is connected to.
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("Must have printable ASCII characters only.")
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ValueError("Must be a URL.") from error
    if url.scheme != "https" and not (url.scheme == "http" and settings.WEBHOOK_HTTP):
        raise ValueError("Must begin with https://.")
    if not host or "%" in host:
        raise ValueError("Must name a host.")
    if "@" in url.netloc or url.fragment:
        raise ValueError("May have neither user and password nor a fragment.")
    usual = 443 if url.scheme == "https" else 80
    target = Target(host, usual if port is None else port, *_rest(url))
    if target.port not in settings.WEBHOOK_PORTS:
        ports = ", ".join(map(str, sorted(settings.WEBHOOK_PORTS)))
        raise ValueError(f"The port must be one of {ports}.")
    if any(not is_allowed(address) for address in _written(host)):
        raise ValueError("This address is not allowed.")
    return target


def is_allowed(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if any(address in network for network in settings.WEBHOOK_ALLOWED_NETWORKS):
        return True
    if isinstance(address, IPv6Address) and address in NAT64:
        return is_allowed(IPv4Address(int(address) & 0xFFFF_FFFF))
    if isinstance(address, IPv6Address) and address not in GLOBAL_V6:
        return False
    if address.is_multicast or any(address in network for network in NOWHERE):
        return False
    return address.is_global


def connect(target: Target) -> socket.socket:
    """A connection to one of its addresses that are allowed. Raises Failed or OSError."""
    found = filter(is_allowed, _lookup(target.host))
    if not (allowed := list(islice(found, ADDRESSES_MAX))):
        raise Failed("It leads to an address that is not allowed.")
    for address in allowed[:-1]:
        try:
            return _connected(address, target.port)
        except OSError:
            continue
    return _connected(allowed[-1], target.port)


def _connected(address: Address, port: int) -> socket.socket:
    return socket.create_connection((str(address), port), timeout=CONNECT_SECONDS)


def _rest(url: SplitResult) -> tuple[bool, str]:
    path = url.path or "/"
    return url.scheme == "https", f"{path}?{url.query}" if url.query else path


def _lookup(host: str, **how: Any) -> Iterator[Address]:
    """Each address that the host has, once. Raises Failed where it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, **how)
    except (OSError, UnicodeError) as error:
        raise Failed("Its name leads nowhere.") from error
    return map(ip_address, dict.fromkeys(str(address[0]) for *_, address in found))


def _written(host: str) -> list[Address]:
    """The address that stands in place of a name, in whatever way it is written (127.1, 0x7f.1)."""
    try:
        return list(_lookup(host, flags=socket.AI_NUMERICHOST))
    except Failed:
        return []
