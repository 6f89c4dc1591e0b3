"""Labels that come with the source: a row seen in served traffic that the source now knows the truth of."""

from __future__ import annotations

from datetime import datetime

from noria.data.read import locate, read
from noria.data.sources import Csv, Parquet
from noria.loop.build import source_of
from noria.loop.load import LoadedLoop
from noria.loop.scoring import plain
from noria.store.ports import Label, Store

__all__ = ["SourceLabels"]


class SourceLabels:
    """Joins labels of a source file to predictions whenever the file has changed."""

    def __init__(self, loaded: LoadedLoop, store: Store) -> None:
        self._source = source_of(loaded.loop)
        self._name = loaded.loop.name
        self._folder = loaded.path.parent
        self._store = store
        self._seen: tuple[float, int] | None = None

    def collect(self, now: datetime) -> int:
        """Record the labels of served keys that have none yet; returns how many.

        Looks only at a file that has changed, or was not looked at before.

        Raises:
            DataError: the file cannot be read any more.
        """
        source = self._source
        if not isinstance(source, (Csv, Parquet)) or source.key is None or source.label is None:
            return 0
        status = locate(source, self._folder).stat()
        mark = (status.st_mtime, status.st_size)
        changed, self._seen = mark != self._seen, mark
        log = self._store.predictions
        if not changed or not log.predictions(self._name, limit=1):
            return 0
        frame = read(source, self._folder, lambda function: function())
        known = frame.filter(frame[source.label].is_not_null()).select(source.key, source.label)
        values = {str(key): plain(value) for key, value in known.iter_rows()}
        waiting = log.unlabelled(self._name, list(values))
        labels = [Label(loop=self._name, at=now, value=values[key], key=key) for key in values if key in waiting]
        for start in range(0, len(labels), 10_000):
            log.label(labels[start : start + 10_000])
        return len(labels)
