"""Texts that a spreadsheet would take for a formula: how an export writes them into CSV."""

BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


def harmless(text: str) -> str:
    return f"'{text}" if text.startswith(BEGINNINGS) else text


def harmful(text: str) -> str:
    """What `harmless` was given; for a text that began with an apostrophe this is a guess."""
    return text[1:] if text.startswith("'") and text[1:].startswith(BEGINNINGS) else text
