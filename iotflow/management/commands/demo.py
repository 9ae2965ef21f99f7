import fcntl
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from iotflow import demodata
from iotflow.lib.child import Child, answers, is_free, server
from iotflow.lib.privatefile import write_private

# The demo runs on its own files, whatever stores and secrets the environment names.
NAMED = (
    *("DATABASE_URL", "CASSANDRA_HOSTS", "MONGODB_URI", "REDIS_URL", "REDIS_HOST"),
    *("SECRET_KEY", "API_KEY_PEPPER", "API_KEY_PEPPERS_OLD"),
)
IGNORED = tuple(f"{name}{end}" for name in NAMED for end in ("", "_FILE"))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READY_SECONDS = 60.0
WATCH_SECONDS = 0.5
RATE = 0.2


class Command(BaseCommand):
    help = (
        "Run everything embedded, with recorded and simulated readings, until Ctrl-C. What it "
        "makes stays in VAR_DIR and is found again by the next run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="Of 127.0.0.1; default 8000.")

    def handle(self, *args: Any, **options: Any) -> str:
        port = options["port"]
        if not 1 <= port <= 65535:
            raise CommandError("--port must be from 1 to 65535.")
        if not is_free(port):
            raise CommandError(
                f"Port {port} of 127.0.0.1 is taken. Choose another: make demo PORT={port + 1}"
            )
        self._embed()
        self._lock = lock(settings.VAR_DIR / "demo.lock")
        self._children: list[Child] = []
        facts_file().unlink(missing_ok=True)
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, interrupt)
        try:
            self._run(f"http://127.0.0.1:{port}", port)
        except KeyboardInterrupt:
            pass  # how a demo ends
        finally:
            for child in reversed(self._children):
                child.stop()
            facts_file().unlink(missing_ok=True)
        return "\nThe demo has ended. What it made is kept for the next one."

    def _embed(self) -> None:
        """Begin again without the variables that lead elsewhere: settings have read them."""
        named = [name for name in IGNORED if os.environ.get(name)]
        if named:
            self._say(f"The demo runs embedded and ignores {', '.join(named)}.")
            os.execve(sys.executable, [sys.executable, *sys.argv], environment())  # noqa: S606

    def _run(self, url: str, port: int) -> None:
        say = self._say
        say(f"Stores: embedded, in {settings.VAR_DIR}")
        call_command("setup_stores", stdout=_Silent())
        kept = demodata.Kept(settings.VAR_DIR / "demo-kept.json")
        password = demodata.admin(kept)
        owner = demodata.owner(kept)
        say(f"Users: {demodata.ADMIN}, who sees everything, and {owner.username}, who owns devices")
        say("Samples: recorded readings, moved in time so that they end now")
        demodata.import_samples(owner, kept, say)
        device, key = demodata.device_with_key(owner, demodata.HAND_DEVICE, kept, "sensor")
        keys = settings.VAR_DIR / "demo-simulated.json"
        write_private(keys, demodata.simulated_keys(owner, kept))
        demodata.groups(owner)
        say("Server: starting")
        self._start_server(url, port)
        say(f"Devices: {demodata.SIMULATED} simulated ones post now and then")
        self._start_simulation(url, keys)
        facts = {
            "url": url,
            "admin_username": demodata.ADMIN,
            "admin_password": password,
            "device_id": device.pk,
            "api_key": key,
        }
        write_private(facts_file(), facts)
        say(invitation(facts))
        self._watch()

    def _start_server(self, url: str, port: int) -> None:
        log = settings.VAR_DIR / "log" / "server.log"
        child = server(port, log, {**environment(), "WORKER_THREAD": "1"})
        self._children.append(child)
        if not answers(url, child, READY_SECONDS):
            raise CommandError(f"The server did not start. {child.obituary()}")

    def _start_simulation(self, url: str, keys: Path) -> None:
        command = [
            *(sys.executable, "manage.py", "simulate", "--url", url),
            *("--keys", str(keys), "--rate", str(RATE)),
        ]
        log = settings.VAR_DIR / "log" / "simulation.log"
        self._children.append(Child("simulation", command, log, environment()))

    def _watch(self) -> None:
        """Until a signal comes. The server's end is the demo's; a simulation's is only told."""
        told: set[str] = set()
        while True:
            time.sleep(WATCH_SECONDS)
            for child in self._children:
                if child.is_alive or child.name in told:
                    continue
                if child.name == "server":
                    raise CommandError(child.obituary())
                self._say(child.obituary())
                told.add(child.name)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()  # at once, in a file too


def environment() -> dict[str, str]:
    """This process's environment for a child, without any store and with what the demo needs."""
    kept = {name: value for name, value in os.environ.items() if name not in IGNORED}
    return {
        **kept,
        "VAR_DIR": str(settings.VAR_DIR),
        "ALLOW_HTTP": "1",
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "METRICS_LOOPBACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def interrupt(number: int, frame: object) -> None:
    for other in SIGNALS:  # a second one must not break off the ending
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def lock(path: Path) -> Any:
    """The open file that only one demo holds; CommandError while another one does."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise CommandError(
            f"Another demo runs with these files. Stop it, or give this one its own: "
            f"make demo VAR_DIR={path.parent}-2 PORT=…"
        ) from error
    return file


def facts_file() -> Path:
    """Where scripts find what the demo prints."""
    return Path(settings.VAR_DIR / "demo.json")


def invitation(facts: dict[str, Any]) -> str:
    password = facts["admin_password"] or (
        "(changed since the demo made it; new one: python manage.py changepassword admin)"
    )
    header = shlex.quote(f"X-API-Key: {facts['api_key']}")
    api = f"{facts['url']}/api/v1/telemetry"
    body = shlex.quote('{"data": {"temperature": 21.5, "humidity": 48}}')
    return f"""
IoTFlow runs at  {facts["url"]}
Admin            {facts["url"]}/admin/   {facts["admin_username"]} / {password}
API              {facts["url"]}/api/docs
A device         id {facts["device_id"]}, key {facts["api_key"]}

Submit and read:
curl -X POST {api} -H {header} -H 'Content-Type: application/json' -d {body}
curl {api}/{facts["device_id"]}/latest -H {header}

Ctrl-C ends it."""


class _Silent:
    def write(self, text: str) -> None:
        """setup_stores tells every store; the demo says it in one line."""
