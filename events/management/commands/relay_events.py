from typing import Any

from django.core.management.base import BaseCommand, CommandError

from events import outbox
from iotflow.lib.errors import StoreAway


class Command(BaseCommand):
    help = "Deliver the events that wait in the outbox to the event log, once."

    def handle(self, *args: Any, **options: Any) -> str:
        try:
            return f"{outbox.relay_all()} event(s) delivered."
        except StoreAway as error:
            raise CommandError(f"{error} The events stay in the outbox.") from error
