"""What a backup says of itself: what made it, and every file's lines, bytes and SHA-256.

It is written last: a directory without it is no backup, or not yet.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from devices import keys
from iotflow.lib.privatefile import read_private, write_private

NAME = "manifest.json"
FORMAT = 1
CHUNK = 1 << 20


class Unfit(Exception):
    """This cannot be backed up there, or restored here; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    lines: int
    bytes: int
    sha256: str


@dataclass(slots=True)
class Manifest:
    """`began` and `ended` are ISO 8601. `peppers`: fingerprints of those that keys were made under.

    `sequences` are the last ids given, by table: none of them is given again.
    """

    version: str
    began: str
    ended: str
    stores: dict[str, str]
    migrations: list[str]
    peppers: list[str]
    secret_key: str
    sequences: dict[str, int]
    files: dict[str, Entry] = field(default_factory=dict)
    format: int = FORMAT

    def lines(self, folder: str) -> int:
        """How many lines the files of a folder have."""
        return sum(entry.lines for name, entry in self.files.items() if name.startswith(folder))

    def write(self, directory: Path) -> None:
        write_private(directory / NAME, asdict(self))


def read(directory: Path) -> Manifest:
    """The manifest of a backup. Raises Unfit where there is none that can be read here."""
    try:
        found: dict[str, Any] | None = read_private(directory / NAME)
    except ValueError as error:
        raise Unfit(f"{directory / NAME} is damaged.") from error
    if found is None:
        raise Unfit(f"{directory} is no backup, or one that broke off: it has no {NAME}.")
    if found.get("format") != FORMAT:
        raise Unfit("The backup has another format: restore it with the version that made it.")
    files = {name: Entry(**entry) for name, entry in found.pop("files").items()}
    return Manifest(**found, files=files)


def describe(directory: Path) -> dict[str, Entry]:
    """Every file below, but for the manifest, by its name from there."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != NAME)
    return {str(path.relative_to(directory)): entry(path) for path in files}


def entry(path: Path) -> Entry:
    digest, lines, size = hashlib.sha256(), 0, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            size += len(chunk)
    return Entry(lines, size, digest.hexdigest())


def verify(directory: Path, manifest: Manifest) -> None:
    """Raises Unfit where a file is not what it was."""
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise Unfit(f"{name} is missing.")
        if entry(path) != expected:
            raise Unfit(f"{name} is damaged: its SHA-256 is another.")


def secret_key() -> str:
    """8 hexadecimal characters that name SECRET_KEY without giving it away."""
    secret = b"iotflow secret key " + settings.SECRET_KEY.encode()
    return hashlib.sha256(secret).hexdigest()[:8]


def peppers() -> set[str]:
    """Fingerprints of the peppers that this installation knows."""
    return {keys.fingerprint(one) for one in known_peppers()}


def known_peppers() -> list[str]:
    return [settings.API_KEY_PEPPER, *settings.API_KEY_PEPPERS_OLD]
