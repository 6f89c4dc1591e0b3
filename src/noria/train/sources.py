"""The user's own source files behind a loop: what a bundle must carry to run without the project."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from noria.train.packages import is_user, package_of, place_of

__all__ = ["user_sources"]

_INSTALLED = ("site-packages", "dist-packages")


def user_sources(loop_file: Path) -> dict[str, bytes]:
    """The loop file and every file of the user's that it imports, directly or not.

    Imports inside functions count, and so do ``importlib.import_module`` calls with the name written out.
    A module from elsewhere than the loop file's folder counts once it is imported, unless it is an installed
    package's, editable ones included. What is of the standard library, or in a hidden folder, does not count.

    Returns:
        Bytes by path relative to the loop file's folder, or to the folder a module from elsewhere is imported
        from; with forward slashes.
    """
    entry = loop_file.resolve()
    found: dict[str, bytes] = {}
    waiting = [(entry.name, entry)]
    while waiting:
        name, path = waiting.pop()
        if name in found:
            continue
        found[name] = data = path.read_bytes()
        for module in sorted(_imported(data, PurePosixPath(name).parent.parts)):
            waiting += _files(module, entry.parent)
    return dict(sorted(found.items()))


def _imported(source: bytes, package: tuple[str, ...]) -> set[str]:
    """Names of modules a file may import, relative ones made absolute; none if it cannot be parsed."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()  # a file that cannot run was not imported either
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, node.module) if node.module else above)
            names |= {base, *(f"{base}.{alias.name}" if base else alias.name for alias in node.names)}
        elif isinstance(node, ast.Call):
            names |= set(_named_in_call(node))
    return names - {""}


def _named_in_call(node: ast.Call) -> Iterator[str]:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    first = node.args[0] if node.args else None
    name = first.value if isinstance(first, ast.Constant) else None
    if called in ("import_module", "__import__") and isinstance(name, str) and not name.startswith("."):
        yield name


def _files(module: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Files of a module and the packages it is in, each with its place in a bundle.

    Those loaded, else where they would be found below the folder.
    """
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if name in sys.modules or (depth == 1 and name in sys.builtin_module_names):
            loaded = getattr(sys.modules.get(name), "__file__", None)
            files = [Path(loaded)] if loaded and loaded.endswith(".py") else []
        else:
            place = folder.joinpath(*parts[:depth])
            files = [place / "__init__.py", place.with_name(place.name + ".py")]
        file = next((file.resolve() for file in files if file.is_file()), None)
        if file is not None and (kept := _place(name, file, folder)):
            yield kept, file


def _place(module: str, file: Path, folder: Path) -> str:
    """Where a module's file goes in a bundle; empty when it is not the user's to carry."""
    if file.is_relative_to(folder):
        name = file.relative_to(folder).as_posix()
        kept = not any(part in _INSTALLED for part in name.split("/"))
    else:
        kept = is_user(module) and package_of(module.split(".")[0])[1] == "unknown"
        kept = kept and not any(part in _INSTALLED for part in file.parts)
        name = place_of(module) if kept else ""
    return name if kept and not any(part.startswith(".") for part in name.split("/")) else ""
