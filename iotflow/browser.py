"""What a browser may do with an answer of ours, said in headers of a fixed text.

Every script and style is a file of ours, so the policies need no nonce: decision 0030.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

_ALWAYS = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
NOTHING = f"{_ALWAYS}; form-action 'none'"
PLAIN = f"{_ALWAYS}; form-action 'self'; style-src 'self'; img-src 'self'"
DOCS = f"{_ALWAYS}; form-action 'none'; script-src 'self'; connect-src 'self'; style-src 'self'"
DOCS += "; img-src 'self' data:"
# Alpine.js, which moves the admin site, makes functions of the expressions in its attributes.
ADMIN = f"{_ALWAYS}; form-action 'self'; script-src 'self' 'unsafe-eval'; connect-src 'self'"
ADMIN += "; style-src 'self' 'unsafe-inline'; font-src 'self'; img-src 'self' data:"
PAGES = (("/admin/", ADMIN), ("/api/docs", DOCS))
FEATURES = (
    "accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), "
    "payment=(), usb=()"
)


class BrowserPolicy:
    """Content-Security-Policy with everything; what is no page may load and do nothing at all."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        headers = response.headers
        # The path is asked first, for it is known at once: devices pay for one header and no more.
        if request.path_info.startswith("/api/v1/") or not _is_page(response):
            headers["Content-Security-Policy"] = NOTHING
        else:
            headers["Content-Security-Policy"] = policy_of(request.path_info)
            headers["Permissions-Policy"] = FEATURES
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return response


def _is_page(response: HttpResponse) -> bool:
    return response.headers.get("Content-Type", "").startswith("text/html")


def policy_of(path: str) -> str:
    """Of a page: the least that it works with."""
    return next((policy for start, policy in PAGES if path.startswith(start)), PLAIN)
