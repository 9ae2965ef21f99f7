"""Secrets made up for an install that was given none, kept under VAR_DIR."""

import secrets
from contextlib import suppress
from pathlib import Path


def made_up_secret(path: Path) -> str:
    """The secret in `path`, 64 URL-safe characters; made and written (mode 600) if not there.

    Safe when several processes start at once: whoever creates the file wins, the rest read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        if not path.exists():
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(48))
            with suppress(FileExistsError):
                path.hardlink_to(draft)
        return path.read_text().strip()
    finally:
        draft.unlink(missing_ok=True)
