"""The ASGI application, kept for streams; pages and API are faster on WSGI (iotflow.wsgi)."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iotflow.settings")
application = get_asgi_application()
