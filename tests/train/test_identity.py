from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from noria.train.cache import compare_parts
from noria.train.identity import Identity, code_identity

PROJECT = {
    "loop.py": '''
        """A loop."""
        import helpers
        from helpers import clean

        LIMIT = 3

        def double(x):
            return 2 * x

        def train(x, depth=4):
            """Fit."""
            return double(clean(x)) + helpers.shift(x) + LIMIT + depth
        ''',
    "helpers.py": """
        OFFSET = 1

        def clean(x):
            return x.strip()

        def shift(x):
            return x + OFFSET

        def unused(x):
            return x
        """,
}


@pytest.fixture(autouse=True)
def path_and_modules_are_put_back() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


def identity(folder: Path, files: Mapping[str, str], function: str = "train") -> Identity:
    """The identity of a function of a project, as a process that starts afresh would find it."""
    shutil.rmtree(folder, ignore_errors=True)
    write(folder, files)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        return code_identity(getattr(importlib.import_module("loop"), function))
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)) or name == "cleaning":
                del sys.modules[name]


def changed(tmp_path: Path, file: str, old: str, new: str) -> list[str]:
    assert old in PROJECT[file]
    first = identity(tmp_path / "project", PROJECT)
    second = identity(tmp_path / "project", PROJECT | {file: PROJECT[file].replace(old, new)})
    assert (first.digest == second.digest) == (first.parts == second.parts)
    return compare_parts(first.parts, second.parts)


def one_file(tmp_path: Path, first: str, second: str) -> list[str]:
    """What differs between two versions of a loop file."""
    found = [identity(tmp_path / "project", {"loop.py": text}) for text in (first, second)]
    return compare_parts(found[0].parts, found[1].parts)


def test_the_parts_are_named_after_what_they_are(tmp_path: Path) -> None:
    found = identity(tmp_path / "project", PROJECT).parts
    assert list(found) == [
        "constant LIMIT (loop.py)",
        "constant OFFSET (helpers.py)",
        "helper clean (helpers.py)",
        "helper double (loop.py)",
        "helper shift (helpers.py)",
        "python",
        "train (loop.py)",
    ]
    assert found["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("loop.py", "LIMIT = 3", "LIMIT = 3"),
        ("loop.py", "LIMIT = 3", "import math\n\n        OTHER = 7\n\n        LIMIT = 3"),
        ("loop.py", "return double", "# why not\n            return double"),
        ("loop.py", '"""Fit."""', '"""Fit well."""'),
        ("loop.py", '"""Fit."""\n            ', ""),
        ("loop.py", "double(clean(x)) + helpers", "double( clean(x) )  +  helpers"),
        (
            "loop.py",
            "double(clean(x)) + helpers",
            "double(\n                clean(x)\n            ) + helpers",
        ),
        ("helpers.py", "return x\n", "return -x\n"),
    ],
    ids=[
        "nothing",
        "lines above",
        "comment",
        "docstring",
        "no docstring",
        "spacing",
        "line break",
        "unused function",
    ],
)
def test_a_change_without_effect_leaves_the_identity(tmp_path: Path, file: str, old: str, new: str) -> None:
    assert changed(tmp_path, file, old, new) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "part"),
    [
        ("loop.py", "+ LIMIT", "- LIMIT", "train (loop.py)"),
        ("loop.py", "depth=4", "depth=5", "train (loop.py)"),
        ("loop.py", "return 2 * x", "return 3 * x", "helper double (loop.py)"),
        ("helpers.py", "x.strip()", "x.lower()", "helper clean (helpers.py)"),
        ("helpers.py", "x + OFFSET", "x - OFFSET", "helper shift (helpers.py)"),
        ("loop.py", "LIMIT = 3", "LIMIT = 4", "constant LIMIT (loop.py)"),
        ("loop.py", "LIMIT = 3", "LIMIT = 3.0", "constant LIMIT (loop.py)"),
        ("helpers.py", "OFFSET = 1", "OFFSET = 2", "constant OFFSET (helpers.py)"),
    ],
)
def test_a_change_with_effect_is_named(tmp_path: Path, file: str, old: str, new: str, part: str) -> None:
    assert changed(tmp_path, file, old, new) == [f"{part} changed"]


