"""How far an import has come, kept in VAR_DIR until it is complete."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from iotflow.lib.privatefile import read_private, write_private

SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Up to `line` everything is stored; every time was moved by `shift`."""

    line: int = 0
    shift: int = 0


class Bookmark:
    """Of one file, imported in one way; a file that has changed is another one."""

    def __init__(self, file: Path, *how: Any) -> None:
        status = file.stat()
        what = [str(file.resolve()), status.st_size, status.st_mtime_ns, *map(str, how)]
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]
        self._path = settings.VAR_DIR / "imports" / f"{digest}.json"
        self._noted = 0.0

    def read(self) -> Place | None:
        kept = read_private(self._path)
        return None if kept is None else Place(**kept)

    def note(self, place: Place) -> None:
        """Keep the place, once in SECONDS at the most: what is behind it is stored once more."""
        if time.monotonic() - self._noted > SECONDS:
            self.keep(place)

    def keep(self, place: Place) -> None:
        self._path.parent.mkdir(exist_ok=True)
        write_private(self._path, asdict(place))
        self._noted = time.monotonic()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
