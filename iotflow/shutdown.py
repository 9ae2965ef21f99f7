"""The end of a server process: what it has taken is finished, and what waits is sent on.

On SIGTERM granian takes nothing new, answers every request it has, and ends its workers without
Python's exit handlers. What it leaves are those of multiprocessing, which started the worker.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.util import Finalize

from django.db import DatabaseError, connections

from events import outbox
from iotflow.lib.errors import StoreAway
from iotflow.lib.live import hub
from telemetry import ingest

logger = logging.getLogger(__name__)
COMMIT_SECONDS = 5.0
DELIVER_SECONDS = 3.0
NUDGES = 5


def deliver() -> None:
    """Deliver what waits in the outbox, once; what is left then is the worker's."""
    deadline = time.monotonic() + DELIVER_SECONDS
    try:
        while outbox.relay() and time.monotonic() < deadline:
            pass
    except (StoreAway, DatabaseError) as error:
        logger.info("events wait in the outbox: %s", error)
    finally:
        connections.close_all()


def at_end(last: Callable[[], object] = deliver, *, hears_signals: bool = True) -> None:
    """Have the committer finish when this process ends, then `last` run, if granian started it."""
    if parent_process() is not None:
        Finalize(None, _finish, args=(last,), exitpriority=10)
        if hears_signals:
            _hear_signals()


def _hear_signals() -> None:
    """Let the main thread learn of every signal; only it runs Python's handlers.

    A signal to the process may be taken by another thread, one that is just starting a third, as
    hashing a password does. The main thread, which waits for a lock, would sleep on. So whatever
    comes is followed by a signal to that thread itself.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGUSR2, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    main = threading.get_ident()

    def nudge() -> None:
        while number := os.read(reading, 1):
            if number[0] != signal.SIGUSR2:
                hub.finish()  # a request that does not end would be waited for
                for _ in range(NUDGES):
                    signal.pthread_kill(main, signal.SIGUSR2)
                    time.sleep(0.1)

    threading.Thread(target=nudge, name="signals", daemon=True).start()


def _finish(last: Callable[[], object]) -> None:
    ingest.stop(COMMIT_SECONDS)
    last()
    logger.info("this process has finished what it had taken")
