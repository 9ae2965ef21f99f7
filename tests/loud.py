"""The settings of a server that logs all it can: every logger of ours and of others at DEBUG.

But for the one that iotflow/settings.py keeps quiet for what it would tell.
"""

from iotflow.settings import *  # noqa: F403
from iotflow.settings import LOGGING

LOGGING["root"]["level"] = "DEBUG"
for _name in (set(LOGGING["loggers"]) | {"django", "django.db.backends"}) - {"django.template"}:
    LOGGING["loggers"][_name] = {"level": "DEBUG"}
