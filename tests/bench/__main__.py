"""python -m tests.bench: see --help."""

import argparse
import signal
import sys
from typing import Any

from tests.bench import servers
from tests.bench.failure import Failure


def parser() -> argparse.ArgumentParser:
    workers, threads = servers.production()
    top = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    run = verbs.add_parser("run", help="every case against the floor and the limit")
    run.add_argument(
        "--only",
        default="",
        metavar="PARTS",
        help="only cases whose name holds one, such as submit,latest: writes var/bench/part.json",
    )
    growth = verbs.add_parser("growth", help="the same requests while more and more is stored")
    growth.add_argument(
        "--sizes", type=numbers, metavar="NUMBERS", help="default: 1000,100000,10000000"
    )
    pages = verbs.add_parser("pages", help="the staff's pages with 100,000 devices")
    verbs.add_parser("report", help="write docs/benchmarks.md from the last runs in var/bench")
    for verb in (run, growth, pages):
        verb.add_argument("--quick", action="store_true", help="less data, fewer, shorter rounds")
        verb.add_argument("--workers", type=int, default=workers, help="default: %(default)s")
        verb.add_argument("--threads", type=int, default=threads, help="default: %(default)s")
        verb.add_argument("--connections", type=int, default=128, help="default: %(default)s")
    return top


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def end(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def act(asked: argparse.Namespace) -> None:
    """The modules are imported here, for Django has no settings before there are databases."""
    if asked.verb == "report":
        from tests.bench import report

        sys.stdout.write(f"Written to {report.publish_latest()}\n")
    elif asked.verb == "growth":
        from tests.bench.growth import growth

        growth(asked)
    elif asked.verb == "pages":
        from tests.bench.pages import pages

        pages(asked)
    else:
        from tests.bench.run import run

        run(asked)


def main() -> int:
    asked = parser().parse_args()
    signal.signal(signal.SIGTERM, end)
    try:
        act(asked)
    except Failure as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nBroken off; what was started is stopped, what was stored is dropped.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
