"""What the OpenAPI schema leaves out."""

from typing import Any

# The same views answer at the root, where they are documented.
ALIASES = {"/api/v1/health", "/api/v1/status"}

Endpoint = tuple[str, str, str, Any]


def without_aliases(endpoints: list[Endpoint]) -> list[Endpoint]:
    """drf-spectacular's preprocessing hook."""
    return [endpoint for endpoint in endpoints if endpoint[0] not in ALIASES]
