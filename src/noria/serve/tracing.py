"""OpenTelemetry spans of predictions, for those who ask for them with OTEL_EXPORTER_OTLP_ENDPOINT.

Source: OpenTelemetry's trace API and the W3C Trace Context. Nothing of what was asked or answered is in a span.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from noria.errors import MissingExtra

__all__ = ["Tracing", "configured"]


def configured() -> Tracing | None:
    """Tracing as the standard environment variables say; None where they ask for none.

    Raises:
        MissingExtra: it is asked for, and the packages are not installed.
    """
    if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return None
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra("opentelemetry-sdk", "otel", "to send traces") from None
    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "noria"}
    provider = TracerProvider(resource=Resource.create(name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


class Tracing:
    """Makes one span a prediction, after the fact.

    Args:
        provider: an OpenTelemetry tracer provider.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("noria.serve")
        self._extract = TraceContextTextMapPropagator().extract
        self._kind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)

    def span(
        self, headers: Mapping[bytes, bytes], began_ns: int, ended_ns: int, status: int, about: Mapping[str, Any]
    ) -> None:
        """Record what one request took.

        Args:
            headers: by lower-case name; a ``traceparent`` among them is the span's parent.
            began_ns: nanoseconds since 1970.
            ended_ns: likewise.
            status: the HTTP status answered.
            about: attributes: model, version, rows.
        """
        carrier = {name.decode("latin-1"): headers[name].decode("latin-1") for name in _CONTEXT if name in headers}
        span = self._tracer.start_span(
            f"predict {about.get('noria.model', '')}",
            context=self._extract(carrier),
            kind=self._kind,
            attributes={**about, "http.response.status_code": status},
            start_time=began_ns,
        )
        if status >= 500:
            span.set_status(self._failed)
        span.end(ended_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


_CONTEXT = (b"traceparent", b"tracestate")
