from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from events import sinks
from iotflow.lib.errors import StoreAway, reason_of
from telemetry.stores import telemetry_store

INDEXED_SECONDS = 3600.0  # that a new index of a large event log may take


class Command(BaseCommand):
    help = (
        "Create what the configured stores need: tables, keyspace, collections, indexes. "
        "Safe to run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="Name the stores; change nothing."
        )

    def handle(self, *args: Any, **options: Any) -> str:
        for name, what, run in self._steps():
            self.stdout.write(f"{name}: {what}")
            if options["dry_run"]:
                continue
            try:
                run()
            except (StoreAway, DatabaseError) as error:
                raise CommandError(f"{name} cannot be set up now: {reason_of(error)}") from error
        return "Nothing was changed." if options["dry_run"] else "All stores are set up."

    def _steps(self) -> list[tuple[str, str, Any]]:
        store = telemetry_store()
        return [
            ("Database", "tables of users, devices, groups, outbox", self._migrate("default")),
            ("Events", "collections or tables, and their indexes", self._events),
            (
                "Telemetry",
                f"keyspace {settings.CASSANDRA_KEYSPACE} and its tables"
                if store.is_cassandra
                else "kept in the database",
                store.setup,
            ),
        ]

    def _migrate(self, database: str) -> Any:
        return lambda: call_command("migrate", database=database, interactive=False, verbosity=0)

    def _events(self) -> None:
        sinks.ping()
        with sinks.guarded(INDEXED_SECONDS):
            self._migrate("events")()
            sinks.ensure_indexes()
