"""TensorBoard's event files: read into runs, live if asked, and written from runs.

Takes a folder of event files and a store; promises that what is read keeps its steps and values, and its times to the
millisecond. What is written has values of 32 bits, as TensorBoard reads them. Needs neither TensorBoard nor TensorFlow.
"""

from __future__ import annotations

from noria.compat.tensorboard.export import export_events
from noria.compat.tensorboard.import_ import import_events

__all__ = ["export_events", "import_events"]
