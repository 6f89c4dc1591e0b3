"""Paths of artifacts: kept as they are, or refused; never repaired."""

from __future__ import annotations

import posixpath
import unicodedata
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.errors import RequestError
from noria.track.artifacts import clean_path

SIGNS = st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"], exclude_characters="/\\%\ufffd")
GOOD = st.text(SIGNS, min_size=1, max_size=20)
ODD = ["100%", "a%20b", "50%-off.txt", "report (1).pdf", "日本/語.txt", "a..b", "...", "v1.0"]


@given(st.text(st.sampled_from("ab./\\%2eEfF5cC0:\0\n \u202eé"), max_size=24), st.integers(0, 3))
def test_what_is_taken_stays_inside_however_it_is_escaped(text: str, times: int) -> None:
    for _ in range(times):
        text = quote(text, safe="")
    try:
        found = clean_path(text)
    except RequestError:
        return
    assert found == text
    for _ in range(20):
        assert not text.startswith("/")
        assert "\\" not in text
        assert ".." not in text.split("/")
        assert posixpath.normpath(text) == text
        assert not any(part[1:2] == ":" and part[0].isascii() and part[0].isalpha() for part in text.split("/"))
        assert not any(unicodedata.category(sign) == "Cc" for sign in text)
        text = unquote(text)


@given(st.lists(GOOD, min_size=1, max_size=4))
def test_ordinary_names_of_any_script_are_taken_as_they_are(parts: list[str]) -> None:
    path = "/".join(part for part in parts if part.strip() not in (".", "..") and part[1:2] != ":") or "x"
    assert clean_path(path) == path
    assert clean_path(f"{path}/", folder=True) == path


@pytest.mark.parametrize(
    "path", ["100%", "a%20b", "50%-off.txt", "report (1).pdf", "日本/語.txt", "a..b", "...", "v1.0"]
)
def test_names_that_only_look_odd_are_taken(path: str) -> None:
    assert clean_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "C:/x",
        "run/C:/x",
        "run/c:x",
        "a\u00adb",
        "a\u2066b",
        "a\u206ab",
        "a\ufff9b",
        "a\U000e0041b",
        "a\u2028b",
        "x/%43:/y",
    ],
)
def test_drives_and_signs_that_cannot_be_seen_are_refused_in_every_part(path: str) -> None:
    with pytest.raises(RequestError):
        clean_path(path)


@pytest.mark.parametrize("path", ["می\u200cخواهم.txt", "👩\u200d🔬.png", "t10:0.json", "at 12:30"])
def test_joiners_and_colons_that_are_no_drive_are_taken(path: str) -> None:
    assert clean_path(path) == path


def test_the_root_is_a_folder_and_no_file() -> None:
    assert clean_path("", folder=True) == ""
    assert clean_path("/", folder=True) == ""
    for path in ("", "/"):
        with pytest.raises(RequestError):
            clean_path(path)
