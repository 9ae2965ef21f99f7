"""The tamper-evident chain over the event log: what seals it, and what verifies it."""
