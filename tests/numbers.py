"""Numbers of devices that are only in the stores of telemetry: no two tests have the same."""

import itertools
import time

# One for all modules: those that begin to count at the same moment would meet.
device_numbers = itertools.count(time.time_ns() // 1_000_000)
