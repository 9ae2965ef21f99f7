"""News that travels upward to the apps that own more about a user."""

from django.dispatch import Signal

# Sent inside the transaction that activates or deactivates users. Arguments: users.
user_activity_changed = Signal()

# Sent before a user is deleted, in no transaction: what is theirs may go in parts. Arguments: user.
user_leaving = Signal()