def test_moving_the_project_leaves_the_identity(tmp_path: Path) -> None:
    loop = """
        import os
        from pathlib import Path
        DATA = Path(__file__).parent / "data.csv"
        HERE = os.path.dirname(__file__)
        def train(x):
            return DATA, HERE, __file__
        """
    found = [identity(tmp_path / name, {"loop.py": loop}) for name in ("here", "there")]
    assert found[0] == found[1]
    assert not any(str(tmp_path) in name for name in found[0].parts)


def test_two_processes_agree(tmp_path: Path) -> None:
    loop = """
        import re, enum, functools, dataclasses
        import numpy as np, polars as pl, pandas as pd
        from sklearn.linear_model import LogisticRegression
        NAMES = {"b", "a", "c"}
        FROZEN = frozenset({"x", "y", "z"})
        MODEL = LogisticRegression(C=0.5)
        OBJECTS = np.array(["a", None], dtype=object)
        EXPRESSION = pl.col("a").log() + 1
        FRAME = pd.DataFrame({"a": [1.0, None]})
        PATTERN = re.compile("a+")
        class Kind(enum.Enum):
            A = 1
        @dataclasses.dataclass
        class Options:
            kind: Kind = Kind.A
            names: set = dataclasses.field(default_factory=set)
            def size(self):
                return len(self.names)
        OPTIONS = Options(names={"p", "q"})
        ROUND = functools.partial(round, ndigits=2)
        def train(x):
            if x in {"k", "l", "m"}:
                return [ROUND(v) for v in x]
            return NAMES, FROZEN, MODEL, OBJECTS, EXPRESSION, FRAME, PATTERN, OPTIONS, np.zeros(3)
        """
    write(tmp_path, {"loop.py": loop})
    program = "import loop; from noria.train.identity import code_identity; print(code_identity(loop.train))"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert "package scikit-learn" in found.pop()


