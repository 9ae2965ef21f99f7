"""Messages of devices as the broker passes them on, and what becomes of each.

The broker's plugin (deploy/mosquitto) has seen to it that only the device itself publishes to its
topic, and that no more messages come than its limit allows. It gives each the key that it came
under and the time that it came at, in ms, which is never the same twice for a device: so what is
brought again is stored under the same time.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import DatabaseError
from django.http import Http404
from rest_framework.exceptions import ValidationError

from accounts import failures
from devices import commands, notices
from devices.authentication import about_ended
from devices.key_cache import record_of
from devices.models import ApiKey, Command
from devices.serializers.commands import AnswerFields
from events.kinds import Kind
from iotflow.lib import errors, json
from iotflow.lib.errors import Conflict, StoreAway
from iotflow.lib.mqtt import Message
from iotflow.lib.timeparse import format_ms
from telemetry import ingest
from telemetry.ingest import Receipt, Submission
from telemetry.messages import parse_message
from telemetry.stores import Refused

logger = logging.getLogger(__name__)
STAMP = "iotflow"
TOPIC = re.compile(r"devices/([1-9][0-9]{0,17})/(telemetry|commands/get|commands/answer)", re.ASCII)
STAMPED = re.compile(r"([0-9]{1,18}) ([0-9]{1,13})", re.ASCII)
REASONS = ("unattributed", "key_ended", "inactive", "invalid", "failed")
INACTIVE = "This device is inactive, or its owner is; it may not write."


class Arrival(NamedTuple):
    """A message, who the broker says it is from, and what it is about, as TOPIC says."""

    device_id: int
    about: str
    key_id: int
    at: int
    payload: bytes


class Refusal(NamedTuple):
    """Why a message is not stored, one of REASONS, and the error as the API would answer it."""

    reason: str
    error: dict[str, Any]


Verdict = Refusal | StoreAway | None


def settle(messages: Sequence[Message]) -> list[Verdict]:
    """Store the messages, and do what they say of commands; for each None where that is done, why
    it is not, or which store was away.

    What was not stored for a store may be brought again, and so may anything else. Raises
    StoreAway and DatabaseError where nothing was even begun.
    """
    arrivals = [attributed(message) for message in messages]
    keys = ApiKey.objects.with_device().in_bulk({one.key_id for one in arrivals if one})
    taken = [_taken(one, keys) for one in arrivals]
    good = [one for one in taken if isinstance(one, Submission)]
    outcomes = iter(ingest.submit_all(good))
    return [_verdict(next(outcomes)) if isinstance(one, Submission) else one for one in taken]


def attributed(message: Message) -> Arrival | None:
    """None where it did not come by way of the plugin: a will, or a broker without it."""
    topic = TOPIC.fullmatch(message.topic)
    stamp = STAMPED.fullmatch(message.properties.get(STAMP, ""))
    if topic is None or stamp is None:
        return None
    return Arrival(int(topic[1]), topic[2], int(stamp[1]), int(stamp[2]), message.payload)


def _taken(arrival: Arrival | None, keys: Mapping[int, ApiKey]) -> Submission | Refusal | None:
    if arrival is None:
        return _refusal("unattributed", 401, "Nobody says which device this message is from.")
    try:
        return _done(arrival, keys)
    except (StoreAway, DatabaseError):
        raise
    except Exception:  # a defect of ours; all that comes after it would wait for ever
        logger.exception("a message of device %d cannot be read", arrival.device_id)
        return _refusal("failed", 500, errors.MESSAGES[500])


def _done(arrival: Arrival, keys: Mapping[int, ApiKey]) -> Submission | Refusal | None:
    """None where nothing is left to be done."""
    moment = datetime.fromtimestamp(arrival.at / 1000, UTC)
    key = keys.get(arrival.key_id)
    # As it was then: what came before a key was replaced is stored after that, too.
    if key is None or key.device_id != arrival.device_id or not key.was_valid(moment):
        who = f"device:{arrival.device_id}"
        about = failures.nobody if key is None else lambda: about_ended(key)
        failures.note(Kind.DEVICE_KEY_REFUSED, "A key was refused", who, about)
        return _refusal("key_ended", 401, "This API key is unknown, expired or revoked.")
    device = record_of(key.device, key)
    if not device.may_write:
        return _refusal("inactive", 403, INACTIVE)
    if arrival.about == "commands/get":
        notices.commands_asked(device.id)
        return None
    try:
        body = json.loads(arrival.payload)
        if arrival.about == "commands/answer":
            _answer(device.id, body)
            return None
        message = parse_message(body, device.device_type, arrival.at)
    except (ValidationError, Conflict, Http404) as error:
        return _invalid(error)
    except ValueError as error:
        return _refusal("invalid", 400, f"The message is not JSON: {error}")
    at = arrival.at if message.time is None else message.time
    return Submission(device, message.values, message.metadata, at)


def _answer(device_id: int, body: Any) -> None:
    """Raises ValidationError, Http404 or Conflict, as the API would."""
    answer = AnswerFields(data=body)
    answer.is_valid(raise_exception=True)
    fields = dict(answer.validated_data)
    if fields["status"] == Command.Status.ACKNOWLEDGED:
        commands.acknowledge(device_id=device_id, command_id=fields["command_id"])
    else:
        commands.finish(device_id=device_id, **fields)


def _verdict(outcome: Receipt | Exception) -> Verdict:
    match outcome:
        case Receipt():
            return None
        case Refused():
            return _invalid(ValidationError({"data": [str(outcome)]}))
        case StoreAway():
            return outcome
    raise outcome


def _refusal(reason: str, status: int, message: str) -> Refusal:
    return Refusal(reason, errors.error_body(status, message))


def _invalid(error: Exception) -> Refusal:
    response = errors.exception_handler(error, {})
    assert response is not None
    return Refusal("invalid", response.data)


def told(refusal: Refusal, message: Message) -> bytes:
    """What is said on the device's topic for errors: the API's error, and which message it was."""
    arrival = attributed(message)
    came = {"received_at": format_ms(arrival.at)} if arrival else {}
    return json.dumps({**refusal.error, **came})
