"""How often a second one process, in one thread, finds whose key it is once its caches are warm.

A companion: `python -m tests.bench.keycheck TARGETS SECONDS`.
"""

import sys
from itertools import cycle
from pathlib import Path
from time import perf_counter

from tests.bench.companion import serve


def main(targets: Path, seconds: float) -> None:
    import django

    django.setup()
    from devices.authentication import find_device

    keys = [line.split("\t")[2] for line in targets.read_text().splitlines()]

    def measure(_question: str) -> float:
        for key in 2 * keys:
            assert find_device(key) is not None
        checks, begun = 0, perf_counter()
        for key in cycle(keys):
            find_device(key)
            checks += 1
            if perf_counter() - begun > seconds:
                break
        return checks / (perf_counter() - begun)

    serve(measure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
