"""What the WSGI and the ASGI application share: how a server process begins, and how it ends."""

import logging

from django.conf import settings
from django.core.checks import WARNING, run_checks


def check_settings() -> None:
    """Refuse to serve on settings that a system check calls an error; say its warnings."""
    messages = [message for message in run_checks() if message.is_serious(WARNING)]
    for message in messages:
        logging.getLogger(__name__).warning("%s", message)
    if any(message.is_serious() for message in messages):
        raise SystemExit("The settings are wrong; `manage.py check` says how.")


def serve(*, hears_signals: bool = True) -> None:
    """What a server process does besides answering, and how it ends.

    Unless a loop does, it `hears_signals` by itself.
    """
    from iotflow import readiness, shutdown
    from iotflow.lib import siblings, tracing
    from iotflow.lib.postgres import silence

    tracing.start_where_asked()
    silence.install()
    readiness.process.start()
    if settings.METRICS_TOKEN or settings.METRICS_LOOPBACK:
        siblings.keep_saved()
    if not settings.WORKER_THREAD:
        shutdown.at_end(hears_signals=hears_signals)
        return
    from iotflow.worker import Worker

    worker = Worker()
    worker.start_thread()
    shutdown.at_end(worker.finish, hears_signals=hears_signals)
