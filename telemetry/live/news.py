"""What goes to the channels of devices that are listened to, when it is stored."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from iotflow.lib import json
from iotflow.lib.live import channels
from iotflow.lib.live.channels import News
from iotflow.lib.timeparse import format_ms
from telemetry.readings import Place, Reading, StoredReading

Answers = Sequence[Any]


def body(device_id: int, reading: StoredReading) -> bytes:
    """A reading as listeners get it: the same bytes, wherever it was read."""
    said: dict[str, Any] = {
        "device_id": device_id,
        "timestamp": format_ms(reading.time),
        "measurements": reading.values,
    }
    if reading.metadata is not None:
        said["metadata"] = reading.metadata
    return json.dumps(said)


def ask(
    pipe: Any, written: Iterable[Place], missed: Iterable[Place]
) -> Callable[[Answers], frozenset[int]]:
    """Add to a pipeline, as one command: who listens to these devices?

    What is answered is those of them that have a listener, by the answers of the pipeline.
    """
    devices = sorted({device for places in (written, missed) for device, _ in places})
    if not devices:
        return lambda answers: frozenset()
    place = len(pipe)
    channels.ask(pipe, devices)
    return lambda answers: frozenset(
        device for device, names in zip(devices, answers[place], strict=True) if names
    )


def tell(
    client: Any, readings: Sequence[Reading], missed: Collection[Place], heard: frozenset[int]
) -> None:
    """Send on what is `heard` by somebody: that something was missed, then the readings.

    Raises StoreAway.
    """
    if heard:
        lost = sorted({device for device, _ in missed} & heard)
        news = [channels.interruption(device) for device in lost]
        news += [_news(reading) for reading in readings if reading.device_id in heard]
        channels.tell(client, news)


def _news(reading: Reading) -> News:
    values: Mapping[str, Any] = reading.values
    stored = StoredReading(
        reading.time,
        dict(sorted(values.items())),
        None if reading.metadata is None else dict(reading.metadata),
    )
    return News(reading.device_id, reading.time, body(reading.device_id, stored))
