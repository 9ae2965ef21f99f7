"""The endpoints as the URL conf has them: every (method, path) that something answers."""

import re
from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RoutePattern

# What is not an endpoint of the API: (route, why).
NOT_ENDPOINTS = {
    "admin/": "Django's admin site",
    "admin/login/": "its way in",
    "favicon.ico": "for browsers",
    "api/v1": "the front page's JSON once more",
    "api/v1/admin/<path:path>": "answers 404 to staff, and nothing to others",
}
METHODS = ("get", "post", "put", "patch", "delete")
CONVERTER = re.compile(r"<(?:\w+:)?(\w+)>")

Endpoint = tuple[str, str]


def endpoints() -> dict[Endpoint, Any]:
    """The view of every endpoint, by its method and its path: `("GET", "/groups/{group_id}")`."""
    return {
        (method.upper(), "/" + CONVERTER.sub(r"{\1}", route)): view
        for route, view in _routes(get_resolver().url_patterns, "")
        for method in _methods(view)
    }


def _routes(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        if not isinstance(pattern.pattern, RoutePattern):
            assert pattern.pattern._regex == "^api/", "the only one by an expression: 404 in JSON"
            continue
        route = prefix + str(pattern.pattern)
        if route in NOT_ENDPOINTS:
            continue
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        else:
            yield route, pattern.callback


def _methods(view: Any) -> list[str]:
    if hasattr(view, "actions"):
        return [method for method in METHODS if method in view.actions]
    if not hasattr(view, "view_class"):
        return ["get"]  # the front page, a function
    return [method for method in METHODS if hasattr(view.view_class, method)]
