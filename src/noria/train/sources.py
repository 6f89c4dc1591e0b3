"""The user's own source files behind a loop: what a bundle must carry to run without the project."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["user_sources"]

_INSTALLED = ("site-packages", "dist-packages")


def user_sources(loop_file: Path) -> dict[str, bytes]:
    """The loop file and every file below its folder that it imports, directly or not.

    Imports inside functions count, and so do ``importlib.import_module`` calls with the name written out.
    What is installed, of the standard library, or in a hidden folder does not.

    Returns:
        Bytes by path relative to the loop file's folder, with forward slashes.
    """
    entry = loop_file.resolve()
    folder = entry.parent
    found: dict[str, bytes] = {}
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(folder).as_posix()
        if name in found:
            continue
        found[name] = data = path.read_bytes()
        for module in sorted(_imported(data, path.parent.relative_to(folder).parts)):
            waiting += [file for file in _files(module, folder) if _is_user(file, folder)]
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


def _files(module: str, folder: Path) -> Iterator[Path]:
    """Files of a module and the packages it is in: those loaded, else where they would be found."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if name in sys.modules or (depth == 1 and name in sys.builtin_module_names):
            loaded = getattr(sys.modules.get(name), "__file__", None)
            if loaded and loaded.endswith(".py"):
                yield Path(loaded).resolve()
            continue
        place = folder.joinpath(*parts[:depth])
        for file in (place / "__init__.py", place.with_name(place.name + ".py")):
            if file.is_file():
                yield file.resolve()
                break


def _is_user(file: Path, folder: Path) -> bool:
    if not file.is_relative_to(folder):
        return False
    parts = file.relative_to(folder).parts
    return not any(part in _INSTALLED or part.startswith(".") for part in parts)
