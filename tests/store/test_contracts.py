"""The contract suites on the back-ends that ship: SQLite and folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from noria.store.files import FolderBlobs
from noria.store.ports import Blobs, Ledger, PredictionLog
from noria.store.sqlite import open_ledger, open_predictions
from noria.testing.contracts import BlobsContract, LedgerContract, PredictionLogContract


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], Ledger]:
        return lambda: open_ledger(tmp_path / "ledger.db")


class TestFolderBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Blobs:
        return FolderBlobs(tmp_path / "blobs")


class TestSqlitePredictionLog(PredictionLogContract):
    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[PredictionLog]:
        with closing(open_predictions(tmp_path / "predictions")) as found:
            yield found
