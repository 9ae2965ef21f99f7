"""What is measured: each case's load, and an answer that shows that it does what it says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tests.bench.failure import Failure
from tests.bench.wrk import Target

Answer = dict[str, Any]
MEASUREMENTS = 3


@dataclass(frozen=True)
class Case:
    """A load by wrk; `readings` are those in each message, 0 where it only reads."""

    name: str
    kind: str
    targets: Sequence[Target]
    right: Callable[[Answer], bool]
    readings: int = 0
    uncached: bool = False  # on the server that caches no latest values

    @property
    def devices(self) -> list[int]:
        return [target.device_id for target in self.targets]

    def check(self, url: str) -> None:
        """One answer, looked at: a load of errors would be fast."""
        if self.kind != "get":
            return  # acknowledgements are compared with what is stored
        target = self.targets[0]
        headers = {target.header: target.value} if target.header else {}
        answer = httpx.get(url + target.path, headers=headers, timeout=60, trust_env=False)
        if answer.status_code != 200 or not self.right(answer.json()):
            raise Failure(f"{self.name} answers {answer.status_code}: {answer.text[:500]}")


def has_latest(answer: Answer) -> bool:
    return "temperature" in str(answer)


def has_history(answer: Answer) -> bool:
    return answer["count"] == 100 and all(
        len(row["measurements"]) == MEASUREMENTS for row in answer["data"]
    )


def is_anything(_answer: Answer) -> bool:
    return True
