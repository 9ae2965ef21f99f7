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
from rest_framework.exceptions import ValidationError

from accounts import failures
from devices.authentication import about_ended, record_of
from devices.models import ApiKey
from events.kinds import Kind
from iotflow.lib import errors, json
from iotflow.lib.errors import StoreAway
from iotflow.lib.mqtt import Message
from iotflow.lib.timeparse import format_ms
from telemetry import ingest
from telemetry.ingest import Receipt, Submission
from telemetry.messages import parse_message
from telemetry.stores import Refused

logger = logging.getLogger(__name__)
STAMP = "iotflow"
TOPIC = re.compile(r"devices/([1-9][0-9]{0,17})/telemetry", re.ASCII)
STAMPED = re.compile(r"([0-9]{1,18}) ([0-9]{1,13})", re.ASCII)
REASONS = ("unattributed", "key_ended", "inactive", "invalid", "failed")
INACTIVE = "This device is inactive, or its owner is; it may not write."


class Arrival(NamedTuple):
    """A message, and who the broker says it is from."""

    device_id: int
    key_id: int
    at: int
    payload: bytes


class Refusal(NamedTuple):
    """Why a message is not stored, one of REASONS, and the error as the API would answer it."""

    reason: str
    error: dict[str, Any]


Verdict = Refusal | StoreAway | None


def settle(messages: Sequence[Message]) -> list[Verdict]:
    """Store the messages; for each None where it is stored, why not, or which store was away.

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
    return Arrival(int(topic[1]), int(stamp[1]), int(stamp[2]), message.payload)


def _taken(arrival: Arrival | None, keys: Mapping[int, ApiKey]) -> Submission | Refusal:
    if arrival is None:
        return _refusal("unattributed", 401, "Nobody says which device this message is from.")
    try:
        return _submission(arrival, keys)
    except (StoreAway, DatabaseError):
        raise
    except Exception:  # a defect of ours; all that comes after it would wait for ever
        logger.exception("a message of device %d cannot be read", arrival.device_id)
        return _refusal("failed", 500, errors.MESSAGES[500])


def _submission(arrival: Arrival, keys: Mapping[int, ApiKey]) -> Submission | Refusal:
    moment = datetime.fromtimestamp(arrival.at / 1000, UTC)
    key = keys.get(arrival.key_id)
    # As it was then: what came before a key was replaced is stored after that, too.
    if key is None or key.device_id != arrival.device_id or not key.was_valid(moment):
        who = f"device:{arrival.device_id}"
        about = failures.nobody if key is None else lambda: about_ended(key)
        failures.note(Kind.DEVICE_KEY_REFUSED, "A key was refused", who, about)
        return _refusal("key_ended", 401, "This API key is unknown, expired or revoked.")
    device = record_of(key)
    if not device.may_write:
        return _refusal("inactive", 403, INACTIVE)
    try:
        body = json.loads(arrival.payload)
        message = parse_message(body, device.device_type, arrival.at)
    except ValidationError as error:
        return _invalid(error)
    except ValueError as error:
        return _refusal("invalid", 400, f"The message is not JSON: {error}")
    at = arrival.at if message.time is None else message.time
    return Submission(device, message.values, message.metadata, at)


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


def _invalid(error: ValidationError) -> Refusal:
    response = errors.exception_handler(error, {})
    assert response is not None
    return Refusal("invalid", response.data)


def told(refusal: Refusal, message: Message) -> bytes:
    """What is said on the device's topic for errors: the API's error, and which message it was."""
    arrival = attributed(message)
    came = {"received_at": format_ms(arrival.at)} if arrival else {}
    return json.dumps({**refusal.error, **came})
