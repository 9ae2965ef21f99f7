"""IoTFlow for Python: a device that submits, a queue on disk, a user or gateway."""

from iotflow_client.buffered import BufferedDevice, Flushed
from iotflow_client.connection import Retry
from iotflow_client.device import Config, Device
from iotflow_client.errors import (
    ApiError,
    BodyTooLarge,
    Conflict,
    Forbidden,
    IoTFlowError,
    NotAuthenticated,
    NotFound,
    QueueError,
    QueueFull,
    TooManyRequests,
    Unavailable,
    ValidationFailed,
)
from iotflow_client.queue import Queue, Rejected
from iotflow_client.readings import (
    BatchResult,
    DeviceInfo,
    Latest,
    Reading,
    StoredReading,
    Submitted,
    Verdict,
)
from iotflow_client.user import User

__version__ = "0.1.0"

__all__ = [
    "ApiError",
    "BatchResult",
    "BodyTooLarge",
    "BufferedDevice",
    "Config",
    "Conflict",
    "Device",
    "DeviceInfo",
    "Flushed",
    "Forbidden",
    "IoTFlowError",
    "Latest",
    "NotAuthenticated",
    "NotFound",
    "Queue",
    "QueueError",
    "QueueFull",
    "Reading",
    "Rejected",
    "Retry",
    "StoredReading",
    "Submitted",
    "TooManyRequests",
    "Unavailable",
    "User",
    "ValidationFailed",
    "Verdict",
]
