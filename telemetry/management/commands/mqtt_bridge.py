import signal
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from iotflow.lib import tracing
from iotflow.lib.mqtt import Session, TakenOver
from iotflow.lib.postgres import silence
from telemetry import ingest
from telemetry.mqtt import announcing
from telemetry.mqtt.bridge import TOPICS, Bridge

FINISH_SECONDS = 5.0


class Command(BaseCommand):
    help = (
        "Store what devices publish to the MQTT broker that MQTT_URL names, and keep their "
        "configurations there, until SIGTERM or Ctrl-C."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--announce-all",
            action="store_true",
            help="tell the broker every configuration again: it has lost them, or is a new one",
        )
        parser.add_argument(
            "--leave",
            action="store_true",
            help="store what waits under this name at the broker, have it forget the name, and "
            "end: this bridge will not come back, and others go on",
        )

    def handle(self, *args: Any, **options: Any) -> str:
        if not settings.MQTT_URL:
            raise CommandError("MQTT_URL names no broker.")
        silence.install()
        tracing.start_where_asked()
        if options["announce_all"]:
            self.stdout.write(f"{announcing.announce_all()} configuration(s) will be told again.")
        context = settings.MQTT_TLS.context if settings.MQTT_TLS else None
        session = Session(settings.MQTT_URL, context, TOPICS, settings.MQTT_WINDOW)
        bridge = Bridge(session)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: bridge.stop())
        self.stdout.write(f"The bridge {session.name} runs. Ctrl-C ends it.")
        try:
            bridge.leave() if options["leave"] else bridge.run()
        except TakenOver as error:
            raise CommandError(f"{error} Give each bridge a name of its own.") from error
        finally:
            ingest.stop(FINISH_SECONDS)
        return "The bridge has ended."
