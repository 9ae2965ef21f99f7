"""The ASGI application, for live streams: one process, one loop, a thousand of them.

It answers everything else too, more slowly than iotflow.wsgi does.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iotflow.settings")

import django
from django.core.handlers.asgi import ASGIHandler

from iotflow.serving import check_settings, serve


def make_application() -> ASGIHandler:
    """What needs the apps is imported when they are loaded."""
    django.setup(set_prefix=False)
    from iotflow.streaming import Application

    return Application()


application = make_application()
check_settings()
serve(hears_signals=False)
