"""Rollups on the relational database. A device's row of progress is the lock on its rollups."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from django.db import DatabaseError, transaction
from django.db.models import Q

from iotflow.lib.batches import delete_in_pieces
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import EARLIEST, LATEST, now_ms
from telemetry import retention
from telemetry.models import Rollup, RollupMark, RollupProgress
from telemetry.stores.rollups import MARKS_MAX, Group, Mark, Named, Progress
from telemetry.summaries import Summary, dumps, loads
from telemetry.windows import DAY, HOUR

PAGE = 2000
ROWS = 200


class SqlRollups:
    def progress(self, device_ids: Sequence[int]) -> dict[int, Progress]:
        with answered():
            until = dict(
                RollupProgress.objects.filter(device_id__in=device_ids).values_list(
                    "device_id", "until"
                )
            )
            marks: dict[int, list[Mark]] = {device_id: [] for device_id in device_ids}
            rows = RollupMark.objects.filter(device_id__in=device_ids).order_by("start", "stop")
            columns = ("device_id", "start", "stop", "due", "version", "deleted")
            for device_id, *mark in rows.values_list(*columns).iterator():
                if len(marks[device_id]) <= MARKS_MAX:
                    marks[device_id].append(Mark(*mark))
            return {
                device_id: Progress(until.get(device_id), tuple(of_device))
                for device_id, of_device in marks.items()
            }

    def mark(self, device_id: int, marks: Iterable[Mark]) -> None:
        with answered():
            RollupMark.objects.bulk_create(
                (
                    RollupMark(
                        device_id=device_id,
                        start=mark.start,
                        stop=mark.stop,
                        deleted=mark.deleted,
                        due=mark.due,
                        version=mark.version,
                    )
                    for mark in marks
                ),
                update_conflicts=True,
                unique_fields=["device_id", "start", "stop", "deleted"],
                update_fields=["due", "version"],
            )

    def unmark(self, device_id: int, marks: Iterable[Mark]) -> None:
        with answered():
            for mark in marks:
                start, stop, deleted = mark.key
                RollupMark.objects.filter(
                    device_id=device_id,
                    start=start,
                    stop=stop,
                    deleted=deleted,
                    version=mark.version,
                ).delete()

    def advance(self, device_id: int, until: int) -> None:
        with answered():
            RollupProgress.objects.update_or_create(device_id=device_id, defaults={"until": until})

    def read(
        self, device_id: int, name: str, length: int, start: int, stop: int
    ) -> Iterator[Summary]:
        rows = Rollup.objects.filter(
            unexpired(), device_id=device_id, length=length, key=name, ts__gte=start, ts__lt=stop
        )
        with answered():
            while page := list(rows.order_by("ts").values_list("ts", "summary")[:PAGE]):
                yield from loads(page)
                rows = rows.filter(ts__gt=page[-1][0])

    def read_all(self, device_id: int, length: int, start: int, stop: int) -> list[Named]:
        rows = Rollup.objects.filter(
            unexpired(), device_id=device_id, length=length, ts__gte=start, ts__lt=stop
        )
        with answered():
            found = list(rows.order_by("key", "ts").values_list("key", "ts", "summary"))
            summaries = loads((ts, text) for _, ts, text in found)
            return list(zip((key for key, _, _ in found), summaries, strict=True))

    def everything(self, device_id: int, length: int) -> Iterator[Named]:
        rows = Rollup.objects.filter(unexpired(), device_id=device_id, length=length)
        with answered():
            names = list(rows.order_by("key").values_list("key", flat=True).distinct())
        for name in names:
            for found in self.read(device_id, name, length, EARLIEST, LATEST):
                yield name, found

    def groups(
        self, device_id: int, name: str, start: int, stop: int, grain: int, wanted: str
    ) -> Iterator[Group]:
        yield Group(start, stop, None)  # reading them here costs no round trips

    def write(
        self,
        device_id: int,
        device_type: str,
        length: int,
        rollups: Sequence[Named],
        computed: int,
    ) -> bool:
        rules, now = retention.rules(), now_ms()
        with answered(), transaction.atomic():
            if not self._is_newest(device_id, computed):
                return False
            Rollup.objects.bulk_create(
                (
                    Rollup(
                        device_id=device_id,
                        length=length,
                        key=name,
                        ts=found.start,
                        summary=dumps(found),
                        expires=expires,
                    )
                    for name, found in rollups
                    if (expires := rules.rollup_expiry(device_type, name, found.start + length))
                    is None
                    or expires > now
                ),
                batch_size=ROWS,
                update_conflicts=True,
                unique_fields=["device_id", "length", "key", "ts"],
                update_fields=["summary", "expires"],
            )
            return True

    def clear(self, device_id: int, start: int, stop: int, computed: int) -> bool:
        with answered(), transaction.atomic():
            if not self._is_newest(device_id, computed):
                return False
            of_device = Rollup.objects.filter(device_id=device_id)
            of_device.filter(length=HOUR, ts__gte=start, ts__lt=stop).delete()
            of_device.filter(length=DAY, ts__gte=start // DAY * DAY, ts__lt=stop).delete()
            return True

    def count(self, device_id: int) -> dict[str, int]:
        with answered():
            return {
                model._meta.db_table: model._default_manager.filter(device_id=device_id).count()
                for model in (Rollup, RollupProgress, RollupMark)
            }

    def erase(self, device_id: int) -> None:
        with answered():
            for model in (Rollup, RollupProgress, RollupMark):
                delete_in_pieces(model._default_manager.filter(device_id=device_id))

    def purge(self, now: int) -> None:
        with answered():
            delete_in_pieces(Rollup.objects.filter(expires__lte=now))

    def _is_newest(self, device_id: int, computed: int) -> bool:
        """Lock the device's row, and note in it the newest look at its readings."""
        rows = RollupProgress.objects.filter(device_id=device_id)
        RollupProgress.objects.bulk_create(
            [RollupProgress(device_id=device_id, computed=0)], ignore_conflicts=True
        )
        return bool(rows.filter(computed__lte=computed).update(computed=computed))


@contextmanager
def answered() -> Iterator[None]:
    """The database's errors are StoreAway."""
    try:
        yield
    except DatabaseError as error:
        raise StoreAway("The telemetry store") from error


def unexpired() -> Q:
    return Q(expires=None) | Q(expires__gt=now_ms())
