"""The relational tables, all but those that hold telemetry: out of one moment, into one commit."""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.management.color import no_style
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection, router, transaction
from django.db.models import AutoField, Model
from django.db.models.sql import InsertQuery

from iotflow.backup.lines import Row
from iotflow.backup.manifest import Unfit
from iotflow.lib.batches import batched
from telemetry.models import DeviceData, LatestData, Rollup, RollupMark, RollupProgress, UserData

PAGE = 500
TELEMETRY = {DeviceData, LatestData, UserData, Rollup, RollupMark, RollupProgress}


def models() -> list[type[Model]]:
    """Those whose rows are backed up. Sessions end: whoever was logged in logs in again."""
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if model not in TELEMETRY
        and model is not Session
        and model._meta.managed
        and not model._meta.proxy
        and router.allow_migrate_model("default", model)
    ]


@contextmanager
def snapshot() -> Iterator[None]:
    """Inside, every read is of the moment of the first one, whatever is written meanwhile."""
    if connection.vendor != "sqlite":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
        return
    with connection.cursor() as cursor:  # by hand: Django's own would keep others from writing
        cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def rows(model: type[Model]) -> Iterator[Row]:
    """Every row by its columns' names, by id."""
    names = [field.attname for field in model._meta.concrete_fields]
    found, after = model._base_manager.order_by("pk"), None
    while page := list(
        (found if after is None else found.filter(pk__gt=after)).values(*names)[:PAGE]
    ):
        yield from map(_plain, page)
        after = page[-1][model._meta.pk.attname]


def _plain(row: Row) -> Row:
    """With bytes as base64, which their field reads back."""
    return {
        name: b64encode(value).decode() if isinstance(value, bytes | memoryview) else value
        for name, value in row.items()
    }


def is_empty() -> bool:
    """Whether there are no users, and with that nothing of anybody."""
    return not apps.get_model("accounts.User")._base_manager.exists()


@contextmanager
def replacing() -> Iterator[None]:
    """One commit, which begins with every table empty and ends with all that migrations make."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET LOCAL statement_timeout = 0")
            for model in models():
                cursor.execute(f"DELETE FROM {quoted(model)}")  # noqa: S608
            cursor.execute(f"DELETE FROM {quoted(Session)}")  # noqa: S608
        yield
        ContentType.objects.clear_cache()
        emit_post_migrate_signal(verbosity=0, interactive=False, db="default")


def insert(model: type[Model], found: Iterable[Row]) -> Iterator[int]:
    """Insert rows as they were, times of creation too; how many, piece by piece."""
    fields = model._meta.concrete_fields
    for page in batched(found, connection.ops.bulk_batch_size(fields, range(PAGE))):
        query = InsertQuery(model)
        query.insert_values(fields, [instance(model, row) for row in page], raw=True)
        query.get_compiler(using="default").execute_sql()
        yield len(page)


def instance(model: type[Model], row: Row) -> Model:
    fields = {field.attname: field for field in model._meta.concrete_fields}
    if unknown := row.keys() - fields.keys():
        raise Unfit(f"{model._meta.label} has no {', '.join(sorted(unknown))} here.")
    return model(**{name: fields[name].to_python(value) for name, value in row.items()})


def sequences() -> dict[str, int]:
    """The last id given, by table, where one was."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name, seq FROM sqlite_sequence")
            return dict(cursor.fetchall())
        found: dict[str, int | None] = {}
        for model in numbered():
            cursor.execute(f"SELECT pg_sequence_last_value({SEQUENCE}::regclass)", of(model))
            [found[model._meta.db_table]] = cursor.fetchone()
    return {table: last for table, last in found.items() if last is not None}


def advance(last_given: dict[str, int]) -> None:
    """Give no id again that was given before the backup."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), models()):
            cursor.execute(statement)
        for model in numbered():
            last = last_given.get(model._meta.db_table)
            if last is None:
                continue
            if connection.vendor == "sqlite":
                table = model._meta.db_table
                cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
                cursor.execute("INSERT INTO sqlite_sequence VALUES (%s, %s)", [table, last])
            else:
                cursor.execute(f"SELECT setval({SEQUENCE}, %s)", [*of(model), last])


SEQUENCE = "pg_get_serial_sequence(%s, %s)"


def numbered() -> list[type[Model]]:
    return [model for model in models() if isinstance(model._meta.pk, AutoField)]


def of(model: type[Model]) -> list[str]:
    """What pg_get_serial_sequence wants of a model's table."""
    return [quoted(model), str(model._meta.pk.column)]


def quoted(model: type[Model]) -> str:
    return str(connection.ops.quote_name(model._meta.db_table))
