"""python -m tests.faults: see --help."""

import argparse
import signal
import sys
from typing import Any

from tests.bench.failure import Failure


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    run = verbs.add_parser("run", help="every case; writes docs/reliability.md")
    run.add_argument("--quick", action="store_true", help="a few cases, shorter; writes no page")
    run.add_argument("--only", default="", metavar="PART", help="cases whose name holds this")
    soak = verbs.add_parser("soak", help="half of the load for long: memory, errors, losses")
    soak.add_argument("--minutes", type=float, default=30, help="default: %(default)s")
    return top


def end(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def act(asked: argparse.Namespace) -> None:
    """The modules are imported here, for Django has no settings before there are databases."""
    if asked.verb == "soak":
        from tests.faults.soak import soak

        soak(asked.minutes)
    else:
        from tests.faults.run import run

        run(asked.quick, asked.only)


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
