"""Which models live in which database."""

from typing import Any

from django.db.models import Model

EVENT_MODELS = frozenset({"eventlog", "deviceconfig", "reportedconfig", "alert"})


class EventsRouter:
    """EVENT_MODELS in `events` (MongoDB); everything else in `default`.

    The choice is by model, not by app: the outbox belongs to the events app but has to be
    written in the same transaction as the change it tells of.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return self._database(model._meta.app_label, model._meta.model_name)

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return self._database(model._meta.app_label, model._meta.model_name)

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool | None:
        return self.db_for_read(one.__class__) == self.db_for_read(other.__class__)

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool:
        if db == "cassandra":  # its schema is made by sync_cassandra
            return False
        if model_name is None:
            return db == "default"
        return db == self._database(app_label, model_name)

    def _database(self, app_label: str, model_name: str | None) -> str:
        if app_label == "events" and (model_name or "").lower() in EVENT_MODELS:
            return "events"
        return "default"
