"""What a verification finds."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from events.models import AuditLink
from events.sinks import Document
from iotflow.lib.timeparse import format_datetime


class Fault(StrEnum):
    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    CHAIN = "chain"  # the chain itself, which is in the relational database


@dataclass(frozen=True, slots=True)
class Found:
    """One fault, and the event that it is about; `id` is empty where it is a minute of many."""

    fault: Fault
    text: str
    id: str = ""
    kind: str = ""
    time: datetime | None = None

    def body(self) -> dict[str, Any]:
        return {
            "fault": self.fault.value,
            "id": self.id,
            "kind": self.kind,
            "time": format_datetime(self.time),
            "text": self.text,
        }

    def __str__(self) -> str:
        about = [self.kind, self.id, format_datetime(self.time) or ""]
        return " ".join([f"{self.fault.value.upper()}:", *filter(None, about), self.text])


def of_link(fault: Fault, link: AuditLink, text: str) -> Found:
    return Found(fault, text, str(link.event_id or ""), link.kind, link.time)


def of_document(fault: Fault, document: Document, text: str) -> Found:
    """Whatever its fields have become."""
    time, kind = document.get("time"), document.get("kind")
    return Found(
        fault,
        text,
        str(document["id"]),
        kind if isinstance(kind, str) else "",
        time if isinstance(time, datetime) else None,
    )
