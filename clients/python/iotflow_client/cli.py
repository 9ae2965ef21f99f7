"""The command line: submit, read back, send what waits.

The key comes from the environment (IOTFLOW_KEY), never from an argument that `ps` would show.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from iotflow_client.buffered import BufferedDevice
from iotflow_client.connection import Retry
from iotflow_client.device import Device
from iotflow_client.errors import IoTFlowError, TooManyRequests, Unavailable
from iotflow_client.readings import StoredReading

URL = "http://127.0.0.1:8000"
AGO = re.compile(r"\d+[smhdw]")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 1 refused or not reached, 2 not understood."""
    options = parser().parse_args(arguments)
    key = os.environ.get("IOTFLOW_KEY", "")
    if not key.strip():
        print("Set IOTFLOW_KEY to the device's API key.", file=sys.stderr)
        return 2
    try:
        with Device(options.url, key, retry=Retry(seconds=options.wait)) as device:
            options.run(device, options)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads this, `head` say, has enough; the exit must not flush again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (IoTFlowError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="iotflow-client",
        description="Speak to IoTFlow as the device whose API key is in IOTFLOW_KEY.",
    )
    found.add_argument(
        "--url",
        default=os.environ.get("IOTFLOW_URL", URL),
        help="the server; else IOTFLOW_URL, else %(default)s",
    )
    found.add_argument(
        "--wait",
        type=float,
        default=Retry().seconds,
        metavar="SECONDS",
        help="how long to go on trying; default %(default).0f",
    )
    commands = found.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("submit", help="send a reading")
    command.add_argument("data", nargs="+", metavar="NAME=VALUE", type=pair, help="a measurement")
    command.add_argument("--timestamp", help="ISO 8601; default: now, by this machine's clock")
    command.add_argument("--metadata", action="append", default=[], metavar="NAME=VALUE", type=pair)
    command.add_argument("--queue", metavar="FILE", help="keep it here until the server has it")
    command.set_defaults(run=submit)

    command = commands.add_parser("flush", help="send what waits in a queue's file")
    command.add_argument("queue", metavar="FILE")
    command.set_defaults(run=flush)

    command = commands.add_parser("latest", help="the latest value of every measurement, as JSON")
    command.set_defaults(run=latest)

    command = commands.add_parser("history", help="readings as CSV, newest first")
    command.add_argument("--start", default="24h", type=ago, help="24h, 7d or ISO 8601")
    command.add_argument("--end", type=ago, help="the same; default: now")
    command.add_argument("--limit", type=int, help="readings; default: all")
    command.add_argument("--fields", default="", help="measurements, separated by commas")
    command.set_defaults(run=history)
    return found


def submit(device: Device, options: argparse.Namespace) -> None:
    data, metadata = dict(options.data), dict(options.metadata) or None
    if not options.queue:
        answer = device.submit(data, options.timestamp, metadata)
        say({"device_id": answer.device_id, "timestamp": answer.timestamp.isoformat()})
        return
    buffered = BufferedDevice(device, options.queue)
    buffered.add(data, options.timestamp, metadata)
    try:
        sent = buffered.flush()
    except (Unavailable, TooManyRequests) as error:  # it is kept, which is what was asked for
        print(error, file=sys.stderr)
        say({"waiting": len(buffered)})
    else:
        say({"sent": sent.sent, "rejected": sent.rejected, "waiting": len(buffered)})


def flush(device: Device, options: argparse.Namespace) -> None:
    buffered = BufferedDevice(device, options.queue)
    sent = buffered.flush()
    say({"sent": sent.sent, "rejected": sent.rejected, "waiting": len(buffered)})


def latest(device: Device, options: argparse.Namespace) -> None:
    found = device.latest()
    when = found.timestamp.isoformat() if found.timestamp else None
    say({"timestamp": when, "values": found.values})


def history(device: Device, options: argparse.Namespace) -> None:
    fields = [name for name in options.fields.split(",") if name]
    readings: Iterable[StoredReading] = device.history(
        options.start, options.end, limit=options.limit, fields=fields
    )
    if not fields:  # the heading names every measurement there is
        readings = list(readings)
        fields = sorted({name for reading in readings for name in reading.measurements})
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["timestamp", *fields])
    for reading in readings:
        cells = [cell(reading.measurements.get(name, "")) for name in fields]
        table.writerow([reading.timestamp.isoformat(timespec="milliseconds"), *cells])


def pair(text: str) -> tuple[str, Any]:
    """`temperature=21.5`: a value is JSON where it can be read so, else a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def ago(text: str) -> str:
    """`24h` as `-24h`, which the shell's parser would take for an option."""
    return f"-{text}" if AGO.fullmatch(text) else text


def cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer, ensure_ascii=False))
