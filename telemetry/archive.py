"""Readings of many devices as files of a directory, a file each; goes on where it broke off.

How far it is is in a file beside them until all are whole. The devices are taken by id, so that
one number says which are done.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devices.models import Device
from iotflow.lib.privatefile import read_private, write_private
from telemetry.encoders import Csv, Ndjson
from telemetry.exports import PAGE, measurements, pages
from telemetry.partfiles import Lines, PartFile, PartLost, Tables
from telemetry.readings import HistoryQuery

STATE = "export.state"
DEVICES = 500


class Unfit(Exception):
    """The directory cannot take this export; the message says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be exported, as it was asked for, and the bounds that this meant at first."""

    format: str
    fields: Sequence[str]
    devices: Sequence[int]  # empty for all
    asked: Mapping[str, Any]  # texts of times
    start: int
    end: int


@dataclass(slots=True)
class Progress:
    """Devices up to `done` have their files; of `device` the readings up to `after` are kept."""

    done: int = 0
    device: int = 0
    after: int | None = None
    kept: int = 0
    names: Sequence[str] = ()
    readings: int = 0  # of all devices


class Archive:
    """One export into a directory. Raises Unfit where there is another one, or its files."""

    def __init__(self, directory: Path, order: Order, *, replace: bool = False) -> None:
        self.directory, self.order = directory, order
        self.progress = Progress()
        self._replace = replace
        self._state = directory / STATE
        if replace:
            self._state.unlink(missing_ok=True)
        elif (state := read_private(self._state)) is not None:
            self._go_on(state)

    @property
    def resumed(self) -> bool:
        return bool(self.progress.done or self.progress.device)

    def run(self, advance: Callable[[int], object]) -> int:
        """Write every file; how many. `advance` is told of readings as they are kept.

        Raises StoreAway and OSError; then running it again goes on.
        """
        count = 0
        for device in self._devices():
            self._write(device, advance)
            count += 1
        self._state.unlink(missing_ok=True)
        return count

    def _go_on(self, state: Any) -> None:
        kept = asdict(self.order) | {"start": None, "end": None}
        if {**state["order"], "start": None, "end": None} != kept:
            raise Unfit(
                f"In {self.directory} is an unfinished export of something else. Run the same "
                "command as then to finish it, or this with --replace to give it up."
            )
        # `-24h` is what it was when the export began.
        self.order = Order(**state["order"])
        self.progress = Progress(**state["progress"])

    def _devices(self) -> Iterator[Device]:
        chosen = Device.objects.order_by("pk")
        if self.order.devices:
            chosen = chosen.filter(pk__in=self.order.devices)
        while found := list(chosen.filter(pk__gt=self.progress.done)[:DEVICES]):
            yield from found

    def _write(self, device: Device, advance: Callable[[int], object]) -> None:
        progress = self.progress
        target = self.directory / f"device-{device.pk}.{self.order.format}"
        if progress.device != device.pk:
            if target.exists() and not self._replace:
                raise Unfit(f"{target} is there already; --replace writes it anew.")
            progress.device, progress.after, progress.kept = device.pk, None, 0
            progress.names = self._names(device)
        try:
            self._fill(self._open(target), advance)
        except PartLost as error:
            if not target.exists():  # else it was whole before this could be noted
                raise Unfit(f"{error} Begin anew with --replace.") from error
        progress.done, progress.device = device.pk, 0
        self._save()

    def _fill(self, file: PartFile, advance: Callable[[int], object]) -> None:
        progress, waiting = self.progress, 0
        try:
            for number, page in enumerate(pages(self._query()), start=1):
                file.write(page.readings)
                waiting += len(page.readings)
                advance(len(page.readings))
                if page.next_after is not None and number % file.pages == 0:
                    progress.kept, progress.after = file.keep(), page.next_after
                    progress.readings += waiting
                    waiting = 0
                    self._save()
            file.finish()
        finally:
            file.close()
        progress.readings += waiting

    def _open(self, target: Path) -> PartFile:
        if self.order.format == "parquet":
            return Tables(target, self.progress.kept)
        encoder = Csv(self.progress.names) if self.order.format == "csv" else Ndjson()
        return Lines(target, encoder, self.progress.kept)

    def _query(self) -> HistoryQuery:
        return HistoryQuery(
            device_id=self.progress.device,
            start=self.order.start,
            end=self.order.end,
            limit=PAGE,
            descending=False,
            after=self.progress.after,
            fields=frozenset(self.order.fields),
        )

    def _names(self, device: Device) -> Sequence[str]:
        """The columns of CSV: those of the beginning, also where it goes on later."""
        if self.order.format != "csv":
            return ()
        return sorted(self.order.fields or measurements(device.pk, device.latest_epoch))

    def _save(self) -> None:
        state = {"order": asdict(self.order), "progress": asdict(self.progress)}
        write_private(self._state, state)
