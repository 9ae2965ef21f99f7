import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import chain, islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from tqdm import tqdm

from events.audit.faults import Fault, Found
from events.audit.integrity import started
from events.audit.sealer import minute_of
from events.audit.verifier import Counts, Verifier
from events.models import AuditHead, AuditLink
from iotflow.lib.errors import StoreAway
from iotflow.lib.timeparse import NotATime, now_ms, parse_ms, to_datetime

CANNOT_LOOK = 2


class Command(BaseCommand):
    help = (
        "Hold the event log against its chain: name every event that was changed, removed or "
        "inserted. Changes nothing. The exit code is 1 where there is one, 2 where it cannot look."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", metavar="TIME", help="Events of then and later, by minutes.")
        parser.add_argument("--until", metavar="TIME", help="Events of before then.")
        parser.add_argument(
            "--head",
            metavar="NUMBER:SEAL",
            help="One that was printed before and kept elsewhere: the chain has to hold it still.",
        )
        parser.add_argument(
            "--limit", type=int, default=1000, metavar="FAULTS", help="Stop after as many (1000)."
        )
        parser.add_argument("--json", action="store_true", help="For programs.")

    def handle(self, *args: Any, **options: Any) -> None:
        since, until = (moment(name, options[name]) for name in ("since", "until"))
        with tqdm(unit="event", desc="verifying", disable=options["json"] or None) as bar:
            verifier = Verifier(since, until, bar.update)
            found = chain(kept(options["head"]), verifier.faults())
            try:
                rows = [self._shown(one, options) for one in islice(found, options["limit"])]
                head = head_now()
            except (StoreAway, DatabaseError) as error:
                text = f"This cannot be verified now: {error}"
                raise CommandError(text, returncode=CANNOT_LOOK) from error
        if options["json"]:
            counts = asdict(verifier.counts)
            self.stdout.write(json.dumps({"faults": rows, **counts, "head": head}, indent=2))
        else:
            self.stdout.write(summary(verifier.counts, head))
        if rows:
            raise CommandError(f"{len(rows)} fault(s) found.")

    def _shown(self, found: Found, options: dict[str, Any]) -> dict[str, Any]:
        if not options["json"]:
            self.stdout.write(self.style.ERROR(str(found)))
        return found.body()


def moment(name: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else minute_of(to_datetime(parse_ms(text, now_ms())))
    except NotATime as error:
        raise CommandError(f"--{name}: {error}", returncode=CANNOT_LOOK) from error


def kept(head: str | None) -> Iterator[Found]:
    """A fault where the chain no longer holds a head that was kept elsewhere."""
    if head is None:
        return
    number, _, seal = head.partition(":")
    if not number.isdecimal() or len(seal) != 64:
        raise CommandError("--head is written as it was printed.", returncode=CANNOT_LOOK)
    link = AuditLink.objects.filter(number=int(number)).first()
    start = started()
    if link is None and start is not None and int(number) < start.count:
        text = f"Link {number} is too old to be held; verify with a newer head."
        raise CommandError(text, returncode=CANNOT_LOOK)
    if link is None or bytes(link.seal).hex() != seal:
        yield Found(Fault.CHAIN, f"The chain no longer holds the head {head}.")


def head_now() -> str:
    head = AuditHead.objects.first()
    return "" if head is None else f"{head.number}:{bytes(head.seal).hex()}"


def summary(counts: Counts, head: str) -> str:
    if not head:
        return "Nothing is sealed yet: the worker does that."
    return (
        f"{counts.events:,} event(s) and {counts.minutes:,} minute(s) of telemetry's compared, "
        f"{counts.links:,} link(s) checked; {counts.expired:,} expired, "
        f"{counts.pending:,} event(s) not sealed yet.\nHead: {head}"
    )
