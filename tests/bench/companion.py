"""A process beside the benchmark that measures something by itself whenever it is asked."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.bench.failure import Failure
from tests.bench.ground import ROOT


class Companion:
    def __init__(self, module: str, arguments: list[str], variables: Mapping[str, str]) -> None:
        self.module = module
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}", *arguments],
            cwd=ROOT,
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for whoever started it
        )

    def ask(self, question: str = "") -> float:
        """What it measures now."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(f"{question}\n")
            self.process.stdin.flush()
            return float(self.process.stdout.readline())
        except (OSError, ValueError) as error:
            raise Failure(f"The process `{self.module}` ended; see above.") from error


@contextmanager
def beside(module: str, arguments: list[str], variables: Mapping[str, str]) -> Iterator[Companion]:
    companion = Companion(module, arguments, variables)
    try:
        yield companion
    finally:
        companion.process.kill()
        companion.process.wait()


def serve(measure: Callable[[str], float]) -> None:
    """The companion's side: answer every line of the standard input."""
    for question in sys.stdin:
        sys.stdout.write(f"{measure(question.strip()):.1f}\n")
        sys.stdout.flush()
