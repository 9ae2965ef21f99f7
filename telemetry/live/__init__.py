"""Readings as they come: what writers say of them, and what a listener is told."""

from telemetry.live.news import ask, tell
from telemetry.live.source import History, newest

__all__ = ["History", "ask", "newest", "tell"]
