"""The processes of the application, on stores behind proxies, and what can be done to them."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from iotflow.lib.child import Child, answers, free_port
from tests.bench.ground import VAR
from tests.bench.servers import family
from tests.faults.proxy import Proxy

WORKERS, THREADS = 2, 32
START_SECONDS = 90


class Web:
    """A server of two workers; `restart`, `kill` and so on are of all its processes."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._port = free_port()
        self._starts = 0
        self.start()
        self.proxy = Proxy(self._port)
        self.url = f"http://127.0.0.1:{self.proxy.port}"

    @property
    def pid(self) -> int:
        return self._child._process.pid

    def start(self) -> None:
        """Returns once it is healthy."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        command = [
            *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1"),
            *("--port", str(self._port), "--workers", str(WORKERS)),
            *("--blocking-threads", str(THREADS), "--respawn-failed-workers", "--no-ws"),
            "iotflow.wsgi:application",
        ]
        self._starts += 1
        log = VAR / f"faults-web-{self._starts}.log"
        self._child = Child("server", command, log, self._variables)

    def wait(self) -> None:
        url = f"http://127.0.0.1:{self._port}"
        assert answers(url, self._child, START_SECONDS), self._child.obituary()

    def end(self) -> None:
        """SIGTERM, and SIGKILL to what is left of it after that."""
        self._child.stop()

    def kill(self) -> None:
        self._signal(signal.SIGKILL, family(self.pid))
        self._child.stop()

    def kill_one_worker(self) -> None:
        self._signal(signal.SIGKILL, family(self.pid)[1:2])

    def pause(self) -> None:
        self._signal(signal.SIGSTOP, family(self.pid))

    def resume(self) -> None:
        self._signal(signal.SIGCONT, family(self.pid))

    def _signal(self, number: signal.Signals, pids: list[int]) -> None:
        for pid in pids:
            os.kill(pid, number)


class Stores:
    """A proxy before each store, and the variables that lead there."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        found = dict(variables)
        postgres, redis = urlsplit(found["DATABASE_URL"]), urlsplit(found["REDIS_URL"])
        mongo = urlsplit(found["MONGODB_URI"])
        self.proxies = {
            "postgres": Proxy(postgres.port or 5432),
            "cassandra": Proxy(int(found.get("CASSANDRA_PORT", "9042"))),
            "redis": Proxy(redis.port or 6379),
            "mongo": Proxy(mongo.port or 27017),
        }
        port = {name: proxy.port for name, proxy in self.proxies.items()}
        self.variables = {
            **found,
            "DJANGO_SETTINGS_MODULE": "iotflow.settings",
            "DATABASE_URL": _at(found["DATABASE_URL"], port["postgres"]),
            "CASSANDRA_HOSTS": "127.0.0.1",
            "CASSANDRA_PORT": str(port["cassandra"]),
            "REDIS_URL": _at(found["REDIS_URL"], port["redis"]),
            "MONGODB_URI": _at(found["MONGODB_URI"], port["mongo"]),
        }


@contextmanager
def running(variables: Mapping[str, str]) -> Iterator[tuple[Web, Stores]]:
    """The server and a worker, healthy."""
    stores = Stores(variables)
    command = [sys.executable, "manage.py", "worker"]
    worker = Child("worker", command, VAR / "faults-worker.log", stores.variables)
    web = None
    try:
        web = Web(stores.variables)
        yield web, stores
    finally:
        if web is not None:
            web.resume() if web._child.is_alive else None
            web.end()
        worker.stop()


def _at(url: str, port: int) -> str:
    """The same URL, by way of a proxy on this machine."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    place = f"127.0.0.1:{port}"
    return parts._replace(netloc=f"{user}@{place}" if user else place).geturl()
