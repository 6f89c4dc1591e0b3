"""The web pages: what the store holds, drawn for people, each page with a ``.json`` twin.

Takes a store and a question (which view, which path, which query); returns bytes of HTML or JSON; promises
that nothing it is given becomes markup, and that it never writes. The server mounts it by name.
"""

from __future__ import annotations

from noria.ui.ask import Ask
from noria.ui.site import Site

__all__ = ["Ask", "Site"]
