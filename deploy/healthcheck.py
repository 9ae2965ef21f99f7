"""Health of the web server in its own container: exit code 0 when /health says 200."""

import os
import urllib.request

# The server answers to no other host name.
host = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")[0].strip().lstrip(".")
request = urllib.request.Request(
    "http://127.0.0.1:8000/health", headers={"Host": "localhost" if host == "*" else host}
)
urllib.request.urlopen(request, timeout=4).close()  # noqa: S310  # nosec B310: the address above
