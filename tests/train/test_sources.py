from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy  # noqa: F401 - a file beside the loop cannot take the place of what is loaded
import pytest

from noria.train.sources import user_sources


@pytest.fixture(autouse=True)
def path_and_modules_are_put_back() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("my_"):  # NumPy cannot be loaded twice
            del sys.modules[name]


def sources(folder: Path, files: Mapping[str, str], imported: bool = False) -> list[str]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if imported:
        sys.path.insert(0, str(folder))
        __import__("my_loop")
    found = user_sources(folder / "my_loop.py")
    assert all(found[name] == files[name].encode() for name in found)
    return list(found)


PROJECT = {
    "my_loop.py": "import my_helpers\nfrom my_cleaning.text import clean\nimport json, numpy\n",
    "my_helpers.py": "def f():\n    import my_late\n",
    "my_late.py": "",
    "my_unused.py": "",
    "my_cleaning/__init__.py": "",
    "my_cleaning/text.py": "from .words import STOP\nfrom . import shapes\ndef clean(): ...\n",
    "my_cleaning/words.py": "STOP = []\n",
    "my_cleaning/shapes.py": "",
    "my_cleaning/unused.py": "",
}


@pytest.mark.parametrize("imported", [True, False])
def test_everything_imported_is_carried_and_nothing_else(tmp_path: Path, imported: bool) -> None:
    assert sources(tmp_path, PROJECT, imported) == [
        "my_cleaning/__init__.py",
        "my_cleaning/shapes.py",
        "my_cleaning/text.py",
        "my_cleaning/words.py",
        "my_helpers.py",
        "my_late.py",
        "my_loop.py",
    ]


def test_files_beside_the_loop_named_like_installed_modules_are_not_carried(tmp_path: Path) -> None:
    assert sources(tmp_path, {"my_loop.py": "import json, numpy\n", "json.py": "", "numpy.py": ""}) == ["my_loop.py"]


def test_installed_and_hidden_folders_below_the_loop_are_not_carried(tmp_path: Path) -> None:
    files = {
        "my_loop.py": "import sys, pathlib\nhere = pathlib.Path(__file__).parent\n"
        "sys.path += [str(here / '.venv/lib/site-packages'), str(here / '.tools'), str(here / 'src')]\n"
        "import my_package, my_tool, my_source\n",
        ".venv/lib/site-packages/my_package.py": "",
        ".tools/my_tool.py": "",
        "src/my_source.py": "",
    }
    assert sources(tmp_path, files, imported=True) == ["my_loop.py", "src/my_source.py"]


def test_modules_imported_by_a_written_name_and_folders_without_init_are_carried(tmp_path: Path) -> None:
    files = {
        "my_loop.py": "import importlib\nimportlib.import_module('my_plain.deep')\n",
        "my_plain/deep.py": "",
    }
    assert sources(tmp_path, files) == ["my_loop.py", "my_plain/deep.py"]


def test_a_circle_of_imports_ends(tmp_path: Path) -> None:
    files = {"my_loop.py": "import my_other\n", "my_other.py": "import my_loop\n"}
    assert sources(tmp_path, files) == ["my_loop.py", "my_other.py"]


def test_a_module_that_cannot_be_parsed_is_carried_as_it_is(tmp_path: Path) -> None:
    files = {"my_loop.py": "def f():\n    import my_broken\n", "my_broken.py": "def (:\n"}
    assert sources(tmp_path, files) == ["my_broken.py", "my_loop.py"]


def test_modules_of_the_users_own_from_elsewhere_are_carried_too(tmp_path: Path) -> None:
    files = {
        "shared/my_common/__init__.py": "",
        "shared/my_common/rates.py": "from .units import KM\n",
        "shared/my_common/units.py": "KM = 1\n",
        "shared/my_common/unused.py": "",
        "loops/my_loop.py": "import numpy\nfrom my_common import rates\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    sys.path[:0] = [str(tmp_path / "loops"), str(tmp_path / "shared")]
    __import__("my_loop")
    found = user_sources(tmp_path / "loops" / "my_loop.py")
    assert list(found) == ["my_common/__init__.py", "my_common/rates.py", "my_common/units.py", "my_loop.py"]
    assert found["my_common/units.py"] == b"KM = 1\n"


def test_packages_installed_from_elsewhere_are_not_carried(tmp_path: Path) -> None:
    for name, text in {
        "checkout/my_package/__init__.py": "",
        "checkout/my_package-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n",
        "loops/my_loop.py": "import my_package\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    sys.path[:0] = [str(tmp_path / "loops"), str(tmp_path / "checkout")]
    __import__("my_loop")
    assert list(user_sources(tmp_path / "loops" / "my_loop.py")) == ["my_loop.py"]
