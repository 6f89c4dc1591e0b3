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
    """Makes one span a prediction.

    Args:
        provider: an OpenTelemetry tracer provider.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("noria.serve")
        self._extract = TraceContextTextMapPropagator().extract
        self._kind = SpanKind.SERVER

    def begin(self, headers: Mapping[bytes, bytes], model: str, rows: int) -> Span:
        """Begin what one request takes.

        Args:
            headers: by lower-case name; a ``traceparent`` among them is the span's parent.
            model: the model that is asked.
            rows: how many rows.
        """
        carrier = {name.decode("latin-1"): headers[name].decode("latin-1") for name in _CONTEXT if name in headers}
        about = {"noria.model": model, "noria.rows": rows}
        return Span(
            self._tracer.start_span(
                f"predict {model}", context=self._extract(carrier), kind=self._kind, attributes=about
            )
        )

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class Span:
    """What one request takes.

    Attributes:
        trace: its W3C trace id.
    """

    def __init__(self, span: Any) -> None:
        self._span = span
        self.trace = f"{span.get_span_context().trace_id:032x}"

    def end(self, status: int, version: int | None) -> None:
        """It is answered.

        Args:
            status: the HTTP status, or the one that the same answer would have over HTTP.
            version: the version that answered, if one did.
        """
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("http.response.status_code", status)
        if version is not None:
            self._span.set_attribute("noria.version", version)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


_CONTEXT = (b"traceparent", b"tracestate")
