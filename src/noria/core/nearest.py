"""The name a person probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["find_nearest", "suggest"]


def find_nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to ``name`` (upper and lower case taken alike), or None if none is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def suggest(name: str, known: Iterable[str], limit: int = 12) -> str:
    """A sentence that helps: the nearest name, else what names there are, else nothing."""
    names = sorted(set(known))
    near = find_nearest(name, names)
    if near is not None:
        return f'Did you mean "{near}"?'
    if not names:
        return ""
    listed = ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
    return f"There are: {listed}."
