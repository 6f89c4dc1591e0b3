"""A search of runs as SQL: which table to walk, in which order, so that a page costs about what it holds.

Names and values of a client only ever become bound values; the text of a statement is made of the words below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from noria.records.tracking import Clause, Order
from noria.store.sql.database import Connection

__all__ = ["Found", "find_runs"]

_COLUMNS = {
    "run_id": "r.id",
    "run_name": "r.name",
    "status": "r.status",
    "user_id": "r.user_name",
    "artifact_uri": "r.artifacts",
    "start_time": "r.started",
    "end_time": "r.ended",
}
_COMPARE = frozenset(("=", "!=", "<", "<=", ">", ">="))
_TABLES = {"param": "params", "tag": "tags"}
_FEW = 1000  # a clause that so few rows meet is walked instead of the order
_EACH = 16  # so many experiments are searched one by one, each along its own index

Found = tuple[int, list[Any]]
"""A run's number, and its place in the order."""


@dataclass
class _Sql:
    """A statement in the making."""

    select: list[str] = field(default_factory=list)
    tables: str = "runs r"
    joins: list[str] = field(default_factory=list)
    join_values: list[Any] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    order: list[tuple[str, bool]] = field(default_factory=list)

    def need(self, condition: str, *values: Any) -> None:
        self.where.append(condition)
        self.values.extend(values)

    def run(self, connection: Connection, limit: int) -> list[Found]:
        keys = [expression for expression, _ in self.order]
        terms = ", ".join(f"{expression}{' DESC' if down else ''}" for expression, down in self.order)
        sql = (
            f"SELECT {', '.join(['r.number', *keys])} FROM {self.tables}{''.join(self.joins)} "
            f"WHERE {' AND '.join(self.where)} ORDER BY {terms} LIMIT ?"
        )
        rows = connection.execute(sql, [*self.join_values, *self.values, limit]).fetchall()
        return [(row[0], list(row[1:])) for row in rows]


def find_runs(
    connection: Connection,
    dialect: str,
    experiments: Sequence[int],
    clauses: Sequence[Clause],
    order: Sequence[Order],
    stages: Sequence[str],
    limit: int,
    after: Sequence[Any] | None,
) -> list[Found]:
    """At most ``limit`` runs from just after the place ``after``, in order."""
    if not experiments or not stages:
        return []
    wanted = sorted(set(experiments))
    groups = [[one] for one in wanted] if len(wanted) <= _EACH else [wanted]
    search = _Search(connection, dialect, tuple(clauses), tuple(order), tuple(stages), limit, after)
    if len(groups) == 1:
        return search.among(groups[0])
    found = [row for group in groups for row in search.among(group)]
    found.sort(key=lambda row: search.sort_key(row[1]))
    return found[:limit]


