"""Who is on the other end of the wire."""

from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# Where a request's META has the id of the device whose key it came with.
DEVICE = "iotflow.device"


def client_address(request: HttpRequest) -> str:
    """The last hop that is not one of TRUSTED_PROXIES; a header from anybody else is ignored."""
    address = request.META.get("REMOTE_ADDR", "")
    hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    while hops and is_trusted_proxy(address):
        hop = hops.pop()
        if not _is_address(hop):
            break
        address = hop
    return address


def network(address: str) -> str:
    """What is counted as one client: an IPv4 address, or the /64 of an IPv6 one."""
    if not _is_address(address):
        return address
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ip_network((int(ip), 64), strict=False))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_trusted_proxy(address: str) -> bool:
    """Whether what this peer says about the hop before it is believed."""
    return _trusted(address, tuple(settings.TRUSTED_PROXIES))


@lru_cache(maxsize=1024)
def _trusted(address: str, networks: tuple[str, ...]) -> bool:
    return _is_address(address) and any(
        ip_address(address) in ip_network(network, strict=False) for network in networks
    )
