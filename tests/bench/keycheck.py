"""How often a second one process, in one thread, finds whose key it is, once its caches are warm.

Reads keys from the standard input, a line each; prints checks a second and the share of hits.
"""

import sys
from itertools import cycle
from time import perf_counter


def main(seconds: float) -> None:
    import django

    django.setup()
    from devices.authentication import find_device

    keys = sys.stdin.read().split()
    for key in 2 * keys:
        assert find_device(key) is not None
    checks, begun = 0, perf_counter()
    for key in cycle(keys):
        find_device(key)
        checks += 1
        if perf_counter() - begun > seconds:
            break
    sys.stdout.write(f"{checks / (perf_counter() - begun):.1f}\n")


if __name__ == "__main__":
    main(float(sys.argv[1]))