class _Backward(str):
    """Text that sorts from the end."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)

    def __gt__(self, other: str) -> bool:
        return str.__lt__(self, other)


@dataclass
class _Search:
    connection: Connection
    dialect: str
    clauses: tuple[Clause, ...]
    order: tuple[Order, ...]
    stages: tuple[str, ...]
    limit: int
    after: Sequence[Any] | None

    def directions(self) -> list[bool]:
        """Whether each part of a place descends: two parts a term (rank, value), then start and id."""
        return [down for term in self.order for down in (False, term.descending)] + [True, False]

    def sort_key(self, place: Sequence[Any]) -> tuple[Any, ...]:
        def part(value: Any, down: bool) -> Any:
            if value is None or not down:
                return 0 if value is None else value
            return _Backward(value) if isinstance(value, str) else -value

        return tuple(part(value, down) for value, down in zip(place, self.directions(), strict=True))

    def among(self, experiments: Sequence[int]) -> list[Found]:
        one = experiments[0] if len(experiments) == 1 else None
        few = self._few(one) if one is not None else None
        lead = self.order[0] if self.order else None
        if few is None and one is not None and lead is not None and lead.entity == "metric":
            return self._walk_metric(one, lead)
        sql = _Sql()
        if few is not None and one is not None:
            self._drive(sql, one, few)
        return self._plain(sql, experiments, skip=few).run(self.connection, self.limit)

    def _plain(self, sql: _Sql, experiments: Sequence[int], skip: Clause | None = None) -> _Sql:
        """The whole search as one statement over runs, whatever it walks."""
        sql.need(f"r.experiment IN ({_marks(experiments)})", *experiments)
        self._stages(sql)
        for clause in self.clauses:
            if clause is not skip:
                self._need(sql, clause)
        for number, term in enumerate(self.order):
            self._term(sql, number, term)
        self._end(sql)
        self._after(sql)
        return sql

    def _stages(self, sql: _Sql) -> None:
        sql.need(f"r.stage IN ({_marks(self.stages)})", *self.stages)

    @staticmethod
    def _end(sql: _Sql) -> None:
        sql.order += [("r.started", True), ("r.id", False)]

    # -- walking one metric's index

    def _walk_metric(self, experiment: int, lead: Order) -> list[Found]:
        """Numbers along the index, then NaN, then runs without the metric: each only if the page is not full."""
        start = int(self.after[0]) if self.after is not None else 0
        last = 0 if any(_names(clause, lead) and clause.operator in _COMPARE for clause in self.clauses) else 2
        found: list[Found] = []
        for rank in range(start, last + 1):
            if len(found) >= self.limit:
                break
            sql = _Sql()
            if rank < 2:
                sql.tables = "latest o0 CROSS JOIN runs r"
                sql.need(
                    "o0.experiment = ? AND o0.key = ? AND o0.nan = ? AND r.number = o0.run", experiment, lead.key, rank
                )
            else:
                sql.need("r.experiment = ?", experiment)
                sql.need("NOT EXISTS (SELECT 1 FROM latest x WHERE x.run = r.number AND x.key = ?)", lead.key)
            self._stages(sql)
            for clause in self.clauses:
                if rank == 0 and _names(clause, lead) and clause.operator in _COMPARE:
                    sql.need(f"o0.value {clause.operator} ?", clause.value)
                else:
                    self._need(sql, clause)
            value = "o0.value" if rank == 0 else "NULL"
            # a constant in ORDER BY would stop the index from giving the order
            terms = [("o0.value", lead.descending)] if rank == 0 else []
            sql.order = terms
            for number, term in enumerate(self.order[1:], start=1):
                self._term(sql, number, term)
            self._end(sql)
            if self.after is not None and rank == start:
                self._keyset(sql, list(self.after[1:] if rank == 0 else self.after[2:]), [d for _, d in sql.order])
            rows = sql.run(self.connection, self.limit - len(found))
            found += [(number, [rank, *place] if value != "NULL" else [rank, None, *place]) for number, place in rows]
        return found

    # -- driving by a clause that few rows meet

    def _few(self, experiment: int) -> Clause | None:
        best, least = None, _FEW + 1
        for clause in self.clauses:
            condition = self._indexed(experiment, clause, "d")
            if condition is None:
                continue
            table, where, values = condition
            (count,) = self.connection.execute(
                f"SELECT count(*) FROM (SELECT 1 FROM {table} d WHERE {where} LIMIT {least}) AS met", values
            ).fetchone()
            if count < least:
                best, least = clause, count
            if not least:
                break
        return best

    @staticmethod
    def _indexed(experiment: int, clause: Clause, name: str) -> tuple[str, str, list[Any]] | None:
        """The rows that meet a clause, by an index; None where there is none for it."""
        head = f"{name}.experiment = ? AND {name}.key = ?"
        if clause.entity in _TABLES and clause.operator == "=":
            start = str(clause.value)[
                :64
            ]  # the index holds no more: a value may be longer than a database allows there
            # a bare `value = ?` would have SQLite put the constant into substr() and so pass over the index
            where = f"{head} AND substr({name}.value, 1, 64) = ? AND {name}.value || '' = ?"
            return _TABLES[clause.entity], where, [experiment, clause.key, start, clause.value]
        if clause.entity == "metric" and clause.operator in _COMPARE and clause.operator != "!=":
            where = f"{head} AND {name}.nan = 0 AND {name}.value {clause.operator} ?"
            return "latest", where, [experiment, clause.key, clause.value]
        return None

    def _drive(self, sql: _Sql, experiment: int, clause: Clause) -> None:
        found = self._indexed(experiment, clause, "d")
        assert found is not None
        table, where, values = found
        sql.tables = f"{table} d CROSS JOIN runs r"
        sql.need(f"{where} AND r.number = d.run", *values)

    # -- one clause, one term

    def _need(self, sql: _Sql, clause: Clause) -> None:
        entity, key = clause.entity, clause.key
        if entity == "attribute":
            condition, values = self._compare(_COLUMNS[key], clause)
            sql.need(condition, *values)
        elif entity == "dataset":
            column = "i.context" if key == "context" else f"s.{'digest' if key == 'digest' else 'name'}"
            condition, values = self._compare(column, clause)
            sql.need(
                "EXISTS (SELECT 1 FROM inputs i JOIN datasets s ON s.number = i.dataset "
                f"WHERE i.run = r.number AND {condition})",
                *values,
            )
        else:
            table = "latest" if entity == "metric" else _TABLES[entity]
            head = f"EXISTS (SELECT 1 FROM {table} x WHERE x.run = r.number AND x.key = ?"
            if clause.operator == "IS NULL":
                sql.need(f"NOT {head})", key)
            elif clause.operator == "IS NOT NULL":
                sql.need(f"{head})", key)
            else:
                condition, values = self._compare("x.value", clause)
                number = " AND x.nan = 0" if entity == "metric" else ""
                sql.need(f"{head}{number} AND {condition})", key, *values)

    def _compare(self, column: str, clause: Clause) -> tuple[str, list[Any]]:
        operator, value = clause.operator, clause.value
        if operator in _COMPARE:
            return f"{column} {operator} ?", [value]
        if operator in ("IN", "NOT IN"):
            assert isinstance(value, tuple)
            return f"{column} {operator} ({_marks(value)})", list(value)
        if operator in ("IS NULL", "IS NOT NULL"):
            return f"{column} {operator}", []
        assert isinstance(value, str)
        if self.dialect == "postgresql":
            return f"{column} {operator} ? ESCAPE ''", [value]
        if operator == "ILIKE":
            return f"{column} LIKE ?", [value]
        return f"{column} GLOB ?", [_glob(value)]

    def _term(self, sql: _Sql, number: int, term: Order) -> None:
        """Two keys a term: a rank (0 a value, 1 NaN, 2 absent), and the value."""
        if term.entity == "attribute":
            column = _COLUMNS[term.key]
            sql.order += [(f"CASE WHEN {column} IS NULL THEN 2 ELSE 0 END", False), (column, term.descending)]
            return
        name = f"o{number}"
        if term.entity == "metric":
            rank = f"CASE WHEN {name}.nan IS NULL THEN 2 ELSE {name}.nan END"
            table = "latest"
        else:
            rank = f"CASE WHEN {name}.value IS NULL THEN 2 ELSE 0 END"
            table = _TABLES[term.entity]
        sql.joins.append(f" LEFT JOIN {table} {name} ON {name}.run = r.number AND {name}.key = ?")
        sql.join_values.append(term.key)
        sql.order += [(rank, False), (f"{name}.value", term.descending)]

    # -- pages

    def _after(self, sql: _Sql) -> None:
        if self.after is not None:
            self._keyset(sql, list(self.after), [down for _, down in sql.order])

    @staticmethod
    def _keyset(sql: _Sql, place: list[Any], directions: list[bool]) -> None:
        """Only what comes after a place: further in the first key, or equal there and further in the next."""
        condition, values = "", []
        for (expression, _), value, down in reversed(list(zip(sql.order, place, directions, strict=True))):
            if value is None:  # absent values of a term are equal; their rank has told them apart
                continue
            sign = "<" if down else ">"
            if not condition:
                condition, values = f"{expression} {sign} ?", [value]
            else:
                # the first half bounds the index, the second breaks the tie; SQLite reads only so many brackets
                condition = f"{expression} {sign}= ? AND ({expression} {sign} ? OR {condition})"
                values = [value, value, *values]
        sql.need(condition, *values)


def _names(clause: Clause, term: Order) -> bool:
    return clause.entity == term.entity and clause.key == term.key


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _glob(pattern: str) -> str:
    """A LIKE pattern as GLOB, which minds upper and lower case: ``%`` is any text, ``_`` any character."""
    signs = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(signs.get(sign, sign) for sign in pattern)
