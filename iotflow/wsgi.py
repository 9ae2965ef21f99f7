"""The WSGI application: every page and the whole API.

Started with WORKER_THREAD=1, it also does the background work, in one thread of this process.
"""

import gc
import os
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iotflow.settings")

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from iotflow.serving import check_settings, serve

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


application = with_length(get_wsgi_application())
check_settings()

# What was loaded stays: the collector need not walk it again, nor look for cycles at every request.
gc.collect()
gc.freeze()
gc.set_threshold(10_000, 20, 20)

serve()
