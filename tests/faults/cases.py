"""The cases: what is done to which component, for how long, and how it is undone."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.web import Stores, Web
from tests.services import control

STORES = ("postgres", "cassandra", "redis", "mongo")
NAMES = {
    "postgres": "PostgreSQL",
    "cassandra": "Cassandra",
    "redis": "Redis",
    "mongo": "MongoDB",
    "web": "web",
}
FAULTS = {
    "kill": "killed (SIGKILL), started again",
    "hang": "frozen (SIGSTOP), resumed",
    "slow": "every packet 0.15 s late, both ways",
    "cut": "one answer in five cut in the middle, the connection reset",
    "refuse": "connections reset and refused",
    "restart": "ended in order, started again",
    "worker": "one of two workers killed",
}
SLOW_SECONDS = 0.15
CUT_SHARE = 0.2


@dataclass(frozen=True)
class Case:
    """Faults that begin together, each a (component, fault)."""

    faults: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return " + ".join(f"{NAMES[component]}: {fault}" for component, fault in self.faults)

    @property
    def touches_web(self) -> bool:
        """Whether requests may go unanswered: who was to answer is not there."""
        return any(component == "web" for component, _ in self.faults)


def case(*faults: str) -> Case:
    return Case(tuple((one.split()[0], one.split()[1]) for one in faults))


SINGLE = [
    *(case(f"{store} {fault}") for store in STORES for fault in FAULTS if fault != "worker"),
    *(case(f"web {fault}") for fault in FAULTS),
]
PAIRS = [
    case("redis kill", "mongo kill"),
    case("redis hang", "mongo hang"),
    case("postgres kill", "mongo kill"),
    case("postgres hang", "redis hang"),
    case("cassandra cut", "redis kill"),
    case("cassandra hang", "postgres hang"),
    case("redis hang", "web kill"),
    case("mongo kill", "web restart"),
    case("cassandra slow", "web restart"),
]
QUICK = [
    case("postgres hang"),
    case("cassandra cut"),
    case("redis kill", "mongo hang"),
    case("cassandra slow", "web restart"),
    case("web worker"),
]
Undo = Callable[[], None]


def begin(component: str, fault: str, web: Web, stores: Stores) -> Undo:
    """Do it; what undoes it, which returns when the component is there again."""
    proxy = web.proxy if component == "web" else stores.proxies[component]
    if fault == "slow":
        proxy.delay(SLOW_SECONDS)
        return lambda: proxy.delay(0)
    if fault == "cut":
        proxy.cut(CUT_SHARE)
        return lambda: proxy.cut(0)
    if fault == "refuse":
        proxy.refuse()
        return proxy.accept
    if component == "web":
        return _begin_web(fault, web)
    verb, undo = {
        "kill": ("kill", "start"),
        "hang": ("pause", "resume"),
        "restart": ("halt", "start"),
    }[fault]
    control(verb, component)
    return lambda: control(undo, component)


def _begin_web(fault: str, web: Web) -> Undo:
    if fault == "hang":
        web.pause()
        return web.resume
    if fault == "worker":
        web.kill_one_worker()
        return web.wait
    if fault == "restart":
        web.end()
    else:
        web.kill()
    return web.start
