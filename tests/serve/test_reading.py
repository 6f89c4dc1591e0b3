"""What is read of a body and its headers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.errors import RequestError
from noria.serve.reading import compressed, json_of, kind_of
from noria.serve.refusals import UnknownKindError
from noria.serve.wire import Reply, Request

texts = st.text(st.sampled_from('NaInfity"\\{}[],: \n\u00e9'), max_size=12)
numbers = st.one_of(st.integers(-9, 9), st.sampled_from([math.nan, math.inf, -math.inf, 2.0**64]))
values = st.recursive(
    st.one_of(texts, numbers, st.none(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


@given(value=values, ascii_only=st.booleans())
def test_what_python_writes_is_read_and_its_nan_is_null(value: Any, ascii_only: bool) -> None:
    assert json_of(json.dumps(value, ensure_ascii=ascii_only).encode()) == without_nan(value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[NaN", "unexpected end of data"),
        (b"[NaNN]", "not JSON"),
        (b"[nan]", "not JSON"),
        (b'["NaN', "not JSON"),
        (b'["\\ud800", NaN]', "not JSON"),
        (b"[NaN, Infinity", "Expecting ',' delimiter"),
        (b"[1e999 1]", "Expecting ',' delimiter: line 1 column 8"),
        (b'[1e999, "\\ud800"]', "not JSON"),
        (b"[1e999, " + b"[" * 5000 + b"]" * 5001, "not JSON"),
        (b"\xff[NaN]", "UTF-8"),
    ],
)
def test_what_is_no_json_is_refused_with_nan_in_it_or_not(body: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        json_of(body)


@pytest.mark.parametrize("written", ["Infinity", "1e999", "1" * 400])
@pytest.mark.parametrize("sign", ["", "-"])
def test_what_is_too_large_is_infinite_and_what_stands_beside_it_as_ever(written: str, sign: str) -> None:
    beside = [2**53 + 1, 2**64 - 1, -(2**63), 2.0**64, "Infinity", None]
    assert json_of(f"[{sign}{written}, {json.dumps(beside)[1:]}".encode()) == [float(f"{sign}inf"), *beside]


def asked(path: str = "/predict/m", **headers: str) -> Request:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request("POST", path.encode(), b"", named, b"")


@pytest.mark.parametrize("parameters", ["", "; charset=utf-8", ';Charset="UTF-8"', "; charset=utf-8; header=present"])
def test_a_content_types_parameters_are_no_part_of_it(parameters: str) -> None:
    assert kind_of(asked(content_type=f"Text/CSV{parameters}")) == "text/csv"


@pytest.mark.parametrize("parameters", ["charset=latin-1", "header=present; charset=utf-16", 'charset="x"; a=b'])
def test_another_encoding_is_said_wherever_it_stands(parameters: str) -> None:
    with pytest.raises(UnknownKindError, match=r"UTF-8, not in '(latin-1|utf-16|x)'"):
        kind_of(asked(content_type=f"text/csv; {parameters}"))


@pytest.mark.parametrize(
    ("path", "packed"),
    [("/v2/models/m/infer", True), ("/predict/m", True), ("/v2/models/m", False), ("/v2/models/stats", False)],
)
def test_predictions_go_packed_and_what_is_said_of_models_does_not(path: str, packed: bool) -> None:
    reply = compressed(Reply(200, b"x" * 5000), asked(path, accept_encoding="gzip, deflate"))
    assert ((b"content-encoding", b"gzip") in reply.headers) is packed


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip;q=0.000, deflate", b"deflate"), ("gzip; q=0", None), ("GZIP;q=0.5", b"gzip"), ("br, *;q=0", None)],
)
def test_a_coding_that_is_not_wanted_is_not_taken(accepted: str, coding: bytes | None) -> None:
    reply = compressed(Reply(200, b"x" * 5000), asked(accept_encoding=accepted))
    assert dict(reply.headers).get(b"content-encoding") == coding
