"""What is being done, a line at a time: a spinner at a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console

__all__ = ["Steps"]

_WIDTH = 9


class Steps:
    """Shows the stages of a turn as they go.

    At a terminal the line being worked on spins and is replaced; in a log each change is a line.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._status = self.console.status("") if self.console.is_terminal else None
        self._stage = ""
        self._what = ""
        self._since = time.monotonic()

    def __enter__(self) -> Steps:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._status is not None:
            self._status.stop()

    def __call__(self, stage: str, what: str) -> None:
        """Show that ``stage`` is doing ``what``."""
        if stage != self._stage:
            self._close()
            self._stage, self._since = stage, time.monotonic()
        self._what = what
        if self._status is not None:
            self._status.update(f"[bold]{stage:<{_WIDTH}}[/bold] {_escape(what)}")
        else:
            self.console.print(f"{stage:<{_WIDTH}} {what}", markup=False)

    def _close(self) -> None:
        if self._stage and self._status is not None:
            seconds = time.monotonic() - self._since
            took = f" [dim]{seconds:.1f} s[/dim]" if seconds >= 0.5 else ""
            mark = "[red]✗[/red]" if self._stage == "failed" else "[green]✓[/green]"
            self.console.print(f"{mark} [bold]{self._stage:<{_WIDTH}}[/bold] {_escape(self._what)}{took}")
        self._stage = ""


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
