"""Serving: a deployment becomes answers over HTTP, each recorded.

Takes deployments (which version takes which share); returns predictions; promises that every answer names the
version that gave it, that versions are swapped without a failed request, and that user code runs in processes
of its own, which are restarted when they die.
"""

from __future__ import annotations

from noria.serve.http import data_plane
from noria.serve.plane import Answer, Plane
from noria.serve.process import WorkerProcess
from noria.serve.rules import choose

__all__ = ["Answer", "Plane", "WorkerProcess", "choose", "data_plane"]
