"""Whether the chain itself holds: every link there, every seal right, every head where it was."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise

from django.db.models import QuerySet

from events.audit import chain, keys
from events.audit.faults import Fault, Found, of_link
from events.models import AuditDay, AuditHead, AuditLink

CHUNK = 2000


def started() -> AuditLink | None:
    """The newest link that says from when on the event log is vouched for."""
    return AuditLink.objects.filter(scope=chain.Scope.START).order_by("-number").first()


def faults(
    head: AuditHead, since: datetime | None, tick: Callable[[int], object]
) -> Iterator[Found]:
    """Those of the links sealed on the day of `since` and later, up to `head`."""
    start = started()
    days = list(AuditDay.objects.order_by("day"))
    if start is None or not days or days[0].first != start.count:
        yield Found(Fault.CHAIN, "The chain does not begin where it says that it begins.")
        return
    for one, other in pairwise(days):
        if bytes(one.seal) != bytes(other.before) or one.last + 1 != other.first:
            yield Found(Fault.CHAIN, f"{other.day} does not go on from {one.day}.")
    if since is not None:
        day = since.astimezone(UTC).date()
        days = [one for one in days if one.day >= day] or days[-1:]
    links = AuditLink.objects.filter(number__gte=days[0].first, number__lte=head.number)
    before = AuditLink(number=days[0].first - 1, seal=days[0].before)
    last = before
    for link, found in checked(links.order_by("number"), before):
        yield from found
        tick(1)
        last = link
    yield from _heads(days, head, last)


def checked(
    links: QuerySet[AuditLink], before: AuditLink | None
) -> Iterator[tuple[AuditLink, list[Found]]]:
    """Each link with what is wrong about it; the first is taken as it is where none is before."""
    known = keys.known()
    missing = set()
    for link in links.iterator(CHUNK):
        found = []
        key = known.get(link.key)
        if before is not None and link.number != before.number + 1:
            if not _dropped(link.number):
                text = f"Links {before.number + 1} to {link.number - 1} of the chain are gone."
                found.append(Found(Fault.CHAIN, text))
        elif key is None and link.key not in missing:
            missing.add(link.key)
            text = f"Link {link.number} has a key ({link.key}) that is in neither variable."
            found.append(of_link(Fault.CHAIN, link, text))
        elif before and key and chain.seal_of(link, bytes(before.seal), key) != bytes(link.seal):
            text = f"The seal of link {link.number} does not hold."
            found.append(of_link(Fault.CHAIN, link, text))
        yield link, found
        before = link


def _dropped(number: int) -> bool:
    """Whether days before this link have been dropped while it was looked at."""
    start = started()
    return start is not None and start.count >= number


def _heads(days: list[AuditDay], head: AuditHead, last: AuditLink) -> Iterator[Found]:
    if last.number < head.number:
        text = f"Links {last.number + 1} to {head.number} at the end of the chain are gone."
        yield Found(Fault.CHAIN, text)
    elif bytes(last.seal) != bytes(head.seal):
        yield Found(
            Fault.CHAIN, f"The chain does not end with the seal of its head, {head.number}."
        )
    ends = {day.last: day for day in days if day.last <= head.number}
    for link in AuditLink.objects.filter(number__in=ends):
        if bytes(link.seal) != bytes(ends[link.number].seal):
            yield Found(Fault.CHAIN, f"{link.day} does not end with the seal of its head.")
    if AuditLink.objects.filter(number__gt=max(head.number, AuditHead.objects.get().number)):
        yield Found(Fault.CHAIN, f"There are links after the head, {head.number}.")
