"""Small JSON files for their owner's eyes only."""

import json
import os
from pathlib import Path
from typing import Any


def write_private(path: Path, data: Any) -> None:
    """Write `data` as JSON, mode 600 from the first byte on; whole, or the old file stays."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(json.dumps(data, indent=2) + "\n")
    draft.replace(path)


def read_private(path: Path) -> Any:
    """What was written; None where there is no such file. ValueError for what is not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
