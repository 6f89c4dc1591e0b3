"""``noria new``: a loop file for the user's own data, from a look at it; or a template written out."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from importlib import resources
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.nearest import suggest
from noria.errors import Conflict, DataError, NotFound

if TYPE_CHECKING:
    import polars as pl

__all__ = ["write_loop"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_FEW_LEVELS = 10
_EXPECTED = 6  # columns of each kind that get an expectation: a start, not a wall


def write_loop(
    name: str,
    *,
    data: Path | None,
    key: str | None,
    time: str | None,
    label: str | None,
    template: str | None,
) -> None:
    """Make the folder ``name`` with a loop file in it.

    Raises:
        Conflict: the folder has a loop file, or the name cannot be one, or an option is missing.
        DataError: the data file cannot be used.
        NotFound: there is no such template or column.
    """
    if not _NAME.fullmatch(name):
        raise Conflict(f"'{name[:80]}' cannot name a loop: use letters, digits, - and _, starting with a letter.")
    folder = Path(name)
    if (folder / "loop.py").exists():
        raise Conflict(f"{folder / 'loop.py'} is there already; choose another name, or remove it.")
    if template is not None:
        _write_template(folder, template)
    elif data is None:
        raise Conflict("Say which data to use: --data FILE (a CSV or Parquet file), or --template NAME.")
    else:
        text = _own_loop(name, folder, data, key, time, label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "loop.py").write_text(text, encoding="utf-8")
    print(f"Wrote {folder / 'loop.py'}. Next:")
    for verb in ("check", "turn", "up"):
        print(f"  noria {verb} {folder / 'loop.py'}")


def _write_template(folder: Path, template: str) -> None:
    root = resources.files("noria.templates")
    known = sorted(
        entry.name.replace("_", "-") for entry in root.iterdir() if entry.is_dir() and (entry / "loop.py").is_file()
    )
    if template not in known:
        raise NotFound(f"There is no template '{template[:80]}'. {suggest(template, known)}")
    folder.mkdir(parents=True, exist_ok=True)
    with resources.as_file(root / template.replace("-", "_")) as source:
        for path in sorted(source.iterdir()):
            if path.is_file() and path.suffix in (".py", ".parquet", ".csv") and path.name != "__init__.py":
                shutil.copyfile(path, folder / path.name)


def _own_loop(name: str, folder: Path, data: Path, key: str | None, time: str | None, label: str | None) -> str:
    from jinja2 import Environment, StrictUndefined

    from noria.data.read import parse_time, read
    from noria.data.rules import Csv, Parquet

    kind = Parquet if data.suffix.lower() in (".parquet", ".pq") else Csv
    frame = read(kind(str(data.resolve())), Path(), lambda function: function())
    columns = _Columns(frame)
    label = _choose("label", label, frame.columns, None, "the column to predict")
    if label is None:
        raise Conflict("A loop needs a column to predict: give it with --label.")
    key = _choose("key", key, frame.columns, columns.guess_key(label), "the column that names a row")
    time = _choose("time", time, frame.columns, columns.guess_time(label), "the column with the time of a row")
    if time is not None:
        frame = frame.with_columns(parse_time(frame[time]))
    facts = _Proposal(name, frame, key, time, label).facts()
    arguments = [f'"{Path(os.path.relpath(data.resolve(), folder.resolve())).as_posix()}"']
    arguments += [f'{word}="{value}"' for word, value in (("key", key), ("time", time), ("label", label)) if value]
    arguments += ["served=True"] if key is not None else []
    facts["source"] = f"{kind.__name__}({', '.join(arguments)})"
    facts["imports"] = sorted({*facts["imports"], kind.__name__}, key=str.casefold)
    facts["file"] = data.name
    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)  # noqa: S701
    template = (resources.files("noria.templates") / "own_data" / "loop.py.j2").read_text(encoding="utf-8")
    return re.sub(r"\n{4,}", "\n\n\n", environment.from_string(template).render(facts))


def _choose(word: str, given: str | None, columns: list[str], guess: str | None, what: str) -> str | None:
    """The column given, asked for at a terminal, or guessed."""
    if given is None and sys.stdin.isatty():
        import typer

        text = typer.prompt(f"{word}: {what} ({', '.join(columns[:12])}; none)", default=guess or "none")
        given = str(text).strip()
    if given is None:
        if word == "label":
            raise Conflict(f"--label is missing: say which column to predict. Columns: {', '.join(columns)}.")
        if guess is not None:
            print(f"--{word} not given: took '{guess}'. Give --{word} none if it is not.")
        return guess
    if given.lower() == "none" and "none" not in columns:
        return None
    if given not in columns:
        raise NotFound(f"There is no column '{given[:80]}' in the data. {suggest(given, columns)}")
    return given


class _Columns:
    """What the columns look like."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def guess_key(self, label: str) -> str | None:
        """A column without gaps or repeats whose name says that it is an identifier."""
        named = re.compile(r"(^|_)(id|key|uuid|number|no|nr)$|^(id|index)|Id$|ID$")
        for name in self.frame.columns:
            column = self.frame[name]
            whole = column.dtype.is_integer() or str(column.dtype) == "String"
            candidate = name != label and named.search(name) and whole and not column.null_count()
            if candidate and column.n_unique() == column.len():
                return name
        return None

    def guess_time(self, label: str) -> str | None:
        """The only column of times."""
        times = [
            n for n, kind in self.frame.schema.items() if n != label and str(kind).startswith(("Datetime", "Date"))
        ]
        return times[0] if len(times) == 1 else None


