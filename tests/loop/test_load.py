from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.errors import DeclarationError
from noria.loop.load import load

LOOP = 'from noria import Csv, Loop\n\n{name} = Loop("{name}", source=Csv("a.csv", label="y"))\n'


@pytest.fixture(autouse=True)
def path_and_modules_are_put_back() -> Iterator[None]:
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]


def write(folder: Path, text: str, name: str = "my_loop.py") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def refused(path: Path, variable: str | None = None) -> str:
    with pytest.raises(DeclarationError) as raised:
        load(path, variable)
    return str(raised.value)


def test_a_loop_is_found_with_its_variable_and_path(tmp_path: Path) -> None:
    file = write(tmp_path, LOOP.format(name="churn"))
    found = load(file)
    assert (found.loop.name, found.variable, found.path) == ("churn", "churn", file.resolve())


def test_a_loop_file_can_import_the_files_beside_it_whatever_was_loaded_before(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, f'NAME = "{name}"\n', "beside.py")
        file = write(tmp_path / name, "from beside import NAME\nfrom noria import Loop\nloop = Loop(NAME)\n")
        assert load(file).loop.name == name


def test_an_edit_is_seen_by_the_next_load_at_once(tmp_path: Path) -> None:
    assert load(write(tmp_path, LOOP.format(name="aaa"))).loop.name == "aaa"
    assert load(write(tmp_path, LOOP.format(name="bbb"))).loop.name == "bbb"


def test_one_of_several_loops_is_chosen_by_name(tmp_path: Path) -> None:
    file = write(tmp_path, LOOP.format(name="first") + LOOP.format(name="second") + "again = first\n")
    assert load(file, "second").loop.name == "second"
    assert "several loops: first, second, again" in refused(file)
    assert 'Did you mean "second"?' in refused(file, "secnd")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "my_loop.py: there is no Loop in this file."),
        ("x = 1\ny = (\n", "my_loop.py:2: '(' was never closed"),
        (
            "import pandas\nimport not_installed.deep\n",
            'my_loop.py:2: the package "not_installed" is not installed.',
        ),
        ("def f():\n    return 1 / 0\n\nf()\n", "my_loop.py:2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", "my_loop.py:2: the file ends the program"),
        ("from noria import AtLeast\nAtLeast(valu=3)\n", "my_loop.py:2: TypeError"),
        ("from noria import Lop\n", "my_loop.py:1: ImportError: cannot import name 'Lop'"),
        ("from noria import Loop\nloop = Loop()\n", "my_loop.py:2: TypeError"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, text)
    assert refused(file.relative_to(tmp_path)).startswith(said)


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, LOOP.format(name="a"))
    assert 'Did you mean "my_loop.py"?' in refused(tmp_path / "my_lop.py")
    assert "no such file" in refused(tmp_path / "nowhere" / "x.py")
    assert "folder" in refused(tmp_path)
    assert "ends in .py" in refused(write(tmp_path, "", "loop.txt"))


def test_a_file_named_as_another_module_is_refused(tmp_path: Path) -> None:
    for name in ("json.py", "noria.py", "pytest.py"):
        assert "is the name of another module" in refused(write(tmp_path, LOOP.format(name="a"), name))
