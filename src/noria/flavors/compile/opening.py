"""A compiled graph, opened by whoever answers with it: a server, or the model's own process."""

from __future__ import annotations

from typing import Any

from noria.errors import ModelError

__all__ = ["open_graph"]


def open_graph(graph: bytes) -> Any:
    """An ONNX Runtime session of a graph, on one thread, that keeps no memory between calls.

    Raises:
        ModelError: ONNX Runtime is not there or cannot read the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("ONNX Runtime is not installed: pip install onnxruntime.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"The compiled graph cannot be read: {str(error)[:300]}") from error
