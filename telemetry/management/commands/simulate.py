import asyncio
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from iotflow.lib.privatefile import read_private, write_private
from telemetry.fleet import (
    Counts,
    Fleet,
    Owner,
    SimulatedDevice,
    SimulationFailed,
    check_server,
    client,
)
from telemetry.tour import Tour, TourFailed, own_server

DEVICES_MAX = 10_000
RATE_MAX = 1000.0
REPORT_SECONDS = 10.0
BAR_SECONDS = 0.2
URL = "http://127.0.0.1:8000"


class Command(BaseCommand):
    help = (
        "Simulate devices that post telemetry over HTTP to a running server, until the duration "
        "is over, SIGTERM or Ctrl-C; or show the ten steps of the API and what each store does."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", help=f"Of the server; default {URL}.")
        parser.add_argument("--devices", type=int, default=5, help="How many; default 5.")
        parser.add_argument(
            "--rate", type=float, default=1.0, help="Messages a second of each device; default 1."
        )
        parser.add_argument("--duration", type=float, metavar="SECONDS", help="Default: no end.")
        parser.add_argument("--username", help="Owner of the devices; default: a new user.")
        parser.add_argument("--password")
        parser.add_argument("--seed", type=int, help="For the same signals again.")
        parser.add_argument(
            "--keys",
            type=Path,
            metavar="FILE",
            help="Keep the devices' keys in this file (mode 600) and use them from there again.",
        )
        parser.add_argument(
            "--tour",
            action="store_true",
            help="Show the ten steps once; without --url on a server of its own.",
        )

    def handle(self, *args: Any, **options: Any) -> str:
        check(options)
        if options["tour"]:
            return self._tour(options["url"])
        try:
            return asyncio.run(self._simulate(options))
        except (SimulationFailed, httpx.InvalidURL) as error:
            raise CommandError(str(error)) from error

    async def _simulate(self, options: dict[str, Any]) -> str:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with client((options["url"] or URL).rstrip("/")) as http:
            enlisting = asyncio.create_task(self._enlist(http, options))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([enlisting, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not enlisting.done():
                enlisting.cancel()
                return "Stopped before any device was ready."
            fleet = Fleet(
                http,
                enlisting.result(),
                rate=options["rate"],
                seed=secrets.token_hex(8) if options["seed"] is None else options["seed"],
                stop=stop,
            )
            return await self._run(fleet, len(enlisting.result()), stop, options)

    async def _enlist(
        self, http: httpx.AsyncClient, options: dict[str, Any]
    ) -> list[SimulatedDevice]:
        await check_server(http)
        if kept := kept_devices(options["keys"]):
            self.stdout.write(f"The keys of {options['keys']} are used again.")
            return kept[: options["devices"]]
        owner = Owner(http)
        if options["username"]:
            await owner.log_in(options["username"], options["password"])
            username = options["username"]
        else:
            username = await owner.register()
        devices = await owner.devices(options["devices"])
        await owner.log_out()
        if options["keys"]:
            keys = [{"name": device.name, "api_key": device.api_key} for device in devices]
            write_private(options["keys"], keys)
        self.stdout.write(f"{len(devices)} device(s) of {username} registered.")
        return devices

    async def _run(
        self, fleet: Fleet, devices: int, stop: asyncio.Event, options: dict[str, Any]
    ) -> str:
        started = time.monotonic()
        if options["duration"] is not None:
            asyncio.get_running_loop().call_later(options["duration"], stop.set)
        self.stdout.write(f"{devices} device(s) post {options['rate']:g} message(s)/s each.")
        reporter = asyncio.create_task(self._report(fleet.counts))
        await fleet.run()
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)
        return summary(fleet.counts, devices, time.monotonic() - started)

    async def _report(self, counts: Counts) -> None:
        """A bar where somebody looks at a terminal, else a line now and then."""
        if not sys.stderr.isatty():
            while True:
                await asyncio.sleep(REPORT_SECONDS)
                self.stdout.write(progress(counts))
        with tqdm(unit=" messages") as bar:
            while True:
                await asyncio.sleep(BAR_SECONDS)
                bar.set_postfix(accepted=counts.accepted, refused=counts.refused, refresh=False)
                bar.update(counts.messages - bar.n)

    def _tour(self, url: str | None) -> str:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends its server too
        try:
            if url is not None:
                return Tour(url.rstrip("/"), self.stdout.write).run()
            with own_server(self.stdout.write) as own_url:
                return Tour(own_url, self.stdout.write, own=True).run()
        except (TourFailed, httpx.InvalidURL) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as error:
            raise CommandError("The tour was broken off.") from error


def check(options: dict[str, Any]) -> None:
    """CommandError for what makes no sense."""
    if not 1 <= options["devices"] <= DEVICES_MAX:
        raise CommandError(f"--devices must be from 1 to {DEVICES_MAX:,}.")
    if not 0 < options["rate"] <= RATE_MAX:
        raise CommandError(f"--rate must be above 0 and at most {RATE_MAX:g}.")
    if options["duration"] is not None and not 0 < options["duration"] < float("inf"):
        raise CommandError("--duration must be above 0.")
    if bool(options["username"]) != bool(options["password"]):
        raise CommandError("--username and --password belong together.")
    if options["url"] and not options["url"].startswith(("http://", "https://")):
        raise CommandError(f"--url must begin with http:// or https://, not {options['url']}.")


def kept_devices(path: Path | None) -> list[SimulatedDevice]:
    """The devices in a file of keys; none where there is no such file."""
    if path is None:
        return []
    try:
        return [SimulatedDevice(kept["name"], kept["api_key"]) for kept in read_private(path) or []]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path} is no file of keys: {error}") from error


def progress(counts: Counts) -> str:
    text = (
        f"{counts.messages:,} messages: {counts.accepted:,} accepted, {counts.refused:,} refused, "
        f"{counts.retries:,} retries"
    )
    return f"{text}; last refusal: {counts.last_refusal}" if counts.last_refusal else text


def summary(counts: Counts, devices: int, seconds: float) -> str:
    rate = counts.accepted / seconds if seconds else 0
    return f"{progress(counts)}. {devices} device(s), {seconds:.1f} s, {rate:.1f} accepted/s."
