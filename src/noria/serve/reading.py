"""What is read of a request: method, version, deadline, body, each within its limit or refused."""

from __future__ import annotations

import json
import re
import time
import zlib
from typing import Any
from urllib.parse import parse_qs

import orjson

from noria.errors import NotFound, RequestError
from noria.serve.refusals import TooLargeError, UnknownKindError, WrongMethodError
from noria.serve.wire import Reply, Request

__all__ = [
    "LARGE_BYTES",
    "MAX_BODY_BYTES",
    "MAX_RECORDS",
    "MAX_ROWS",
    "compressed",
    "deadline_of",
    "entries_of",
    "inflated",
    "json_of",
    "kind_of",
    "need",
    "need_json",
    "query",
    "records_of",
    "version_of",
]

MAX_BODY_BYTES = 64 * 2**20
LARGE_BYTES = 2**20
"""Size from which a body is read in a thread, as nobody else is to wait for it."""
MAX_RECORDS = 10_000
MAX_ROWS = 1_000_000
_FORM = "application/x-www-form-urlencoded"  # what curl -d says of any text
_COMPRESSED = 1024
# What stands before the next NaN or Infinity outside texts, and which it is; or all the rest where there is another N
# or I, as no JSON has. Nothing is looked at twice. (Before 3.11.5 `re` erred where such a group failed midway.)
_NOT_FINITE = re.compile(rb'((?:[^"NI]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+)(NaN|Infinity|[NI].*)?', re.DOTALL)
_AS_JSON = {b"NaN": b"null", b"Infinity": b"1e999"}
_TOO_LARGE = "number is infinity"  # as orjson says it


def kind_of(request: Request) -> str:
    """The body's content type, in lower case and without its parameters.

    Raises:
        UnknownKindError: it is text that is not UTF-8.
    """
    text = request.headers.get(b"content-type", b"application/json").decode("latin-1")
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        charset = value.strip().strip('"')
        if name.rstrip() == "charset" and charset not in ("utf-8", "utf8", "us-ascii", "ascii"):
            raise UnknownKindError(f"The body must be in UTF-8, not in '{charset[:40]}'.")
    return kind


def need_json(kind: str, *others: str) -> None:
    """Refuse a content type that is not JSON's; none at all is taken for JSON, and so is what ``curl -d`` says.

    Args:
        kind: as `kind_of` has it.
        others: what is taken here beside JSON, for the refusal to name.

    Raises:
        UnknownKindError: says what is taken.
    """
    if kind not in ("", _FORM) and not kind.endswith(("/json", "+json")):
        taken = " or ".join([", ".join(("application/json", *others[:-1])), *others[-1:]])
        raise UnknownKindError(f"The content type must be {taken}, not '{kind[:80]}'.")


def deadline_of(request: Request) -> float | None:
    """``time.monotonic()`` by which a request must have begun, if it says so."""
    limit = request.headers.get(b"x-request-timeout-ms")
    if limit is None:
        return None
    if not limit.isdigit() or len(limit) > 9:
        raise RequestError("X-Request-Timeout-Ms must be a whole number of milliseconds.")
    return time.monotonic() + int(limit) / 1000 - request.waited


def need(request: Request, wanted: str) -> None:
    """Refuse another method than the one wanted; HEAD is as good as GET.

    Raises:
        WrongMethodError: says which.
    """
    if request.method != wanted and not (wanted == "GET" and request.method == "HEAD"):
        raise WrongMethodError(request.method, wanted)


def query(request: Request, name: str) -> str | None:
    """The first value of a parameter of the query; None if there is none."""
    if not request.query:
        return None
    found = parse_qs(request.query.decode("latin-1"), keep_blank_values=True).get(name)
    return found[0] if found else None