class _Proposal:
    """A first loop for a table: what to learn from, what to expect, how to split and judge."""

    def __init__(self, name: str, frame: pl.DataFrame, key: str | None, time: str | None, label: str) -> None:
        from noria.data.snapshot import guess_task

        self.name, self.key, self.time, self.label = name, key, time, label
        self.frame = frame.filter(frame[label].is_not_null())
        if self.frame[label].n_unique() < 2:
            raise DataError(f'The label "{label}" has fewer than two values; there is nothing to learn from it.')
        self.task = guess_task(self.frame[label])
        self.numbers: list[str] = []
        self.categories: list[str] = []
        self.times: list[str] = []
        self.left_out: list[str] = []
        for column in self.frame.columns:
            if column not in (key, label):
                self._sort(column)
        if not self.numbers and not self.categories and not self.times:
            raise DataError("There is no column left to learn from besides key, time and label.")

    def _sort(self, name: str) -> None:
        column = self.frame[name]
        kind = str(column.dtype)
        distinct = column.n_unique()
        if distinct < 2:
            self.left_out.append(f"{name} (always the same)")
        elif kind.startswith(("Datetime", "Date")):
            self.times.append(name)
        elif column.dtype.is_numeric() or kind == "Boolean":
            self.numbers.append(name)
        elif kind in ("String", "Categorical") or kind.startswith("Enum"):
            if distinct > max(50, column.len() // 20):
                self.left_out.append(f"{name} (free text or an identifier)")
            else:
                self.categories.append(name)
        else:
            self.left_out.append(f"{name} ({kind})")

    def facts(self) -> dict[str, Any]:
        """What the template fills in."""
        metric, gates, imports = self._gates()
        expect = self._expect()
        used = {"Loop", "Drift", "Performance", "OnAlarm", "Every", *imports}
        used |= {rule.split("(")[0] for rule in [*expect, *gates]}
        split = self._split()
        used.add(split.split("(")[0])
        metric_names = {
            "binary": "accuracy_score, roc_auc_score",
            "multiclass": "accuracy_score",
            "regression": "mean_absolute_error, r2_score",
        }
        return {
            "name": self.name,
            "label": self.label,
            "task": self.task,
            "estimator": f"HistGradientBoosting{'Regressor' if self.task == 'regression' else 'Classifier'}",
            "metric_imports": metric_names[self.task],
            "numbers": _listed(self.numbers),
            "categories": _listed(self.categories),
            "times": _listed(self.times),
            "left_out": ", ".join(self.left_out),
            "expect": expect,
            "split": split,
            "gates": gates,
            "metric": metric,
            "imports": used,
        }

    def _gates(self) -> tuple[str, list[str], set[str]]:
        """Metric, gates (better than knowing nothing; better than the champion; served as trained), names used."""
        if self.task == "regression":
            first, metric = 'AtLeast("r2", 0.0)', "mae"
        elif self.task == "binary":
            first, metric = 'AtLeast("roc_auc", 0.5)', "roc_auc"
        else:
            counts = self.frame[self.label].value_counts()["count"].to_list()
            share = floor(100 * max(counts) / self.frame.height) / 100
            first, metric = f'AtLeast("accuracy", {share})', "accuracy"
        return metric, [first, f'BeatsChampion("{metric}")', "NoSkew()"], set()

    def _expect(self) -> list[str]:
        rules = [f'Unique("{self.key}")'] if self.key is not None else []
        for name in [n for n in self.numbers if str(self.frame[n].dtype) != "Boolean"][:_EXPECTED]:
            low, high = _wide(self.frame[name])
            rules.append(f'Between("{name}", {low}, {high})')
        for name in [n for n in self.categories if self.frame[n].n_unique() <= _FEW_LEVELS][:_EXPECTED]:
            levels = sorted(self.frame[name].drop_nulls().cast(str).unique().to_list())
            listed = ", ".join(json.dumps(level, ensure_ascii=False) for level in levels)
            rules.append(f'OneOf("{name}", ({listed},))')
        for name in self.frame.columns:
            share = self.frame[name].null_count() / self.frame.height
            if share > 0:
                rules.append(f'MissingShare("{name}", at_most={min(1.0, ceil((share * 1.5 + 0.02) * 100) / 100)})')
        return rules

    def _split(self) -> str:
        """By time where that leaves both sides something to learn and to judge; else at random."""
        if self.time is None:
            return "RandomSplit(test=0.2)"
        times = self.frame[self.time].drop_nulls().sort()
        cut = times[int(times.len() * 0.8)]
        newest = self.frame.filter(self.frame[self.time] > cut)
        older = self.frame.filter(self.frame[self.time] <= cut)
        judged = self.task == "regression" or newest[self.label].n_unique() == self.frame[self.label].n_unique()
        if older.height < 2 or newest.height < 2 or not judged:
            return "RandomSplit(test=0.2)"
        span = (times[-1] - cut).total_seconds()
        for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
            if span >= 2 * size:
                return f'TimeSplit(test="{ceil(span / size)}{unit}")'
        return f'TimeSplit(test="{max(1, ceil(span))}s")'


def _listed(names: list[str]) -> str:
    """A list as a formatter would lay it out; empty text for none."""
    if not names:
        return ""
    line = "[" + ", ".join(f'"{name}"' if '"' not in name else repr(name) for name in names) + "]"
    if len(line) < 95:
        return line
    return "[\n" + "".join(f'    "{name}",\n' if '"' not in name else f"    {name!r},\n" for name in names) + "]"


def _wide(column: pl.Series) -> tuple[str, str]:
    """A range half as wide again as the one seen, in round numbers; what is never negative stays so."""
    values = column.cast(float).fill_nan(None).drop_nulls()
    low, high = float(values.min() or 0), float(values.max() or 0)  # type: ignore[arg-type]
    reach = (high - low) / 2 or 1.0
    step = 10 ** floor(log10(reach))
    wide_low, wide_high = floor((low - reach) / step) * step, ceil((high + reach) / step) * step
    wide_low = 0 if low >= 0 else wide_low
    return _number(wide_low), _number(wide_high)


def _number(value: float) -> str:
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else f"{value:.6g}"
