"""Run by a Python with the real tensorboard and tensorboardX: writes event files."""

from __future__ import annotations

import math
import sys


def write_plain(folder: str) -> None:
    """As tensorboardX and PyTorch write."""
    import numpy
    from tensorboardX import SummaryWriter

    with SummaryWriter(f"{folder}/runs/a") as writer:
        for step in range(300):
            writer.add_scalar("train/loss", 1 / (step + 1), step, walltime=1_600_000_000.125 + step)
        for step, value in ((-3, math.nan), (0, math.inf), (5, -math.inf), (2**40, 1e-30)):
            writer.add_scalar("odd nan", value, step, walltime=1_600_000_000.5)
        writer.add_text("notes", "grüße **fett**", 7, walltime=1_600_000_002)
        writer.add_image("picture", numpy.zeros((3, 4, 5), dtype="uint8"), 2, walltime=1_600_000_003)


def write_two(folder: str) -> None:
    """As TensorFlow 2 and Keras write: values in tensors."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT, DT_INT64
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(f"{folder}/b")
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    tensors = (
        TensorProto(dtype=DT_FLOAT, float_val=[0.5]),
        TensorProto(dtype=DT_DOUBLE, double_val=[0.1]),
        TensorProto(dtype=DT_INT64, int64_val=[-7]),
        make_tensor_proto(2.25, dtype=DT_FLOAT),
        TensorProto(dtype=DT_DOUBLE, tensor_content=b"\x00\x00\x00\x00\x00\x00\xf8\x3f"),
    )
    for step, tensor in enumerate(tensors):
        value = Summary.Value(tag="epoch_loss", tensor=tensor, metadata=metadata)
        writer.add_event(Event(wall_time=1_600_000_000 + step, step=step, summary=Summary(value=[value])))
    value = Summary.Value(tag="big (%)", simple_value=3.0)
    writer.add_event(Event(wall_time=1_600_000_001, step=1, summary=Summary(value=[value])))
    session = plugin_data_pb2.SessionStartInfo(start_time_secs=1_600_000_000)
    session.hparams["lr"].number_value = 0.1
    session.hparams["units"].number_value = 16
    session.hparams["name"].string_value = "ä"
    session.hparams["on"].bool_value = True
    content = plugin_data_pb2.HParamsPluginData(session_start_info=session).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    start = Summary.Value(tag="_hparams_/session_start_info", metadata=SummaryMetadata(plugin_data=plugin))
    writer.add_event(Event(wall_time=1_600_000_000, summary=Summary(value=[start])))
    writer.close()


def grow(folder: str, count: str) -> None:
    """Append to one file, flushed."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(f"{folder}/live", flush_secs=1)
    for step in range(int(count)):
        writer.add_scalar("m", step * 0.5, step, walltime=1_600_000_000 + step)
    writer.close()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
