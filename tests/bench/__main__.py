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
    run = verbs.add_parser("run", help="measure every case against the floor and the limit")
    run.add_argument(
        "--only", default="", help="cases whose names hold one of these: submit,latest"
    )
    for verb in (run,):
        verb.add_argument(
            "--quick", action="store_true", help="less data, fewer and shorter rounds"
        )
        verb.add_argument("--workers", type=int, default=workers, help="default: %(default)s")
        verb.add_argument("--threads", type=int, default=threads, help="default: %(default)s")
        verb.add_argument("--connections", type=int, default=32, help="default: %(default)s")
    return top


def end(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    asked = parser().parse_args()
    signal.signal(signal.SIGTERM, end)
    from tests.bench.run import run

    try:
        run(asked)
    except Failure as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nBroken off; everything that was started is stopped.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
