"""One name for one content."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.hashing import digest_bytes, digest_file, digest_json, is_digest


def test_a_digest_is_that_of_blake3() -> None:
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"  # of the published test vectors
    assert digest_bytes(b"") == f"blake3:{empty}"


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_equal_bytes_and_only_they_have_one_digest(one: bytes, other: bytes) -> None:
    assert (digest_bytes(one) == digest_bytes(other)) == (one == other)
    assert is_digest(digest_bytes(one))


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert digest_file(path) == digest_bytes(b"x" * size)


def test_equal_values_have_one_digest_whatever_the_order_of_keys() -> None:
    assert digest_json({"a": 1, "b": [1.5, None]}) == digest_json({"b": [1.5, None], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": "1"})


@pytest.mark.parametrize(
    "text",
    ["", "blake3:", "blake3:" + "a" * 63, "blake3:" + "a" * 65, "blake3:" + "A" * 64, "sha256:" + "a" * 64,
     "blake3:" + "a" * 64 + "\n", "../blake3:" + "a" * 64],
)  # fmt: skip
def test_what_is_no_digest_is_told(text: str) -> None:
    assert not is_digest(text)
