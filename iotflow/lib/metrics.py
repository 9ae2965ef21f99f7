"""What a process counts of itself, for whoever watches: families of numbers by labels.

Counting is made for hot paths: a look-up and an addition, and no lock. Nothing is lost for it:
CPython does not change threads inside `cell[i] += 1`.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

Labels = tuple[str, ...]
Cells = dict[Labels, list[float]]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

families: dict[str, "Family"] = {}


class Family:
    """Numbers of one name: of several processes the sum, in `cells` a list for each labels."""

    kind: str

    def __init__(self, name: str, about: str, labels: Labels = ()) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self._cells: Cells = {}
        families[name] = self

    def cells(self) -> Cells:
        """A copy, which does not grow while somebody reads it."""
        return self._cells.copy()

    def merge(self, numbers: Sequence[float]) -> float:
        """One number of all processes together."""
        return sum(numbers)


class Counter(Family):
    kind = "counter"

    def add(self, *labels: str, times: float = 1) -> None:
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells.setdefault(labels, [0])
        cell[0] += times


class Histogram(Family):
    """A cell holds how many there were up to each bound, how many above, and the sum of all."""

    kind = "histogram"

    def __init__(
        self, name: str, about: str, labels: Labels = (), bounds: Sequence[float] = SECONDS
    ) -> None:
        super().__init__(name, about, labels)
        self.bounds = bounds

    def observe(self, amount: float, *labels: str) -> None:
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells.setdefault(labels, [0] * (len(self.bounds) + 2))
        cell[bisect_left(self.bounds, amount)] += 1
        cell[-1] += amount


class Figure(Family):
    """What is counted elsewhere, or is a state: read when somebody asks for it."""

    def __init__(
        self,
        name: str,
        about: str,
        labels: Labels,
        read: Callable[[], Mapping[Labels, float]],
        *,
        kind: str = "gauge",
        merge: Callable[[Sequence[float]], float] = sum,
    ) -> None:
        super().__init__(name, about, labels)
        self.kind = kind
        self._read = read
        self._merge = merge

    def cells(self) -> Cells:
        return {labels: [number] for labels, number in self._read().items()}

    def merge(self, numbers: Sequence[float]) -> float:
        return self._merge(numbers)


# What is asked of a store: by whoever guards it, or is told that it failed.
STORE_CALLS = Histogram(
    "iotflow_store_call_seconds", "How long calls of a store took.", ("store", "calls")
)
STORE_FAILURES = Counter(
    "iotflow_store_failures_total", "Calls that a store did not answer.", ("store", "calls")
)
