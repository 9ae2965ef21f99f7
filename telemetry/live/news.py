"""What goes to the channels of devices that are listened to, when it is stored."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from iotflow.lib import json
from iotflow.lib.live import channels
from iotflow.lib.live.channels import News
from iotflow.lib.timeparse import format_ms
from telemetry.readings import Place, Reading, StoredReading


def body(device_id: int, reading: Reading | StoredReading) -> bytes:
    """A reading as listeners get it: the same bytes, wherever it was read."""
    said: dict[str, Any] = {
        "device_id": device_id,
        "timestamp": format_ms(reading.time),
        "measurements": dict(reading.values),
    }
    if reading.metadata is not None:
        said["metadata"] = dict(reading.metadata)
    return json.dumps(said, sort_keys=True)


def ask(pipe: Any, places: Iterable[Place]) -> list[int]:
    """Add to a pipeline, as its last command: who listens to these devices? They are returned."""
    devices = sorted({device for device, _ in places})
    if devices:
        channels.ask(pipe, devices)
    return devices


def tell(
    client: Any,
    readings: Sequence[Reading],
    missed: Collection[Place],
    asked: Sequence[int],
    answers: Sequence[Any],
) -> None:
    """Send on what somebody listens to: that something was missed, then the readings.

    Who does is what a pipeline `answers` that `asked` for it. Raises StoreAway.
    """
    if not asked:
        return
    heard = {device for device, names in zip(asked, answers[-1], strict=True) if names}
    if heard:
        lost = sorted({device for device, _ in missed} & heard)
        news = [channels.interruption(device) for device in lost]
        news += [
            News(one.device_id, one.time, body(one.device_id, one))
            for one in readings
            if one.device_id in heard
        ]
        channels.tell(client, news)
