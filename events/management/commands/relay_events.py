from time import monotonic
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from events import outbox
from iotflow.lib.errors import StoreAway


class Command(BaseCommand):
    help = "Deliver the events that wait in the outbox to the event log, once."

    def handle(self, *args: Any, **options: Any) -> str:
        started = monotonic()
        try:
            count = outbox.relay_all()
        except StoreAway as error:
            raise CommandError(f"{error} The events stay in the outbox.") from error
        seconds = max(monotonic() - started, 0.001)
        rate = f" in {seconds:.1f} s, {count / seconds:,.0f} a second" if count else ""
        return f"{count:,} event(s) delivered{rate}."
