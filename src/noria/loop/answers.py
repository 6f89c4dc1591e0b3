"""What challenger and champion answered since a canary began, each row read once: latencies, agreement, losses."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np

from noria.monitor.losses import row_losses
from noria.records import BundleManifest
from noria.store.ports import LabelledPrediction, Prediction, PredictionLog

__all__ = ["Answers", "agrees"]

_PAGE = 20_000
_PAGES = 10  # read in one look; what is left is read in the next
_LATENCIES = 10_000  # newest single-row requests of a route that count
_PAIRS = 100_000  # newest shadow answers that wait for their label
_TOLERANCE = 0.01
"""Two numbers agree when they differ by no more than this share of the larger."""

Row = tuple[int, Prediction]


def agrees(task: str, given: Any, shadow: Any) -> bool:
    """Whether a shadow's answer is the one that was given: classes exactly, numbers within 1 % of the larger."""
    if given == shadow:
        return True
    if task != "regression" or not isinstance(given, (int, float)) or not isinstance(shadow, (int, float)):
        return False
    return abs(given - shadow) <= _TOLERANCE * max(abs(given), abs(shadow))


class Answers:
    """Reads the prediction log from the moment a canary began, further with each look.

    Args:
        log: the prediction log.
        manifest: the champion's; losses are the same for both.
        challenger: the challenger's version number.
        began: when the canary began.
    """

    def __init__(self, log: PredictionLog, manifest: BundleManifest, challenger: int, began: datetime) -> None:
        self._log = log
        self._manifest = manifest
        self._challenger = challenger
        self._began = began
        self._after: int | None = None
        self._latencies: dict[tuple[int, str], deque[float]] = {}
        self._open: dict[tuple[int, str], tuple[datetime, int, int]] = {}  # the last request seen: when, µs, rows
        self._shadows: OrderedDict[str, tuple[Any, list[float] | None]] = OrderedDict()
        self.compared = 0
        self.agreed = 0

    def read(self) -> None:
        """Take in what came since the last look."""
        # A log keeps a shadow's rows apart from the others where it can: they come by `rows`.
        rows: Callable[..., list[Row]] = getattr(self._log, "rows", self._log.predictions)
        loop = self._manifest.loop
        if self._after is None:
            self._after = _first_since(rows, loop, self._began)
        for _ in range(_PAGES):
            found = rows(loop, after=self._after, limit=_PAGE)
            for sequence, one in found:
                self._after = max(self._after, sequence)
                if one.at >= self._began and one.error is None:
                    self._take(one)
            if len(found) < _PAGE:
                break

    def latencies_ms(self, version: int, role: str) -> list[float]:
        """Latencies of single-row requests answered by a version in a role, the newest ten thousand."""
        found = list(self._latencies.get((version, role), ()))
        open_request = self._open.get((version, role))
        return [*found, open_request[1] / 1000] if open_request is not None and open_request[2] == 1 else found

    def _take(self, one: Prediction) -> None:
        # Rows of one request stand together and share its time and latency: the next one's tell where it ended.
        route = (one.version, one.role)
        at, latency, count = self._open.get(route, (one.at, -1, 0))
        if (at, latency) == (one.at, one.latency_us):
            self._open[route] = (at, latency, count + 1)
        else:
            if count == 1:
                self._latencies.setdefault(route, deque(maxlen=_LATENCIES)).append(latency / 1000)
            self._open[route] = (one.at, one.latency_us, 1)
        if one.role != "shadow" or one.version != self._challenger:
            return
        given = getattr(one, "answered", None)
        if given is not None:
            self.compared += 1
            self.agreed += agrees(self._manifest.signature.task, given, one.value)
        if one.key is not None:
            self._shadows[one.key] = (one.value, one.probabilities)
            self._shadows.move_to_end(one.key)
            if len(self._shadows) > _PAIRS:
                self._shadows.popitem(last=False)

    # losses

    def losses(self, champion: int) -> dict[str, dict[str, float] | None]:
        """Losses of both on labelled rows since the canary began.

        The challenger's are those of rows it answered, and of what it said as a shadow where the answer that was
        given has a key and a label.
        """
        ours, theirs = self._labelled(self._challenger), self._labelled(champion)
        answers = [(one.value, one.prediction.value, one.prediction.probabilities) for one in ours]
        for one in theirs:
            said = self._shadows.get(one.prediction.key) if one.prediction.key is not None else None
            if said is not None:
                answers.append((one.value, *said))
        return {
            "challenger": self._summary(answers),
            "champion": self._summary(
                [(one.value, one.prediction.value, one.prediction.probabilities) for one in theirs]
            ),
        }

    def _labelled(self, number: int) -> list[LabelledPrediction]:
        found = self._log.labelled(self._manifest.loop, version=number, since=self._began, limit=None)
        return [one for one in found if one.prediction.at >= self._began and one.prediction.role != "shadow"]

    def _summary(self, rows: list[tuple[Any, Any, list[float] | None]]) -> dict[str, float] | None:
        if len(rows) < 2:
            return None
        signature = self._manifest.signature
        probabilities = [shares for _, _, shares in rows]
        shares = np.asarray(probabilities) if all(p is not None for p in probabilities) else None
        losses = row_losses(
            signature.task,
            signature.classes,
            [label for label, _, _ in rows],
            np.asarray([value for _, value, _ in rows]),
            shares,
            self._manifest.reference.get("cap"),
        )
        found = {"n": float(losses.size), "mean": float(losses.mean()), "variance": float(losses.var(ddof=1))}
        return found if all(np.isfinite(list(found.values()))) else None


def _first_since(rows: Callable[..., list[Row]], loop: str, began: datetime) -> int:
    """A place in the order of arrival just before the first row since a moment: halving, not reading all of it."""

    def before(place: int) -> bool:
        """Whether what comes just after this place is older."""
        found = rows(loop, after=place, limit=1)
        return bool(found) and found[0][1].at < began

    if not before(0):
        return 0
    low, high = 0, 1
    while before(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if before(middle) else (low, middle)
    return low
