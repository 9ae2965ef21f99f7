"""How many keys a second one process, in one thread, finds to be good once its caches are warm.

They are checked as the committer does it, GROUP of them in one round trip.

A companion: `python -m tests.bench.keycheck TARGETS SECONDS`.
"""

import sys
from itertools import cycle
from pathlib import Path
from time import perf_counter

from tests.bench.companion import serve

GROUP = 50


def main(targets: Path, seconds: float) -> None:
    import django

    django.setup()
    from django.conf import settings

    from devices import admission, key_cache
    from devices.authentication import find_device
    from devices.keys import digest

    keys = [line.split("\t")[2] for line in targets.read_text().splitlines()]

    def check(group: list[str]) -> None:
        digests = [digest(key, settings.API_KEY_PEPPER) for key in group]
        known = [key_cache.known.get(one) for one in digests]
        claims = [
            admission.claim(*pair, ()) for pair in zip(digests, known, strict=True) if pair[1]
        ]
        answers = admission.admit(claims)
        assert len(answers) == len(group)
        if None in answers:  # the lease has ended, as it does where nobody renews it
            warm()
        key_cache.renew_if_due()

    def warm() -> None:
        for key in 2 * keys:
            assert find_device(key) is not None

    def measure(_question: str) -> float:
        warm()
        checks, begun = 0, perf_counter()
        for first in cycle(range(0, len(keys), GROUP)):
            group = keys[first : first + GROUP]
            check(group)
            checks += len(group)
            if perf_counter() - begun > seconds:
                break
        return checks / (perf_counter() - begun)

    serve(measure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
