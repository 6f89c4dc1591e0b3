"""Whose a module is: the user's own, or an installed package's with a version."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import site
import sys
import sysconfig
from pathlib import Path

__all__ = ["is_user", "package_of", "place_of", "root_of"]

_LIBRARIES = tuple(
    f"{Path(path).resolve()}/"
    for path in {
        *site.getsitepackages(),
        site.getusersitepackages(),
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
    }
)
_NAMES = {"sklearn": "scikit-learn"}  # finding it by the files of all packages takes 0.2 s


def is_user(module: str) -> bool:
    """Whether a module is the user's own: not of Python, Noria or an installed package, unless editable."""
    top = module.split(".")[0]
    if module == "__main__":
        return True
    if top == "noria" or top in sys.builtin_module_names:
        return False
    file = _file(module)
    return bool(file) and _is_outside(file)


def root_of(module: str) -> str:
    """The folder a user's module is imported from; empty when it has no file."""
    file = _file(module)
    if not file:
        return ""
    above = Path(file).resolve().parents
    depth = module.count(".") + (1 if Path(file).name == "__init__.py" else 0)
    return str(above[min(depth, len(above) - 1)])


def place_of(module: str) -> str:
    """A module's file from where it is imported: ``loop.py``, ``cleaning/text.py``."""
    file = _file(module)
    if not file:
        return module
    return Path(file).resolve().relative_to(root_of(module)).as_posix()


@functools.cache
def package_of(top: str) -> tuple[str, str]:
    """The distribution a top-level module belongs to, and its version."""
    name = _NAMES.get(top, top)
    try:
        return name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = sorted(set(importlib.metadata.packages_distributions().get(top, ())))
        return ("+".join(found) or top), ",".join(map(importlib.metadata.version, found)) or "unknown"


def _file(module: str) -> str:
    """The file of a module, imported or not, or its folder if it has only that; empty when it has neither."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        places = list(getattr(loaded, "__path__", ()))
        return str(getattr(loaded, "__file__", None) or (places[0] if places else ""))
    try:
        spec = importlib.util.find_spec(module.split(".")[0])  # finding one inside a package would import that
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    return str(spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), ""))


@functools.lru_cache(maxsize=4096)
def _is_outside(file: str) -> bool:
    return not f"{Path(file).resolve()}/".startswith(_LIBRARIES)
