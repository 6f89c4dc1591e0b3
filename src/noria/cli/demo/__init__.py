"""``noria demo``: a real model lives through 2020, beside the two ways people run models today."""

from __future__ import annotations

from noria.cli.demo.show import run

__all__ = ["run"]
