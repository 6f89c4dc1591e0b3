"""What a function's code says, as text: the same however it is laid out, commented or documented."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import itertools
import types
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["body_of", "imports", "references"]

_SILENT = ("CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL", "RESUME")


def body_of(function: types.FunctionType, decorated: bool) -> str:
    """The function's syntax tree without positions and docstrings, or else its instructions.

    The tree is used only if the file, as it is now, compiles to the very code that is loaded: a file edited
    since it was imported says what will run next, not what runs now.

    Args:
        function: a function of the user's.
        decorated: whether its decorators belong to it.
    """
    code = function.__code__
    try:
        trees = _trees(code.co_filename, Path(code.co_filename).stat().st_mtime_ns)
    except (OSError, ValueError, SyntaxError):
        trees = {}
    if code in trees:
        return trees[code][0 if decorated else 1]
    return repr((_signature(function), list(_instructions(code))))


def references(code: types.CodeType) -> Iterator[tuple[str, ...]]:
    """Global names the code uses, each with attributes taken: ``("np", "linalg", "norm")``."""
    for one in _nested(code):
        instructions = [step for step in dis.get_instructions(one) if step.opname not in _SILENT]
        for place, step in enumerate(instructions):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                following = itertools.takewhile(_takes_attribute, instructions[place + 1 :])
                yield (str(step.argval), *(str(attribute.argval) for attribute in following))


def imports(code: types.CodeType) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Modules the code imports as it runs, with a dot for each level up, and the names taken from them."""
    for one in _nested(code):
        instructions = [step for step in dis.get_instructions(one) if step.opname not in _SILENT]
        for place, step in enumerate(instructions):
            if step.opname == "IMPORT_NAME":
                level, names = (before.argval for before in instructions[place - 2 : place])
                yield "." * level + str(step.argval), tuple(names or ())


def _takes_attribute(step: dis.Instruction) -> bool:
    return step.opname in ("LOAD_ATTR", "LOAD_METHOD")


@functools.lru_cache(maxsize=256)
def _trees(file: str, changed: int) -> dict[types.CodeType, tuple[str, str]]:
    """Each function of a file by its code: its tree as text with and without its decorators."""
    data = Path(file).read_bytes()
    tree = ast.parse(data)
    codes: dict[tuple[str, int], list[types.CodeType]] = {}
    for code in _nested(compile(tree, file, "exec", dont_inherit=True)):
        codes.setdefault((code.co_name, code.co_firstlineno), []).append(code)
    _WithoutDocstrings().visit(tree)
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            for code in codes.get((node.name, first), ()):
                whole = ast.dump(node, annotate_fields=False)
                node.decorator_list, kept = [], node.decorator_list
                found[code] = (whole, ast.dump(node, annotate_fields=False))
                node.decorator_list = kept
    return found


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


class _WithoutDocstrings(ast.NodeTransformer):
    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Module = _strip  # noqa: N815


def _signature(function: types.FunctionType) -> list[tuple[str, str, str]]:
    """Parameters and their annotations: which kind of frame a step is given depends on them."""
    noted = getattr(function, "__annotations__", {})
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    named = [(name, str(inspect.formatannotation(noted.get(name)))) for name in code.co_varnames[:count]]
    return [("parameter", name, text) for name, text in named] + [("flags", "", str(code.co_flags))]


def _instructions(code: types.CodeType) -> Iterator[tuple[str, str]]:
    """Instructions without line numbers, offsets and docstrings."""
    kept = [one for one in dis.get_instructions(code) if one.opname not in _SILENT]
    offsets = [one.offset for one in kept]
    for place, one in enumerate(kept):
        following = kept[place + 1] if place + 1 < len(kept) else None
        if following is not None and following.opname == "STORE_NAME" and following.argval == "__doc__":
            continue
        if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
            yield (one.opname, str(bisect_left(offsets, one.argval)))
        elif isinstance(one.argval, types.CodeType):
            yield (one.opname, repr(list(_instructions(one.argval))))
        elif isinstance(one.argval, frozenset):
            yield (one.opname, repr(sorted(map(repr, one.argval))))
        else:
            yield (one.opname, one.argval.__name__ if callable(one.argval) else repr(one.argval))
