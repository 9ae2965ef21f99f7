"""What a look at the installation finds: shared by those who look and those who tell."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, but not as wanted, or not for ever
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is the case; `do`: what to do about it, empty where it is well. Sentences both."""

    level: Level
    what: str
    do: str = ""

    def body(self) -> dict[str, str]:
        return {"level": self.level.value, "what": self.what, "do": self.do}


def ok(what: str) -> Finding:
    return Finding(Level.OK, what)


def warning(what: str, do: str) -> Finding:
    return Finding(Level.WARNING, what, do)


def problem(what: str, do: str) -> Finding:
    return Finding(Level.PROBLEM, what, do)
