from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import noria

HEAVY = ("pandas", "sklearn", "sqlalchemy", "polars", "numpy", "pyarrow", "pandera")


def loaded_by(code: str) -> set[str]:
    """The heavy packages a fresh interpreter has loaded after running ``code``."""
    script = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_public_names_are_sorted_and_every_one_is_there() -> None:
    assert noria.__all__ == sorted(noria.__all__)
    for name in noria.__all__:
        assert getattr(noria, name) is not None
    assert dir(noria) == noria.__all__


@pytest.mark.parametrize(
    "room",
    ["core.canonical", "core.nearest", "core.policy", "core.units", "data.rules", "deploy.rules",
     "loop.check", "loop.declare", "loop.load", "loop.plan", "monitor.rules", "records",
     "register.rules", "retrain.rules", "validate.metrics", "validate.rules"],
)  # fmt: skip
def test_every_module_exports_what_it_says(room: str) -> None:
    module = importlib.import_module(f"noria.{room}")
    for name in module.__all__:
        assert hasattr(module, name)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="Lop"):
        _ = noria.Lop


def test_importing_noria_loads_nothing_heavy() -> None:
    assert loaded_by("import noria") == set()


def test_declaring_and_checking_a_loop_loads_nothing_heavy() -> None:
    code = (
        "from noria import *\n"
        "source = Csv('a.csv', label='y')\n"
        "loop = Loop('a', source=source, gates=(BeatsChampion('mae'),), retrain=(OnAlarm(),))\n"
        "loop.check()\nloop.plan()"
    )
    assert loaded_by(code) == set()
