import signal
from typing import Any

from django.core.management.base import BaseCommand

from iotflow.lib import tracing
from iotflow.lib.postgres import silence
from iotflow.worker import Worker


class Command(BaseCommand):
    help = (
        "Do the background work until SIGTERM or Ctrl-C: deliver and seal events, send "
        "notifications, save when devices were last seen, erase what deleted devices left, roll up "
        "telemetry, drop what has expired."
    )

    def handle(self, *args: Any, **options: Any) -> str:
        silence.install()
        tracing.start_where_asked()
        worker = Worker()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        self.stdout.write("The worker runs. Ctrl-C ends it.")
        worker.run()
        worker.finish()
        return "The worker has ended."
