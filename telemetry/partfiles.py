"""A file that comes to be in pieces, and goes on after a break where the last piece ended.

It is under another name until it is whole. What counts as kept is for the caller to remember: an
amount, which is given back when the file goes on.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

from telemetry.encoders import Encoder
from telemetry.readings import StoredReading


class PartLost(Exception):
    """What was kept of a file is no longer there."""


class PartFile(Protocol):
    pages: int  # after how many it is worth to keep what there is

    def write(self, readings: Sequence[StoredReading]) -> None: ...

    def keep(self) -> int:
        """Let what was written so far be safe from the death of the process; the amount."""

    def finish(self) -> None:
        """Give the whole file its name."""

    def close(self) -> None:
        """Leave it as it is, to go on later."""


class Lines:
    """A file of lines, which can be cut and go on anywhere; the amount kept is in bytes."""

    pages = 1

    def __init__(self, target: Path, encoder: Encoder, kept: int) -> None:
        self._target, self._encoder = target, encoder
        self._part = target.with_name(f"{target.name}.part")
        if kept and (not self._part.exists() or self._part.stat().st_size < kept):
            raise PartLost(f"{self._part} is gone or shorter than it was.")
        self._file = self._part.open("r+b" if kept else "wb")
        self._file.truncate(kept)
        self._file.seek(kept)
        if not kept:
            self._file.write(encoder.begin())

    def write(self, readings: Sequence[StoredReading]) -> None:
        self._file.write(self._encoder.encode(readings))

    def keep(self) -> int:
        self._file.flush()
        return self._file.tell()

    def finish(self) -> None:
        self._file.write(self._encoder.end())
        finish(self._file, self._target)

    def close(self) -> None:
        self._file.close()


class Tables:
    """A Parquet file, which cannot go on once it is cut: so it is joined from several whole ones.

    The amount kept is how many of them there are.
    """

    pages = 50

    def __init__(self, target: Path, kept: int) -> None:
        self._target, self._count = target, kept
        self._file: IO[bytes] | None = None
        for number in range(1, kept + 1):
            if not self._piece(number).exists():
                raise PartLost(f"{self._piece(number)} is gone.")

    def write(self, readings: Sequence[StoredReading]) -> None:
        from telemetry.parquet import Parquet

        if self._file is None:
            self._file = self._piece(self._count + 1).open("wb")
            self._encoder = Parquet()
            self._file.write(self._encoder.begin())
        self._file.write(self._encoder.encode(readings))

    def keep(self) -> int:
        if self._file is not None:
            self._file.write(self._encoder.end())
            self._file.close()
            self._file = None
            self._count += 1
        return self._count

    def finish(self) -> None:
        from telemetry.parquet import join

        if not self.keep():
            self.write([])
            self.keep()
        pieces = [self._piece(number) for number in range(1, self._count + 1)]
        whole = self._target.with_name(f"{self._target.name}.part")
        with whole.open("wb") as file:
            join(pieces, file)
            finish(file, self._target)
        for piece in pieces:
            piece.unlink()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _piece(self, number: int) -> Path:
        return self._target.with_name(f"{self._target.name}.part-{number}")


def finish(file: IO[bytes], target: Path) -> None:
    """Close a file that is whole, on the disk, and give it its name."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    Path(file.name).replace(target)
