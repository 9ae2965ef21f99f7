"""Files of JSON, an object a line: written and read in the same memory however long."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from iotflow.lib import json

Row = Mapping[str, Any]


def write(path: Path, rows: Iterable[Row]) -> None:
    """For their owner's eyes only, and on the disk when this returns."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for row in rows:
            file.write(json.dumps(row) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)
