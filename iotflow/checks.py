"""System checks: settings that are legal one by one but wrong together, and what to do about it.

What no value could be right for is refused in iotflow.settings already, when it is read.
"""

import os
import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from iotflow.tls import UNVERIFIED

LOCAL = {"localhost", "127.0.0.1", "[::1]"}


@register()
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [*_directories(), *_addresses(), *_limits(), *_embedded(), *_transport()]


def _directories() -> Iterator[CheckMessage]:
    if not os.access(settings.VAR_DIR, os.W_OK):
        yield Error(
            f"VAR_DIR ({settings.VAR_DIR}) cannot be written to.",
            hint="Everything embedded lives there. Set VAR_DIR to a directory of this user's.",
            id="iotflow.E001",
        )


def _addresses() -> Iterator[CheckMessage]:
    for network in settings.TRUSTED_PROXIES:
        try:
            ip_network(network, strict=False)
        except ValueError:
            yield Error(
                f"TRUSTED_PROXIES has “{network}”, which is neither an address nor a network.",
                hint="Use addresses or networks, separated by commas: 10.0.0.5,192.168.0.0/16",
                id="iotflow.E002",
            )
    for name, url, schemes in (
        ("REDIS_URL", settings.REDIS_URL, ("redis", "rediss", "unix")),
        ("MONGODB_URI", settings.MONGODB_URI, ("mongodb", "mongodb+srv")),
        ("MQTT_URL", settings.MQTT_URL, ("mqtt", "mqtts")),
    ):
        if url and urlsplit(url).scheme not in schemes:
            yield Error(
                f"{name} does not begin with one of {', '.join(f'{s}://' for s in schemes)}.",
                hint=f"Leave {name} unset for the embedded store, or for no broker.",
                id="iotflow.E003",
            )
    if settings.MQTT_URL and not urlsplit(settings.MQTT_URL).username:
        yield Error(
            "MQTT_URL names no user.",
            hint="A bridge's session at the broker is under its name: mqtt://bridge:PASSWORD@host",
            id="iotflow.E005",
        )


def _limits() -> Iterator[CheckMessage]:
    for default, most in (("HISTORY_LIMIT", "HISTORY_LIMIT_MAX"), ("LIST_LIMIT", "LIST_LIMIT_MAX")):
        if getattr(settings, default) > getattr(settings, most):
            yield Error(
                f"{default} is above {most}.",
                hint=f"A request without a limit would be refused. Raise {most}.",
                id="iotflow.E004",
            )
    if settings.CASSANDRA_HOSTS:
        replication = settings.DATABASES["cassandra"]["OPTIONS"]["replication"]
        factor = replication.get("replication_factor", 0)
        if factor > 1:
            yield Warning(
                f"CASSANDRA_REPLICATION_FACTOR is {factor} and CASSANDRA_DATACENTER is not set.",
                hint="Without it replicas ignore racks. `nodetool status` names the datacenter.",
                id="iotflow.W001",
            )


def _embedded() -> Iterator[CheckMessage]:
    embedded = [
        variable
        for variable, is_embedded in (
            ("DATABASE_URL", settings.EMBEDDED_DATABASE),
            ("REDIS_URL", settings.REDIS_EMBEDDED),
            ("MONGODB_URI", settings.EVENTS_EMBEDDED),
        )
        if is_embedded
    ]
    if embedded and len(embedded) < 3:
        yield Warning(
            f"{', '.join(embedded)} not set: that store is embedded beside real servers.",
            hint="An embedded store serves one server process. Set the variable, or none at all.",
            id="iotflow.W002",
        )
    workers = os.environ.get("GRANIAN_WORKERS", "1")
    if embedded and workers != "1":
        yield Warning(
            f"GRANIAN_WORKERS is {workers}, but {', '.join(embedded)} not set.",
            hint="What is embedded serves one server process. Run one, or set the variables.",
            id="iotflow.W004",
        )


def _transport() -> Iterator[CheckMessage]:
    hosts = set(settings.ALLOWED_HOSTS) - LOCAL
    if settings.ALLOW_HTTP and hosts and not settings.DEBUG:
        yield Warning(
            f"ALLOW_HTTP is set and {', '.join(sorted(hosts))} may be asked for.",
            hint="Keys and passwords would cross the network in clear. Unset ALLOW_HTTP.",
            id="iotflow.W003",
        )


@register(Tags.security, deploy=True)
def check_encryption(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """For `check --deploy`: a store across the network is spoken to by TLS, and is verified."""
    found: list[CheckMessage] = []
    for variable, hosts, is_verified in _stores():
        away = [host for host in hosts if not _is_this_machine(host)]
        if away and not is_verified:
            name = variable.partition("_")[0]
            found.append(
                Warning(
                    f"{variable}: {', '.join(away)} is not reached by TLS, or not verified.",
                    hint=f"Set {name}_TLS_CA: what is stored crosses the network in clear.",
                    id="iotflow.W005",
                )
            )
    return found


def _stores() -> Iterator[tuple[str, list[str], bool]]:
    """(variable, hosts, whether their certificates are verified) of each store that is a server."""
    database = settings.DATABASES["default"]
    if not database["ENGINE"].endswith("sqlite3"):
        mode = database["OPTIONS"].get("sslmode")
        yield "DATABASE_URL", database["HOST"].split(","), mode == "verify-full"
    if settings.CASSANDRA_HOSTS:
        yield "CASSANDRA_HOSTS", settings.CASSANDRA_HOSTS.split(","), bool(settings.CASSANDRA_TLS)
    if not settings.REDIS_EMBEDDED:
        url = urlsplit(settings.REDIS_URL)
        asked = url.scheme == "rediss" and not UNVERIFIED.search(url.query)
        yield "REDIS_URL", [url.hostname or ""], bool(settings.REDIS_TLS) or asked
    if not settings.EVENTS_EMBEDDED:
        url = urlsplit(settings.MONGODB_URI)
        encrypts = url.scheme == "mongodb+srv" or re.search(r"\b(tls|ssl)=true\b", url.query)
        asked = bool(encrypts) and not UNVERIFIED.search(url.query)
        hosts = [re.sub(r":\d+$", "", host) for host in url.netloc.rpartition("@")[2].split(",")]
        yield "MONGODB_URI", hosts, bool(settings.MONGODB_TLS) or asked
    if settings.MQTT_URL:
        url = urlsplit(settings.MQTT_URL)
        yield "MQTT_URL", [url.hostname or ""], url.scheme == "mqtts"


def _is_this_machine(host: str) -> bool:
    """Its loopback addresses, and sockets in its file system; other names are not looked up."""
    if host in ("", "localhost") or host.startswith(("/", "%2F")):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
