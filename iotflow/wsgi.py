"""The WSGI application: every page and the whole API.

Started with WORKER_THREAD=1, it also does the background work, in one thread of this process.
"""

import gc
import logging
import os
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iotflow.settings")

from django.conf import settings
from django.core.checks import WARNING, run_checks
from django.core.wsgi import get_wsgi_application

Start = Callable[..., Any]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


def with_length(app: App) -> App:
    """Give a chunked body the length that Django needs to see it at all; read to its bound."""

    def wrapped(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            body = environ["wsgi.input"].read(settings.MAX_BODY_BYTES + 1)
            environ["wsgi.input"] = BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return app(environ, start_response)

    return wrapped


def check_settings() -> None:
    """Refuse to serve on settings that a system check calls an error; say its warnings."""
    messages = [message for message in run_checks() if message.is_serious(WARNING)]
    for message in messages:
        logging.getLogger(__name__).warning("%s", message)
    if any(message.is_serious() for message in messages):
        raise SystemExit("The settings are wrong; `manage.py check` says how.")


def serve() -> None:
    """What a server process does besides answering, and how it ends."""
    from iotflow import readiness, shutdown
    from iotflow.lib import siblings, tracing
    from iotflow.lib.postgres import silence

    tracing.start_where_asked()
    silence.install()
    readiness.process.start()
    if settings.METRICS_TOKEN or settings.METRICS_LOOPBACK:
        siblings.keep_saved()
    if not settings.WORKER_THREAD:
        shutdown.at_end()
        return
    from iotflow.worker import Worker

    worker = Worker()
    worker.start_thread()
    shutdown.at_end(worker.finish)


application = with_length(get_wsgi_application())
check_settings()

# What was loaded stays: the collector need not walk it again, nor look for cycles at every request.
gc.collect()
gc.freeze()
gc.set_threshold(10_000, 20, 20)

serve()
