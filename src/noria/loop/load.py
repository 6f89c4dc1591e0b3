"""A file -> the `Loop` in it."""

from __future__ import annotations

import importlib
import linecache
import sys
import traceback
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from noria.core.nearest import suggest
from noria.errors import DeclarationError, Fault
from noria.loop.declare import Loop

__all__ = ["LoadedLoop", "load"]

_FOLDER = "__noria_folder__"


@dataclass(frozen=True, slots=True)
class LoadedLoop:
    """A loop and where it was found.

    Attributes:
        variable: its name in the file.
        path: the file, absolute.
    """

    loop: Loop
    variable: str
    path: Path


def load(path: str | Path, variable: str | None = None) -> LoadedLoop:
    """The loop declared in a Python file, which is run afresh each time.

    The file becomes a module under its own name and its folder comes first on ``sys.path``, so that it can
    import the files beside it; what an earlier `load` brought in from beside a loop file is forgotten first.

    Args:
        path: the file.
        variable: which loop, when the file has several; the variable's name or the loop's.

    Raises:
        DeclarationError: the file is not there, cannot be run, or has no loop; says where and what to do.
    """
    file = Path(path).expanduser().resolve()
    if file.is_dir():
        raise _fault(str(path), "this is a folder; a Python file is needed.", "")
    if not file.is_file():
        near = [other.name for other in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise _fault(str(path), "there is no such file.", suggest(file.name, near))
    if file.suffix != ".py":
        raise _fault(str(path), "a loop is declared in a Python file, whose name ends in .py.", "")
    module = _run(file, str(path))
    return _choose(module, file, str(path), variable)


class _FreshLoader(SourceFileLoader):
    """Compiles the source as it is now; compiled files beside it may be stale within a second of an edit."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _run(file: Path, shown: str) -> ModuleType:
    name, folder = file.stem, str(file.parent)
    _forget_loaded()
    if name in sys.stdlib_module_names or name == "noria" or name in sys.modules:
        raise _fault(shown, f'"{name}" is the name of another module.', "Rename the file.")
    if not sys.path or sys.path[0] != folder:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    linecache.checkcache(str(file))
    spec = spec_from_file_location(name, file, loader=_FreshLoader(name, str(file)))
    if spec is None or spec.loader is None:
        raise _fault(shown, "cannot be imported.", "")
    module = module_from_spec(spec)
    before = set(sys.modules)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own file: it may raise anything
        del sys.modules[name]
        raise _explain(error, file, shown) from error
    finally:
        _mark_loaded(set(sys.modules) - before, folder)
    return module


def _mark_loaded(names: set[str], folder: str) -> None:
    for name in names:
        module = sys.modules[name]
        origin = getattr(module, "__file__", None)
        if isinstance(origin, str) and Path(origin).is_relative_to(folder) and "site-packages" not in origin:
            setattr(module, _FOLDER, folder)


def _forget_loaded() -> None:
    for name, module in list(sys.modules.items()):
        if _FOLDER in getattr(module, "__dict__", {}):
            del sys.modules[name]


def _explain(error: BaseException, file: Path, shown: str) -> DeclarationError:
    if isinstance(error, SyntaxError) and error.filename:
        text = (error.text or "").strip()
        return _fault(f"{error.filename}:{error.lineno}", f"{error.msg}: {text}" if text else f"{error.msg}.", "")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(file.parent)]
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else shown
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        return _fault(where, f'the package "{package}" is not installed.', f"Try: pip install {package}")
    if isinstance(error, DeclarationError):
        return error
    if isinstance(error, SystemExit):
        return _fault(
            where,
            "the file ends the program when it is imported.",
            'Put that under if __name__ == "__main__".',
        )
    return _fault(where, f"{type(error).__name__}: {error}", "")


def _choose(module: ModuleType, file: Path, shown: str, variable: str | None) -> LoadedLoop:
    found = {name: value for name, value in vars(module).items() if isinstance(value, Loop)}
    distinct = {id(loop): name for name, loop in reversed(found.items())}
    if not found:
        raise _fault(shown, "there is no Loop in this file.", 'Write for example: loop = Loop(name="…", source=…)')
    if variable is None:
        if len(distinct) > 1:
            raise _fault(shown, f"there are several loops: {', '.join(found)}.", "Say which one.")
        name = next(iter(distinct.values()))
        return LoadedLoop(found[name], name, file)
    for name, loop in found.items():
        if variable in (name, loop.name):
            return LoadedLoop(loop, name, file)
    raise _fault(shown, f'there is no loop "{variable}" in this file.', suggest(variable, found))


def _fault(where: str, what: str, hint: str) -> DeclarationError:
    here = str(Path.cwd()) + "/"
    return DeclarationError([Fault(where.removeprefix(here), what, hint)])
