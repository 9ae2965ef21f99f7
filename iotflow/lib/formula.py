"""Texts that a spreadsheet would take for a formula: how an export writes them into a file."""

BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


def harmless(text: str) -> str:
    """With an apostrophe before it, where it is one or would read as the mark of one."""
    return f"'{text}" if text.lstrip("'").startswith(BEGINNINGS) else text


def harmful(text: str) -> str:
    """What `harmless` was given."""
    return text[1:] if text.startswith("'") and harmless(text) != text else text
