"""Spans for OpenTelemetry. Until `start`, nothing of it is imported and a span is nothing."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from iotflow import __version__

_tracer: Any = None
_nothing: AbstractContextManager[Any] = nullcontext()


def start_where_asked() -> None:
    """Export spans from now on, if OTEL_EXPORTER_OTLP_ENDPOINT says where to."""
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        try:
            _start()
        except ImportError as error:
            raise ImproperlyConfigured(
                "OTEL_EXPORTER_OTLP_ENDPOINT needs what requirements-tracing.txt lists."
            ) from error


def _start() -> None:
    """The SDK reads the variable itself, and its other ones."""
    global _tracer
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {"service.name": "iotflow", "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(about))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("iotflow", __version__)


def span(name: str, links: Iterable[Any] = ()) -> AbstractContextManager[Any]:
    """A span around what is done inside, within the one that this thread is in."""
    if _tracer is None:
        return _nothing
    return _begun(name, links=list(links))


def link() -> Any:
    """Where this thread is, for `links` of a span in another one; None without tracing."""
    if _tracer is None:
        return None
    from opentelemetry.trace import Link, get_current_span

    return Link(get_current_span().get_span_context())


def request_span(meta: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """The span of a request, within the caller's where a header names one; None without tracing."""
    if _tracer is None:
        return _nothing
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    carrier = {
        name: str(meta.get(f"HTTP_{name.upper()}", "")) for name in ("traceparent", "tracestate")
    }
    return _begun("request", context=extract(carrier), kind=SpanKind.SERVER)


@contextmanager
def _begun(name: str, **options: Any) -> Iterator[Any]:
    """Of what fails, the kind of error is told: its text may hold what is nobody's business."""
    from opentelemetry.trace import StatusCode

    options |= {"record_exception": False, "set_status_on_exception": False}
    with _tracer.start_as_current_span(name, **options) as span:
        try:
            yield span
        except Exception as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def describe(span: Any, method: str, route: str, status: int, request_id: str) -> None:
    """Say what a request's span was of, by OpenTelemetry's names."""
    from opentelemetry.trace import StatusCode

    span.update_name(f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    span.set_attribute("iotflow.request_id", request_id)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
