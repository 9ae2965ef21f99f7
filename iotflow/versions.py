"""Servers and packages against those that this version was made for."""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from django.conf import settings

from iotflow import health
from iotflow.lib.findings import Finding, ok, problem, warning

OLDEST = {
    "PostgreSQL": (14, 0),
    "Apache Cassandra": (5, 0),
    "Redis": (6, 2),
    "MongoDB": (6, 0),
    "SQLite": (3, 37),
}
SERVER = re.compile(r"([A-Za-z ]+?) v?(\d+)\.(\d+)")
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)


def versions() -> Iterator[Finding]:
    """Servers that are too old, and packages other than those pinned."""
    for text in dict.fromkeys(store.version for store in health.stores().values() if store.up):
        server = SERVER.match(text)
        oldest = OLDEST.get(server[1]) if server else None
        if server is None or oldest is None:
            continue
        least = ".".join(map(str, oldest))
        if (int(server[2]), int(server[3])) < oldest:
            yield problem(f"{text} is older than {least}.", f"Upgrade it to {least} or newer.")
        else:
            yield ok(f"{text}; {least} or newer is needed.")
    other = [f"{name} {found} instead of {pinned}" for name, found, pinned in others()]
    if other:
        yield warning(
            f"Packages are not those that this version was tested with: {', '.join(other)}.",
            "Run `pip install -r requirements.txt`.",
        )
    else:
        yield ok("Packages are those that are pinned.")


def others() -> Iterator[tuple[str, str, str]]:
    """Packages that are missing or of another version: name, what is there, what is pinned."""
    pins = settings.BASE_DIR / "requirements.txt"
    for name, pinned in PIN.findall(pins.read_text() if pins.exists() else ""):
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "nothing"
        if found != pinned:
            yield name, found, pinned