def test_the_code_that_is_loaded_counts_not_a_file_edited_since(tmp_path: Path) -> None:
    folder = write(tmp_path, {"loop.py": "def train(x):\n    return x + 1\n"})
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module("loop")
        loaded = code_identity(module.train)
        (folder / "loop.py").write_text("def train(x):\n    return x + 2000\n")
        edited = code_identity(module.train)
    finally:
        sys.modules.pop("loop", None)
    fresh = identity(tmp_path / "fresh", {"loop.py": "def train(x):\n    return x + 2000\n"})
    assert fresh.digest not in (loaded.digest, edited.digest)


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        pytest.param("return x + 1 # a", "return x + 2 # a", "class Model (loop.py)", id="method"),
        pytest.param("rate = 0.1", "rate = 0.2", "class Model (loop.py)", id="class attribute"),
        pytest.param("BASE = 5", "BASE = 6", "constant BASE (loop.py)", id="constant of a method"),
        pytest.param("return 7", "return 8", "class Parent (loop.py)", id="base class"),
        pytest.param("return self.rate", "return -self.rate", "class Model (loop.py)", id="property"),
        pytest.param("return 'new'", "return 'other'", "class Model (loop.py)", id="class method"),
        pytest.param("wide: int", "wide: float", "class Options (loop.py)", id="dataclass field"),
        pytest.param("Options(3)", "Options(4)", "constant OPTIONS (loop.py)", id="dataclass instance"),
        pytest.param("RED = 1", "RED = 2", "class Colour (loop.py)", id="enum"),
    ],
)
def test_a_change_in_a_class_is_noticed(tmp_path: Path, before: str, after: str, part: str) -> None:
    loop = """
        import enum
        from dataclasses import dataclass
        BASE = 5
        class Parent:
            def seven(self):
                return 7
        class Model(Parent):
            rate = 0.1
            def fit(self, x):
                return x + 1 # a
            def base(self):
                return BASE
            @property
            def speed(self):
                return self.rate
            @classmethod
            def make(cls):
                return 'new'
        @dataclass(frozen=True, slots=True)
        class Options:
            wide: int
        OPTIONS = Options(3)
        class Colour(enum.Enum):
            RED = 1
        def train(x):
            return Model().fit(x), OPTIONS, Colour.RED
        """
    assert f"{part} changed" in one_file(tmp_path, loop, loop.replace(before, after))
    assert one_file(tmp_path, loop, loop.replace("# a", "# b")) == []


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        pytest.param("def make(k):\n    def train(x):\n        return x * k\n    return train\n"
                     "train = make(2)\n",
                     "make(2)", "make(3)", id="closure"),
        pytest.param("def f(v):\n    return v\ndef train(x):\n    return [f(v) for v in x]\n",
                     "return v\n", "return -v\n", id="comprehension"),
        pytest.param("def train(x):\n    return [v + 1 for v in x]\n",
                     "v + 1", "v + 2", id="inside a comprehension"),
        pytest.param("scale = lambda v: v * 2\ndef train(x):\n    return scale(x)\n",
                     "* 2", "* 3", id="lambda"),
        pytest.param("def f(v):\n    return v and f(v - 1)\ndef train(x):\n    return f(x)\n",
                     "v - 1", "v - 2", id="recursion"),
        pytest.param("import numpy as np\nW = np.array([1.0, 2.0])\ndef train(x):\n    return W @ x\n",
                     "2.0]", "3.0]", id="numpy constant"),
        pytest.param("import numpy as np\nW = np.array(['a', None])\ndef train(x):\n    return W\n",
                     "'a'", "'b'", id="numpy objects"),
        pytest.param("import polars as pl\nW = pl.DataFrame({'a': [1]})\ndef train(x):\n    return W\n",
                     "[1]", "[2]", id="polars frame"),
        pytest.param("import polars as pl\nE = pl.col('a') + 1\ndef train(x):\n    return E\n",
                     "+ 1", "+ 2", id="polars expression"),
        pytest.param("import pandas as pd\nW = pd.DataFrame({'a': [1]})\ndef train(x):\n    return W\n",
                     "'a'", "'b'", id="pandas frame"),
        pytest.param("import re\nP = re.compile('a')\ndef train(x):\n    return P.sub('', x)\n",
                     "'a'", "'b'", id="pattern"),
        pytest.param("from functools import partial\ndef g(a, b):\n    return a\nP = partial(g, 1)\n"
                     "def train(x):\n    return P(x)\n", "g, 1", "g, 2", id="partial"),
        pytest.param("from functools import partial\ndef g(a, b):\n    return a\nP = partial(g, 1)\n"
                     "def train(x):\n    return P(x)\n", "return a", "return b", id="function of a partial"),
        pytest.param("def f(v):\n    return v\ndef g(v):\n    return -v\nSTEPS = [f, g]\n"
                     "def train(x):\n    return STEPS\n", "[f, g]", "[g, f]", id="order of functions"),
        pytest.param("from sklearn.linear_model import Ridge\nM = Ridge(alpha=1)\n"
                     "def train(x):\n    return M\n",
                     "alpha=1", "alpha=2", id="estimator constant"),
        pytest.param("import functools\ndef twice(f):\n    @functools.wraps(f)\n    def inner(x):\n"
                     "        return 2 * f(x)\n    return inner\n@twice\ndef g(x):\n    return x\n"
                     "def train(x):\n    return g(x)\n", "2 * f", "3 * f", id="decorator"),
        pytest.param("import functools\n@functools.lru_cache\ndef g(x):\n    return x\n"
                     "def train(x):\n    return g(x)\n",
                     "return x\ndef", "return -x\ndef", id="cached helper"),
        pytest.param("import functools\n@functools.singledispatch\ndef g(x):\n    return x\n"
                     "@g.register\ndef _(x: int):\n    return 1\ndef train(x):\n    return g(x)\n",
                     "return 1", "return 2", id="registered with singledispatch"),
        pytest.param("W = [[n] for n in range(150_000)] + [[1]]\ndef train(x):\n    return W\n",
                     "[[1]]", "[[2]]", id="end of a long constant"),
        pytest.param("W = [1]\nfor _ in range(50):\n    W = [W]\ndef train(x):\n    return W\n",
                     "[1]", "[2]", id="bottom of a deep constant"),
        pytest.param("W = [1]\nfor _ in range(60):\n    W = [W, W]\ndef train(x):\n    return W\n",
                     "[1]", "[2]", id="bottom of a constant that shares its parts"),
        pytest.param("W = [1]\nW.append({'w': W})\ndef train(x):\n    return W\n",
                     "[1]", "[2]", id="constant that holds itself"),
        pytest.param("import pandas as pd\nimport polars as pl\ndef train(x: pl.DataFrame):\n    return x\n",
                     "x: pl", "x: pd", id="annotation"),
        pytest.param("class Scale:\n    def __init__(self, k):\n        self.k = k\n"
                     "    def __call__(self, x):\n        return x * self.k\nS = Scale(2)\n"
                     "def train(x):\n    return S(x)\n",
                     "Scale(2)", "Scale(3)", id="callable object"),
        pytest.param("class Scale:\n    def by(self, x):\n        return x\nS = Scale()\nby = S.by\n"
                     "def train(x):\n    return by(x)\n", "return x\nS", "return -x\nS", id="bound method"),
    ],
)  # fmt: skip
def test_what_a_function_uses_counts(tmp_path: Path, text: str, before: str, after: str) -> None:
    assert before in text
    assert one_file(tmp_path, text, text) == []
    assert one_file(tmp_path, text, text.replace(before, after)) != []


