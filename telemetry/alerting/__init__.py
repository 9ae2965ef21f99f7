"""Alerts: rules about what devices say or leave unsaid, and what became of them."""
