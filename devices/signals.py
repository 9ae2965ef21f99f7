"""News that travels upward to the apps that keep more about a device."""

from django.dispatch import Signal

# Sent inside the transaction that deletes devices. Arguments: device_ids.
devices_deleted = Signal()
