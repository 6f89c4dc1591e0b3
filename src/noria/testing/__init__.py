"""For your own tests: a clock moved by hand, a loop played in a temporary store, and the contract suites."""

from __future__ import annotations

from noria.testing.clock import FakeClock
from noria.testing.play import Played, play

__all__ = ["FakeClock", "Played", "play"]
