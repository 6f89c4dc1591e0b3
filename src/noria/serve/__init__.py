"""Serving: a deployment becomes answers over HTTP, each recorded.

Takes deployments (which version takes which share); returns predictions; promises that every answer names the
version that gave it and is on record before it is given, that versions are swapped without a failed request, and that
user code runs in processes of its own, which are replaced when they die, hang or grow without end.
"""

from __future__ import annotations

from noria.serve.asgi import data_plane
from noria.serve.http import DataPlane
from noria.serve.plane import Plane
from noria.serve.process import WorkerProcess
from noria.serve.rules import choose

__all__ = ["DataPlane", "Plane", "WorkerProcess", "choose", "data_plane"]
