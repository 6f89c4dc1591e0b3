from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from noria.core.plugins import load_plugin, plugins
from noria.errors import MissingExtra, NotFound


def test_every_flavor_in_the_table_loads() -> None:
    assert plugins("flavor")[:4] == ["sklearn", "lightgbm", "xgboost", "torch"]
    for name in plugins("flavor"):
        module = load_plugin("flavor", name)
        assert {"matches", "save", "load"} <= set(dir(module))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFound, match=r"no flavor 'sklaern'\. Did you mean \"sklearn\"\?"):
        load_plugin("flavor", "sklaern")
    with pytest.raises(NotFound, match="There is no whatever 'a'"):
        load_plugin("whatever", "a")


def test_a_package_that_is_not_installed_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "noria.flavors.xgboost", raising=False)
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(MissingExtra, match=r"xgboost is needed for the flavor 'xgboost': pip install 'noria\[xgb"):
        load_plugin("flavor", "xgboost")


def test_another_package_adds_a_plugin_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_flavors.py").write_text("class Catboost:\n    pass\n")
    info = tmp_path / "my_flavors-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-flavors\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[noria.flavor]\ncatboost = my_flavors:Catboost\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugins("flavor")[-1] == "catboost"
    assert load_plugin("flavor", "catboost").__name__ == "Catboost"
    del sys.modules["my_flavors"]


def test_choosing_a_flavor_imports_no_library_that_was_not_there() -> None:
    program = (
        "import sys\n"
        "from sklearn.dummy import DummyClassifier\n"
        "from noria.flavors import flavor_for\n"
        "from noria.errors import ModelError\n"
        "assert flavor_for(DummyClassifier())[0] == 'sklearn'\n"
        "try:\n    flavor_for(3)\nexcept ModelError:\n    pass\n"
        "print([name for name in ('lightgbm', 'xgboost', 'onnx', 'onnxruntime') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
