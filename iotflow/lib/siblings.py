"""The processes of one server know of each other what they counted.

Each keeps its numbers in a file that is written anew every second; whichever of them is asked
adds up the files. A process that has ended has left its file, so that no sum ever falls. Servers
are told apart by their first process: each has a directory of its own.
"""

import logging
import multiprocessing
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from iotflow.lib import json, metrics
from iotflow.lib.metrics import Cells

logger = logging.getLogger(__name__)
SAVE_SECONDS = 1.0
LIVE_SECONDS = 15.0
LEFT_SECONDS = 3600.0


class Numbers(NamedTuple):
    """What one process counted, by family; `is_live` unless it was last heard of long ago."""

    pid: int
    is_live: bool
    families: dict[str, Cells]


def numbers() -> list[Numbers]:
    """Of every process of this server, of this one as they are now."""
    return [Numbers(os.getpid(), True, _own()), *_others()]


def keep_saved() -> None:
    """Save what this process counts from now on, for the others; in a thread."""
    _remove_left()
    threading.Thread(target=_keep_saved, name="metrics", daemon=True).start()


def save() -> None:
    file = _directory() / f"{os.getpid()}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_bytes(json.dumps({name: list(cells.items()) for name, cells in _own().items()}))
    new.replace(file)


def _keep_saved() -> None:
    is_told = False
    while True:
        try:
            save()
        except OSError as error:
            if not is_told:
                logger.warning("/metrics of other processes will lack this one: %s", error)
            is_told = True
        time.sleep(SAVE_SECONDS)


def _own() -> dict[str, Cells]:
    return {name: family.cells() for name, family in metrics.families.items()}


def _others() -> Iterator[Numbers]:
    for file in _directory().glob("*.json"):
        if file.stem != str(os.getpid()):
            is_live = time.time() - file.stat().st_mtime < LIVE_SECONDS
            saved = json.loads(file.read_bytes())
            yield Numbers(
                int(file.stem),
                is_live,
                {name: {tuple(key): cell for key, cell in rows} for name, rows in saved.items()},
            )


@lru_cache(maxsize=1)
def _directory() -> Path:
    """Of this server. The number alone would be the same in a container that starts again."""
    parent = multiprocessing.parent_process()
    pid = os.getpid() if parent is None else parent.pid
    return Path(settings.VAR_DIR) / "metrics" / f"{socket.gethostname()}-{pid}-{_began(pid)}"


def _began(pid: int | None) -> str:
    """When a process began, in ticks since its machine did, where the system says so."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return "0"


def _remove_left() -> None:
    """What servers have left that ended long ago."""
    for directory in _directory().parent.glob("*"):
        with suppress(OSError):
            changed = max(path.stat().st_mtime for path in (directory, *directory.iterdir()))
            if time.time() - changed > LEFT_SECONDS:
                shutil.rmtree(directory)
