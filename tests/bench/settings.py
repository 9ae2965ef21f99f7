"""The project's settings, with one address more: the floor that everything is measured against."""

import os

from iotflow.settings import *  # noqa: F403

ROOT_URLCONF = "tests.bench.urls"
if "BENCH_LATEST_SECONDS" in os.environ:  # 0, which the setting itself does not allow
    LATEST_CACHE_SECONDS = int(os.environ["BENCH_LATEST_SECONDS"])
