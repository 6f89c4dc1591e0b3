"""Registry: a passed validation report becomes a version; aliases and decisions say which version serves.

Takes a run and its report; returns a ModelVersion; promises dense versions 1..n, one champion a loop, and
that a version whose report did not pass or that awaits a person's yes is never made champion.
"""

from __future__ import annotations

from noria.register.decide import decide
from noria.register.versions import alias, champion, move, promote, register, version

__all__ = ["alias", "champion", "decide", "move", "promote", "register", "version"]
