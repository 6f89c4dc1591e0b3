"""The user's own source files behind a loop: what a bundle must carry to run without the project."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

__all__ = ["user_sources"]

_NOT_USER = ("site-packages", "dist-packages")


def user_sources(loop_file: Path) -> dict[str, bytes]:
    """The loop file and every file beside or below it that it imports, directly or not, by relative path.

    Imports inside functions count; what is installed does not.
    """
    folder = loop_file.resolve().parent
    found: dict[str, bytes] = {}
    waiting = [loop_file.resolve()]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(folder).as_posix()
        if name in found:
            continue
        data = path.read_bytes()
        found[name] = data
        for module in _imported(ast.parse(data), path, folder):
            waiting += [f for f in _files(module, folder) if f.relative_to(folder).as_posix() not in found]
    return dict(sorted(found.items()))


def _imported(tree: ast.AST, path: Path, folder: Path) -> set[str]:
    """Names of modules a file imports, relative ones made absolute."""
    package = path.parent.relative_to(folder).parts
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, node.module) if node.module else above)
            names |= {base, *(f"{base}.{alias.name}" if base else alias.name for alias in node.names)}
    return {name for name in names if name and name.split(".")[0] not in sys.stdlib_module_names}


def _files(module: str, folder: Path) -> list[Path]:
    """The files a module name stands for under the folder: its packages' ``__init__`` and itself."""
    parts = module.split(".")
    found = []
    for depth in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:depth])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file() and not any(part in _NOT_USER for part in file.parts):
                found.append(file)
    return found
