"""The language of searches, parsed: ``metrics.loss < 0.3 and params.depth = '8' and tags.team LIKE 'r%'``.

Clauses are ``entity.key operator value``, joined by AND. A key with other signs than letters, digits, ``_``, ``.``,
``-`` and ``/`` is quoted by back-ticks or double quotes; text by single or double quotes. A key without an entity is an
attribute. It is the language of MLflow's search (https://mlflow.org/docs/latest/search-runs), so that filters may be
taken along. Parsing takes time linear in the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from noria.core.nearest import suggest
from noria.errors import RequestError
from noria.records.tracking import Clause, Order

__all__ = ["TARGETS", "parse", "parse_order"]

MAX_TEXT = 200_000
MAX_CLAUSES = 100
MAX_LISTED = 10_000
MAX_PATTERN = 5_000
MAX_ORDER = 8

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:[+-]?[0-9]+(?:\.[0-9]*)?|(?:[+-]|(?<![\w`"'-]))\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | (?P<name>[^\W\d][\w\-/]*)
    | (?P<operator><=|>=|!=|<>|=|<|>)
    | (?P<mark>[.,()])
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<key>`[^`]*`)
    | (?P<word>[\w\-/]+)
    )""",
    re.VERBOSE,
)
_TEXT = frozenset(("=", "!=", "LIKE", "ILIKE"))
_LISTS = frozenset(("IN", "NOT IN"))
_NULLS = frozenset(("IS NULL", "IS NOT NULL"))
_NUMBERS = frozenset(("=", "!=", "<", "<=", ">", ">="))
_ENTITIES = {
    "attribute": "attribute", "attributes": "attribute", "attr": "attribute", "run": "attribute",
    "trace": "attribute", "model": "attribute",
    "metric": "metric", "metrics": "metric",
    "param": "param", "params": "param", "parameter": "param", "parameters": "param",
    "tag": "tag", "tags": "tag",
    "dataset": "dataset", "datasets": "dataset",
    "metadata": "metadata", "request_metadata": "metadata", "trace_metadata": "metadata",
    "feedback": "feedback", "expectation": "expectation", "span": "span",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """What can be asked of one kind of thing.

    Attributes:
        text: attributes that are text; ``numbers`` those that are numbers.
        entities: what has keys of its own, besides attributes.
        aliases: other names of attributes.
    """

    text: frozenset[str]
    numbers: frozenset[str] = frozenset()
    entities: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def attributes(self) -> frozenset[str]:
        """All attributes."""
        return self.text | self.numbers


TARGETS: Mapping[str, Target] = {
    "runs": Target(
        text=frozenset(("run_id", "run_name", "status", "user_id", "artifact_uri")),
        numbers=frozenset(("start_time", "end_time")),
        entities=frozenset(("metric", "param", "tag", "dataset")),
        aliases={
            "created": "start_time", "Created": "start_time", "run name": "run_name", "Run name": "run_name",
            "Run Name": "run_name", "name": "run_name", "id": "run_id", "run_uuid": "run_id",
        },
    ),
    "experiments": Target(
        text=frozenset(("name", "experiment_id")),
        numbers=frozenset(("creation_time", "last_update_time")),
        entities=frozenset(("tag",)),
    ),
    "models": Target(
        text=frozenset(("name",)),
        numbers=frozenset(("creation_timestamp", "last_updated_timestamp")),
        entities=frozenset(("tag",)),
        aliases={"timestamp": "last_updated_timestamp"},
    ),
    "versions": Target(
        text=frozenset(("name", "run_id", "source_path", "current_stage")),
        numbers=frozenset(("version_number", "creation_timestamp", "last_updated_timestamp")),
        entities=frozenset(("tag",)),
        aliases={"version": "version_number", "timestamp": "last_updated_timestamp"},
    ),
    "logged_models": Target(
        text=frozenset(("name", "model_id", "model_type", "status", "source_run_id", "experiment_id")),
        numbers=frozenset(("creation_timestamp", "last_updated_timestamp")),
        entities=frozenset(("metric", "param", "tag")),
        aliases={"creation_time": "creation_timestamp", "last_updated_time": "last_updated_timestamp"},
    ),
    "datasets": Target(
        text=frozenset(("name", "created_by", "last_updated_by")),
        numbers=frozenset(("created_time", "last_update_time")),
        entities=frozenset(("tag",)),
    ),
    "traces": Target(
        text=frozenset(
            ("request_id", "trace_id", "status", "name", "run_id", "client_request_id", "text", "experiment_id")
        ),
        numbers=frozenset(("timestamp_ms", "execution_time_ms")),
        entities=frozenset(("tag", "metadata", "feedback", "expectation", "span")),
        aliases={
            "timestamp": "timestamp_ms", "request_time": "timestamp_ms", "execution_time": "execution_time_ms",
            "execution_duration": "execution_time_ms", "execution_duration_ms": "execution_time_ms", "state": "status",
        },
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int


def _tokens(text: str, what: str) -> Iterator[_Token]:
    place = 0
    end = len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            shown = text[place : place + 40].strip()
            raise RequestError(f"Invalid {what}: it cannot be read from '{shown}' on (character {place + 1}).")
        kind = match.lastgroup or ""
        yield _Token(kind, match[kind], match.start(kind))
        place = match.end()


def _unquoted(token: _Token) -> str:
    mark = token.text[0]
    return token.text[1:-1] if mark == "`" else token.text[1:-1].replace(mark * 2, mark)


class _Parser:
    def __init__(self, text: str, target: str, what: str) -> None:
        if len(text) > MAX_TEXT:
            raise RequestError(f"Invalid {what}: it is longer than {MAX_TEXT} characters.")
        if "\0" in text:
            raise RequestError(f"Invalid {what}: it holds a NUL character.")
        self.text, self.what = text, what
        self.target, self.name = TARGETS[target], target
        self.tokens = list(_tokens(text, what))
        self.place = self.listed = 0

    def peek(self, ahead: int = 0) -> _Token | None:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else None

    def take(self) -> _Token:
        token = self.peek()
        if token is None:
            raise self.wrong("it ends too early")
        self.place += 1
        return token

    def wrong(self, why: str) -> RequestError:
        shown = self.text if len(self.text) <= 200 else self.text[:200] + "…"
        return RequestError(f"Invalid {self.what} '{shown}': {why}.")

    def word(self, *words: str) -> bool:
        """Take these words if they come next, in any case of letters."""
        for ahead, word in enumerate(words):
            token = self.peek(ahead)
            if token is None or token.kind != "name" or token.text.upper() != word:
                return False
        self.place += len(words)
        return True

    def identifier(self) -> tuple[str, str]:
        """``entity.key``, or a key alone."""
        first = self.take()
        if first.kind not in ("name", "key", "text"):
            raise self.wrong(f"Invalid clause(s) in filter string: a key was expected, found '{first.text[:40]}'")
        name = first.text if first.kind == "name" else _unquoted(first)
        dot = self.peek()
        entity = _ENTITIES.get(name.lower()) if first.kind == "name" else None
        if dot is None or dot.text != ".":
            return "attribute", self.attribute(name)
        if entity is None or (entity != "attribute" and entity not in self.target.entities):
            known = {"attributes", *(f"{e}s" for e in self.target.entities)}
            raise self.wrong(f"Invalid entity type '{name[:80]}'. {suggest(name, known)}")
        self.take()
        key = self.key()
        if entity == "attribute":
            key = self.attribute(key)
        elif entity == "dataset" and key not in ("name", "digest", "context"):
            raise self.wrong(f"Invalid dataset key '{key[:80]}'. There are: context, digest, name")
        return entity, key

    def key(self) -> str:
        token = self.take()
        if token.kind in ("key", "text"):
            return _unquoted(token)
        parts, end = [], token.start
        while (
            token.start == end
            and token.kind in ("name", "word", "number", "mark")
            and token.text not in (",", "(", ")")
        ):
            parts.append(token.text)
            end = token.start + len(token.text)
            following = self.peek()
            if following is None or following.start != end:
                break
            if following.kind not in ("name", "word", "number", "mark") or following.text in (",", "(", ")"):
                break
            token = self.take()
        if not parts:
            raise self.wrong(f"a key was expected, found '{token.text[:40]}'")
        return "".join(parts)

    def attribute(self, name: str) -> str:
        known = self.target.attributes
        found = self.target.aliases.get(name, name)
        if found not in known:
            raise self.wrong(f"Invalid attribute key '{name[:80]}'. {suggest(name, known)}")
        return found

    def clause(self) -> Clause:
        entity, key = self.identifier()
        operator = self.operator()
        numeric = entity == "metric" or (entity == "attribute" and key in self.target.numbers)
        listed = entity in ("attribute", "dataset") and not numeric
        allowed = _NUMBERS if numeric else _TEXT | _NULLS | (_LISTS if listed else frozenset())
        if entity in ("feedback", "expectation", "span", "metadata"):
            allowed = _TEXT | _NUMBERS | _NULLS
        if operator not in allowed:
            raise self.wrong(
                f"Invalid comparator '{operator}' for {entity} '{key[:80]}': not one of {', '.join(sorted(allowed))}"
            )
        if operator in _NULLS:
            return Clause(entity, key, operator, None)
        if operator in _LISTS:
            return Clause(entity, key, operator, self.listing())
        value = self.value(entity, key, numeric)
        if "LIKE" in operator and len(str(value)) > MAX_PATTERN:
            raise self.wrong(f"a pattern after {operator} takes at most {MAX_PATTERN} characters")
        return Clause(entity, key, operator, value)

    def operator(self) -> str:
        token = self.take()
        if token.kind == "operator":
            return "!=" if token.text == "<>" else token.text
        word = token.text.upper()
        if token.kind == "name":
            if word in ("LIKE", "ILIKE", "IN"):
                return word
            if word == "NOT" and self.word("IN"):
                return "NOT IN"
            if word == "IS":
                return (
                    "IS NOT NULL" if self.word("NOT", "NULL") else "IS NULL" if self.word("NULL") else self.bad(token)
                )
        return self.bad(token)

    def bad(self, token: _Token) -> str:
        raise self.wrong(f"Invalid clause(s) in filter string: a comparison was expected, found '{token.text[:40]}'")

    def value(self, entity: str, key: str, numeric: bool) -> str | float | int:
        token = self.take()
        if numeric:
            if token.kind != "number":
                raise self.wrong(
                    f"Expected numeric value type for {'numeric attribute' if entity == 'attribute' else entity} "
                    f"'{key[:80]}'. Found {token.text[:40]}"
                )
            return self.number(token)
        if token.kind != "text":
            raise self.wrong(
                f"Expected a quoted string value for {entity} '{key[:80]}' (e.g. 'my-value'). "
                f"Got value {token.text[:40]}"
            )
        return _unquoted(token)

    def number(self, token: _Token) -> float | int:
        try:
            found = int(token.text) if len(token.text) <= 20 else float(token.text)
        except ValueError:
            found = float(token.text)
        if isinstance(found, int) and abs(found) >= 2**63:
            found = float(found)
        if not math.isfinite(found):
            raise self.wrong(f"{token.text[:40]} is too large for a 64-bit float")
        return found

    def listing(self) -> tuple[str, ...]:
        if self.take().text != "(":
            raise self.wrong("Expected a list of quoted strings in parentheses after IN")
        found: list[str] = []
        while True:
            token = self.take()
            if token.kind != "text":
                raise self.wrong(f"Expected a quoted string value in the list after IN. Got {token.text[:40]}")
            found.append(_unquoted(token))
            mark = self.take()
            if mark.text == ")" and mark.kind == "mark":
                break
            if mark.text != ",":
                raise self.wrong(f"Expected a comma in the list after IN. Got {mark.text[:40]}")
        self.listed += len(found)
        if self.listed > MAX_LISTED:
            raise self.wrong(f"lists after IN hold at most {MAX_LISTED} values in all")
        return tuple(found)


def parse(text: str | None, target: str) -> list[Clause]:
    """The clauses of a filter; none for an empty one.

    Args:
        text: the filter.
        target: one of ``TARGETS``: what is searched.

    Raises:
        RequestError: it cannot be read; says where and what was expected.
    """
    if not text or not text.strip():
        return []
    parser = _Parser(text, target, "filter string")
    found = []
    while True:
        if parser.word("NOT"):
            raise parser.wrong("Invalid clause(s) in filter string: NOT is only known before IN")
        found.append(parser.clause())
        if len(found) > MAX_CLAUSES:
            raise parser.wrong(f"at most {MAX_CLAUSES} clauses are taken")
        token = parser.peek()
        if token is None:
            return found
        if not parser.word("AND"):
            raise parser.wrong(f"Invalid clause(s) in filter string: AND was expected, found '{token.text[:40]}'")


def parse_order(terms: Sequence[str], target: str) -> list[Order]:
    """The terms of an order, each ``entity.key [ASC|DESC]``; a term named before is left out.

    Raises:
        RequestError: a term cannot be read.
    """
    if len(terms) > MAX_ORDER:
        raise RequestError(f"Invalid order_by clause: at most {MAX_ORDER} terms are taken.")
    found: list[Order] = []
    for text in terms:
        parser = _Parser(text, target, "order_by clause")
        if parser.peek() is None:
            raise parser.wrong("it is empty")
        entity, key = parser.identifier()
        if entity == "dataset":
            raise parser.wrong("Invalid entity type 'dataset': runs are not ordered by datasets")
        descending = parser.word("DESC")
        if not descending:
            parser.word("ASC")
        if parser.peek() is not None:
            raise parser.wrong("Valid ordering is `key`, `key ASC` or `key DESC`")
        if not any(term.entity == entity and term.key == key for term in found):
            found.append(Order(entity, key, descending))
    return found
