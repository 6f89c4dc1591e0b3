"""Identifiers sort as they were made."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from noria.core.ids import new_id


def test_identifiers_are_32_hexadecimal_characters_and_ascend() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


def test_threads_never_make_the_same_identifier() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_id(), range(10_000)))
    assert len({one[:16] for one in made}) == len(made)


def test_an_identifier_says_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = int(new_id()[:12], 16)
    assert before <= made <= time.time_ns() // 1_000_000 + 60_000


def test_identifiers_ascend_when_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert new_id() > first
