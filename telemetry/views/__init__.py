"""Telemetry over HTTP: writing, reading."""