def version_of(text: str | None) -> int | None:
    """A version number as it stands in an address.

    Raises:
        NotFound: it is none.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(f"'{text[:80]}' is not a version number.")
    return int(text)


def json_of(body: bytes, named: str = "The body") -> Any:
    """A body's JSON.

    NaN, which JSON has not and Python's clients write, is null. Infinity, and numbers as large, are infinite: no field
    takes them, and what checks fields can name record and field.

    Raises:
        RequestError: it is none.
    """
    problem: json.JSONDecodeError
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        problem = error
    if 0 < body.count(b"NaN") + body.count(b"Infinity") <= MAX_ROWS:  # each takes a microsecond
        body = _NOT_FINITE.sub(lambda found: found[1] + _AS_JSON.get(found[2], found[2] or b""), body)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            problem = error
    if _TOO_LARGE in problem.msg:
        try:
            found = json.loads(body, parse_int=_whole)
            orjson.dumps(found)  # which refuses texts that are not Unicode, as Python does not
        except json.JSONDecodeError as error:
            problem = error
        except (ValueError, TypeError, RecursionError):
            pass
        else:
            return found
    raise RequestError(f"{named} is not JSON: {problem}.")


def _whole(digits: str) -> int | float:
    """A whole number as orjson reads it: one of more than 64 bits is a float."""
    found = int(digits) if len(digits) <= 20 else 2**64
    return found if -(2**63) <= found < 2**64 else float(digits)


def entries_of(body: bytes, name: str, example: str) -> list[Any]:
    """Entries of a body: ``{name: [...]}``, a list, or one object."""
    found = json_of(body)
    if isinstance(found, dict):
        found = found[name] if isinstance(found.get(name), list) else [found]
    if not isinstance(found, list) or not found:
        raise RequestError(f'The body must be {{"{name}": [{example}, …]}}.')
    if len(found) > MAX_RECORDS:
        raise TooLargeError(f"{len(found)} {name} in one request; at most {MAX_RECORDS}.")
    return found


def records_of(found: Any) -> list[dict[str, Any]]:
    """Records of a body: ``{"records": [...]}``, a list of records, or one record."""
    if isinstance(found, dict):
        found = found["records"] if isinstance(found.get("records"), list) else [found]
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise RequestError('The body must be {"records": [{…}, …]}, a list of records, or one record.')
    if not found:
        raise RequestError("There are no records to predict.")
    if len(found) > MAX_RECORDS:
        raise TooLargeError(f"{len(found)} records in one request; at most {MAX_RECORDS}.")
    return found


def inflated(body: bytes, coding: bytes) -> bytes:
    """A compressed body, unpacked, up to the limit.

    Raises:
        UnknownKindError: it is neither gzip nor deflate.
        TooLargeError: it unpacks to more than a body may have.
        RequestError: it is damaged.
    """
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name == b"x-gzip":  # the same (RFC 9110, 8.4.1.3)
        name = b"gzip"
    if name not in (b"gzip", b"deflate"):
        raise UnknownKindError(f"The content coding must be gzip or deflate, not '{name.decode('latin-1')[:40]}'.")
    if name == b"gzip":
        bits = 31
    else:  # zlib's format, as the standard says; some send the bare stream
        bits = 15 if len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0 else -15
    unpacker = zlib.decompressobj(bits)
    try:
        found = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise RequestError(f"The body is not valid {name.decode()}: {error}.") from None
    if len(found) > MAX_BODY_BYTES:
        raise TooLargeError(f"The body unpacks to more than {MAX_BODY_BYTES // 2**20} MB; send smaller batches.")
    if not unpacker.eof or unpacker.unused_data:
        raise RequestError(f"The body is not valid {name.decode()}: it is cut off, or something follows it.")
    return found


def compressed(reply: Reply, request: Request) -> Reply:
    """The reply as the client can take it shorter, if it asked and it is worth it.

    What V2 says of models goes as it is: ``tritonclient.http.aio`` asks for it packed and unpacks predictions only.
    """
    accepted = request.headers.get(b"accept-encoding")
    if accepted is None or len(reply.body) < _COMPRESSED or reply.status != 200:
        return reply
    if request.path.startswith(b"/v2/") and not request.path.endswith(b"/infer"):
        return reply
    for choice in accepted.lower().split(b","):
        name, _, weight = choice.strip().partition(b";")
        if name in (b"gzip", b"deflate") and weight.strip().rstrip(b"0.") != b"q=":
            packer = zlib.compressobj(1, zlib.DEFLATED, 31 if name == b"gzip" else 15)
            body = packer.compress(reply.body) + packer.flush()
            return Reply(200, body, reply.kind, (*reply.headers, (b"content-encoding", name)))
    return reply
