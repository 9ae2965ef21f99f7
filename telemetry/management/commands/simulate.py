import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from iotflow.lib.privatefile import read_private, write_private
from iotflow.lib.timeparse import now_ms
from telemetry.fleet import (
    API,
    Counts,
    Fleet,
    Owner,
    SimulatedDevice,
    SimulationFailed,
    check_server,
    client,
    identified,
)
from telemetry.simulated.ledger import Ledger, Unwritable, opened
from telemetry.simulated.profiles import PROFILES
from telemetry.simulated.settlement import settle
from telemetry.simulated.witnesses import (
    PATIENCE_SECONDS,
    ApiWitness,
    Silent,
    StoreWitness,
    Witness,
)
from telemetry.tour import Tour, TourFailed, own_server

DEVICES_MAX = 10_000
RATE_MAX = 1000.0
REPORT_SECONDS = 10.0
BAR_SECONDS = 0.2
URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Enlisted:
    """Who sends. `are_new`: nobody else has; `token` is their owner's, or empty."""

    devices: Sequence[SimulatedDevice]
    are_new: bool = False
    token: str = field(default="", repr=False)


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
        parser.add_argument(
            "--count", type=int, metavar="READINGS", help="End when so many were sent in all."
        )
        parser.add_argument(
            "--profile",
            action="append",
            choices=list(PROFILES),
            help="How devices behave; given several times, devices take turns. Default normal. "
            + "; ".join(f"{name}: {profile.about}" for name, profile in PROFILES.items())
            + ".",
        )
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
            "--ledger", type=Path, metavar="FILE", help="Write every attempt to it, as NDJSON."
        )
        parser.add_argument(
            "--verify",
            nargs="?",
            const="all",
            choices=["all", "api"],
            help="At the end hold what was acknowledged against the API and the stores that the "
            "environment names (all, the default), or against the API alone.",
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
            if not (options["ledger"] or options["verify"]):
                return asyncio.run(self._simulate(options, None))[0]
            with opened(secrets.token_hex(4), options["ledger"]) as ledger:
                return self._with_ledger(options, ledger)
        except (SimulationFailed, Unwritable, httpx.InvalidURL) as error:
            raise CommandError(str(error)) from error

    def _with_ledger(self, options: dict[str, Any], ledger: Ledger) -> str:
        begun = now_ms()
        said, enlisted = asyncio.run(self._simulate(options, ledger))
        if not options["verify"] or enlisted is None:
            return said
        self.stdout.write(said)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the ledger's files go then, too
        try:
            return self._verify(options, ledger, enlisted, begun)
        except Silent as error:
            raise CommandError(f"Not verified: {error}") from error
        except KeyboardInterrupt as error:
            raise CommandError("Not verified: that was broken off.") from error

    async def _simulate(
        self, options: dict[str, Any], ledger: Ledger | None
    ) -> tuple[str, Enlisted | None]:
        """What there is to say at the end; and who sent, None where nobody came to it."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with client(url(options)) as http:
            enlisting = asyncio.create_task(self._enlist(http, options))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([enlisting, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not enlisting.done():
                enlisting.cancel()
                return "Stopped before any device was ready.", None
            enlisted = enlisting.result()
            profiles = options["profile"] or ["normal"]
            if ledger is not None:
                for place, device in enumerate(enlisted.devices):
                    profile = profiles[place % len(profiles)]
                    ledger.enlist(device.id, device.name, profile, is_new=enlisted.are_new)
            fleet = Fleet(
                http,
                enlisted.devices,
                rate=options["rate"],
                seed=secrets.token_hex(8) if options["seed"] is None else options["seed"],
                stop=stop,
                profiles=profiles,
                duration=options["duration"],
                count=options["count"],
                ledger=ledger,
            )
            return await self._run(fleet, len(enlisted.devices), options), enlisted

    async def _enlist(self, http: httpx.AsyncClient, options: dict[str, Any]) -> Enlisted:
        await check_server(http)
        if kept := kept_devices(options["keys"]):
            self.stdout.write(f"The keys of {options['keys']} are used again.")
            kept = kept[: options["devices"]]
            if options["ledger"] or options["verify"]:
                kept = await identified(http, kept)
            return Enlisted(kept)
        owner = Owner(http)
        if options["username"]:
            await owner.log_in(options["username"], options["password"])
            username = options["username"]
        else:
            username = await owner.register()
        devices = await owner.devices(options["devices"])
        token = owner.token if options["verify"] else ""  # events are told to their owner only
        if not token:
            await owner.log_out()
        if options["keys"]:
            keys = [{"name": device.name, "api_key": device.api_key} for device in devices]
            write_private(options["keys"], keys)
        self.stdout.write(f"{len(devices)} device(s) of {username} registered.")
        return Enlisted(devices, are_new=True, token=token)

    async def _run(self, fleet: Fleet, devices: int, options: dict[str, Any]) -> str:
        started = time.monotonic()
        self.stdout.write(f"{devices} device(s) post {options['rate']:g} message(s)/s each.")
        reporter = asyncio.create_task(self._report(fleet.counts, options["count"]))
        await fleet.run()
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)
        return summary(fleet.counts, devices, time.monotonic() - started)

    async def _report(self, counts: Counts, count: int | None) -> None:
        """A bar where somebody looks at a terminal, else a line now and then."""
        if not sys.stderr.isatty():
            while True:
                await asyncio.sleep(REPORT_SECONDS)
                self.stdout.write(progress(counts))
        with tqdm(total=count, unit=" readings" if count else " messages") as bar:
            while True:
                await asyncio.sleep(BAR_SECONDS)
                bar.set_postfix(accepted=counts.accepted, refused=counts.refused, refresh=False)
                bar.update((counts.readings if count else counts.messages) - bar.n)

    def _verify(
        self, options: dict[str, Any], ledger: Ledger, enlisted: Enlisted, begun: int
    ) -> str:
        """The table, and what to say where nothing is wrong; CommandError otherwise."""
        with httpx.Client(base_url=url(options), timeout=60, trust_env=False) as http:
            witnesses: list[Witness] = [ApiWitness(http, enlisted.token)]
            try:
                if options["verify"] == "all":
                    witnesses.insert(0, stores(enlisted.devices))
                patience = PATIENCE_SECONDS if options["verify"] == "api" else 0.0
                total = len(enlisted.devices) * len(witnesses)
                with tqdm(total=total, unit=" looks", disable=None) as bar:
                    outcome = settle(
                        ledger, enlisted.devices, witnesses, begun, patience, bar.update
                    )
            finally:
                if enlisted.token:
                    bearer = {"Authorization": f"Bearer {enlisted.token}"}
                    with suppress(httpx.HTTPError):
                        http.post(f"{API}/auth/logout", headers=bearer)
        self.stdout.write("\n".join(["", outcome.table, *outcome.remarks]))
        if outcome.faults:
            raise CommandError("\n".join([f"{outcome.faults:,} fault(s):", *outcome.examples]))
        if not outcome.acknowledged:
            raise CommandError("Nothing was acknowledged, so there is nothing to verify.")
        names = " and the ".join(witness.name for witness in reversed(witnesses))
        return (
            f"{outcome.acknowledged:,} acknowledged readings are as they should be by the {names}."
        )

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
    if options["count"] is not None and options["count"] < 1:
        raise CommandError("--count must be at least 1.")
    if len(options["profile"] or []) > options["devices"]:
        raise CommandError("--devices must be as many as the profiles, at least.")
    if options["duration"] is not None and not 0 < options["duration"] < float("inf"):
        raise CommandError("--duration must be above 0.")
    if bool(options["username"]) != bool(options["password"]):
        raise CommandError("--username and --password belong together.")
    if options["url"] and not options["url"].startswith(("http://", "https://")):
        raise CommandError(f"--url must begin with http:// or https://, not {options['url']}.")


def url(options: dict[str, Any]) -> str:
    return str(options["url"] or URL).rstrip("/")


def stores(devices: Sequence[SimulatedDevice]) -> StoreWitness:
    """The stores, as a witness; CommandError where they are not those of the server."""
    witness = StoreWitness()
    if not witness.holds(devices):
        raise CommandError(
            "Not verified: the stores that this environment names do not know the devices. Use "
            "the environment of the server, or --verify api."
        )
    return witness


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
