"""Health of the web server in its own container: exit code 0 when it says 200.

`healthcheck.py live` asks whether the process lives, `ready` whether it takes requests.
"""

import os
import sys
import urllib.request

what = sys.argv[1] if len(sys.argv) > 1 else "live"
# The server answers to no other host name.
host = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")[0].strip().lstrip(".")
request = urllib.request.Request(
    f"http://127.0.0.1:8000/health/{what}", headers={"Host": "localhost" if host == "*" else host}
)
urllib.request.urlopen(request, timeout=4).close()  # noqa: S310  # nosec B310
