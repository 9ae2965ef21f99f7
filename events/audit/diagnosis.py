"""What doctor says of the chain over the event log."""

from collections.abc import Iterator
from datetime import timedelta

from django.utils import timezone

from events.audit.verifier import Verifier
from events.models import AuditHead, Outbox
from iotflow.lib.findings import Finding, ok, problem, warning

BEHIND = timedelta(minutes=15)
NEWEST = 500  # links that are verified
NAMED = 3


def audit() -> Iterator[Finding]:
    """How far behind the sealer is, and whether the newest of what it sealed holds."""
    head = AuditHead.objects.first()
    if head is None:
        yield warning(
            "No event has been sealed yet.", "Start a worker: `python manage.py worker` seals them."
        )
        return
    yield _behind(head)
    verifier = Verifier()
    found = list(verifier.of_newest(NEWEST))
    for one in found[:NAMED]:
        yield problem(str(one), "Run `python manage.py verify_audit`, which names every fault.")
    if not found:
        yield ok(f"The newest {verifier.counts.links} link(s) of the chain hold.")


def _behind(head: AuditHead) -> Finding:
    oldest = Outbox.delivered.order_by("id").values_list("delivered_at", flat=True).first()
    since = min(filter(None, [oldest, head.minutes_until]))
    behind = timezone.now() - since
    if behind < BEHIND:
        return ok(f"{head.number} link(s) seal the event log, up to {since:%Y-%m-%d %H:%M} UTC.")
    return warning(
        f"Events are sealed up to {since:%Y-%m-%d %H:%M} UTC only.",
        "The worker or the event log is away, or an event waits in the outbox.",
    )