def test_a_constant_too_deep_to_be_looked_at_counts_as_changed(tmp_path: Path) -> None:
    text = "W = [1]\nfor _ in range(200):\n    W = [W]\ndef train(x):\n    return W\n"
    assert one_file(tmp_path, text, text) == ["constant W (loop.py) changed"]


@pytest.mark.parametrize(
    "line",
    [
        "from cleaning import text",
        "from cleaning.text import clean",
        "import cleaning.text",
        "import cleaning.text as t",
    ],
)
def test_an_import_within_the_function_counts_with_what_it_uses(tmp_path: Path, line: str) -> None:
    files = {
        "loop.py": f"def train(x):\n    {line}\n    return x\n",
        "cleaning/__init__.py": "from . import text\n",
        "cleaning/text.py": "from .words import STOP\ndef clean(x):\n    return x, STOP\n",
        "cleaning/words.py": "STOP = ['a']\n",
    }
    first = identity(tmp_path / "project", files)
    assert identity(tmp_path / "project", files) == first
    second = identity(tmp_path / "project", files | {"cleaning/words.py": "STOP = ['b']\n"})
    assert compare_parts(first.parts, second.parts) == ["constant STOP (cleaning/text.py) changed"]


def test_functions_of_one_name_in_two_packages_are_told_apart(tmp_path: Path) -> None:
    files = {
        "loop.py": "import one.clean, two.clean\ndef train(x):\n    return one.clean.f(x), two.clean.f(x)\n",
        "one/clean.py": "def f(x):\n    return 1\n",
        "two/clean.py": "def f(x):\n    return 2\n",
    }
    first = identity(tmp_path / "project", files)
    assert {"helper f (one/clean.py)", "helper f (two/clean.py)"} <= set(first.parts)
    second = identity(tmp_path / "project", files | {"two/clean.py": "def f(x):\n    return 3\n"})
    assert compare_parts(first.parts, second.parts) == ["helper f (two/clean.py) changed"]


def test_packages_count_by_version_and_noria_too(tmp_path: Path) -> None:
    from importlib.metadata import version

    loop = """
        import numpy as np
        from sklearn.linear_model import LogisticRegression
        from noria import Csv, Loop
        from noria.core.units import parse_duration
        loop = Loop("churn", source=Csv("a.csv", label="y"))
        def train(x):
            loop.name
            return LogisticRegression().fit(np.asarray(x)), parse_duration("1d")
        """
    found = identity(tmp_path / "project", {"loop.py": loop}).parts
    assert found["package numpy"] == version("numpy")
    assert found["package scikit-learn"] == version("scikit-learn")
    assert found["package noria"] == version("noria")
    assert not any("loop " in name for name in found)


def test_an_open_file_or_a_lock_does_no_harm(tmp_path: Path) -> None:
    loop = """
        import sys, threading, logging
        LOCK = threading.Lock()
        OUT = sys.stderr
        LOG = logging.getLogger("x")
        CYCLE = []
        CYCLE.append(CYCLE)
        def train(x):
            return LOCK, OUT, LOG, CYCLE
        """
    assert one_file(tmp_path, loop, loop) == []
