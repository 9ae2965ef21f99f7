"""Log lines, for people (LOG_FORMAT=line) or for programs (json); each with its request's id."""

import logging
from datetime import UTC, datetime

from events import context
from iotflow.lib import json

# What a line may say besides: nothing gets into the log for being there.
FIELDS = ("method", "route", "path", "status", "milliseconds", "address", "device_id")


class Line(logging.Formatter):
    """`time LEVEL logger message [request id]`; no message is more than a line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        request_id = _request_id(record)
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        line = f"{self.formatTime(record)} {record.levelname} {record.name} {record.message}"
        return f"{line} [{request_id}]" if request_id else line


class Json(logging.Formatter):
    """An object a line: time, level, logger, message, and what else is known of FIELDS."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": _request_id(record),
            **{name: getattr(record, name, None) for name in FIELDS},
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return _dumped({name: value for name, value in line.items() if value not in (None, "")})


def _request_id(record: logging.LogRecord) -> str:
    return str(getattr(record, "request_id", "") or context.origin().request_id)


def _dumped(line: dict[str, object]) -> str:
    try:
        return json.dumps(line).decode()
    except TypeError:  # half of a surrogate pair
        texts = {
            name: str(value).encode("utf-8", "replace").decode() for name, value in line.items()
        }
        return json.dumps(texts).decode()
