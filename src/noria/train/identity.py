"""A function's identity: its code and everything of the user's that it calls or reads, transitively.

Covered: the function's syntax tree without positions, comments and docstrings; defaults and closures; globals
that are really used: constants by value, user functions and classes by recursion, user modules whole when used
as objects, installed packages by version; the Python minor version. Not seen: ``getattr`` with a computed
name, ``eval``, registries filled elsewhere, data files, environment variables, C code of the user's own.
"""

from __future__ import annotations

import ast
import dis
import enum
import functools
import importlib.metadata
import inspect
import re
import site
import sys
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from noria.core.hashing import digest_bytes, digest_json

__all__ = ["Identity", "code_identity"]

_LIBRARIES = tuple(
    f"{Path(path).resolve()}/"
    for path in {*site.getsitepackages(), sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    if path
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a step's code is.

    Attributes:
        digest: one digest for all parts.
        parts: each contributing thing by name (``helper clean (helpers.py)``, ``package polars``) to its digest or
            version, so that two identities can be compared part by part.
    """

    digest: str
    parts: dict[str, str]


def code_identity(function: Callable[..., Any]) -> Identity:
    """The identity of a function."""
    hasher = _Hasher()
    hasher.function(function, root=True)
    parts = dict(sorted(hasher.parts.items()))
    return Identity(digest_json(parts), parts)


class _WithoutDocstrings(ast.NodeTransformer):
    def _visit_body(self, node: Any) -> Any:
        self.generic_visit(node)
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Module = _visit_body  # noqa: N815


def _tree(thing: Any) -> str | None:
    """The syntax tree of a function or class as text, positions and docstrings left out; None without source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return None
    tree = _WithoutDocstrings().visit(tree)
    if tree.body and hasattr(tree.body[0], "decorator_list"):
        tree.body[0].decorator_list = []  # Noria's decorators only declare; their options are in the plan
    return ast.dump(tree, annotate_fields=False)


@functools.cache
def _package(name: str) -> tuple[str, str]:
    """The distribution an imported top-level name belongs to, and its version."""
    try:
        return name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = sorted(set(importlib.metadata.packages_distributions().get(name, ())))
        return ("+".join(found) or name), ",".join(importlib.metadata.version(one) for one in found) or "unknown"


def _is_user(module_name: str) -> bool:
    if module_name == "__main__":
        return True
    if module_name.split(".")[0] == "noria":
        return False
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return bool(file) and not str(Path(str(file)).resolve()).startswith(_LIBRARIES)


def _file(module_name: str) -> str:
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return Path(file).name if file else module_name


def _references(code: types.CodeType) -> Iterator[tuple[str, ...]]:
    """Global names a code object uses, each with the attributes taken from it; imports as ``("import", name)``."""
    instructions = list(dis.get_instructions(code))
    for place, one in enumerate(instructions):
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = [str(one.argval)]
            for following in instructions[place + 1 :]:
                if following.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                    chain.append(str(following.argval))
                elif following.opname not in ("CACHE", "PRECALL", "PUSH_NULL"):
                    break
            yield tuple(chain)
        elif one.opname == "IMPORT_NAME":
            yield ("import", str(one.argval))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _references(constant)


class _Hasher:
    def __init__(self) -> None:
        self.parts: dict[str, str] = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
        self._seen: set[int] = set()

    def function(self, function: Any, root: bool = False) -> None:
        """Add a user's function and all it uses."""
        function = inspect.unwrap(function)
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        module = function.__module__
        body = _tree(function)
        if body is None:
            code = function.__code__
            plain = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
            body = repr((code.co_code, plain, code.co_names))
        word = "function" if root else "helper"
        defaults = repr((self.value(function.__defaults__), self.value(function.__kwdefaults__)))
        self.parts[f"{word} {function.__qualname__} ({_file(module)})"] = digest_bytes((body + defaults).encode())
        self._links(function)

    def _links(self, function: Any) -> None:
        scope = function.__globals__
        for chain in sorted(set(_references(function.__code__))):
            if chain[0] == "import":
                self._module(sys.modules.get(chain[1]), chain[1], whole=True)
                continue
            if chain[0] not in scope:
                continue  # a builtin
            value, used = scope[chain[0]], 1
            while used < len(chain) and isinstance(value, types.ModuleType) and hasattr(value, chain[used]):
                if not _is_user(value.__name__):
                    break
                value, used = getattr(value, chain[used]), used + 1
            self.thing(".".join(chain[:used]), value, function.__module__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                self.thing(name, cell.cell_contents, function.__module__)
            except ValueError:
                continue  # an empty cell: a recursive function not yet bound

    def thing(self, name: str, value: Any, module: str) -> None:
        """Add whatever a name stands for."""
        if isinstance(value, types.ModuleType):
            self._module(value, value.__name__, whole=True)
        elif inspect.isroutine(inspect.unwrap(value)) if callable(value) else False:
            self._routine(value)
        elif isinstance(value, type):
            self._class(value)
        elif type(value).__module__.split(".")[0] == "noria":
            return  # the Loop and its policy values are in the plan
        else:
            self.parts[f"constant {name} ({_file(module)})"] = digest_bytes(repr(self.value(value)).encode())

    def _routine(self, value: Any) -> None:
        value = inspect.unwrap(value)
        if isinstance(value, types.MethodType):
            self._class(type(value.__self__))
            value = value.__func__
        module = getattr(value, "__module__", None) or type(value).__module__ or "builtins"
        if isinstance(value, types.FunctionType) and _is_user(module):
            self.function(value)
        else:
            self._installed(module)

    def _class(self, value: type) -> None:
        if not _is_user(value.__module__):
            self._installed(value.__module__)
            return
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        body = _tree(value) or repr(sorted(vars(value)))
        self.parts[f"class {value.__qualname__} ({_file(value.__module__)})"] = digest_bytes(body.encode())
        for base in value.__bases__:
            if base is not object:
                self._class(base)
        for member in vars(value).values():
            functions = (member.fget, member.fset) if isinstance(member, property) else (member,)
            for one in functions:
                one = getattr(one, "__func__", one)
                if isinstance(one, types.FunctionType):
                    self._links(one)

    def _module(self, module: types.ModuleType | None, name: str, whole: bool) -> None:
        if module is None or not _is_user(name):
            self._installed(name)
        elif whole and id(module) not in self._seen:
            self._seen.add(id(module))
            file = Path(str(module.__file__))
            tree = _WithoutDocstrings().visit(ast.parse(file.read_text(encoding="utf-8")))
            self.parts[f"module {name} ({file.name})"] = digest_bytes(ast.dump(tree, annotate_fields=False).encode())

    def _installed(self, module: str) -> None:
        top = module.split(".")[0]
        if top in sys.stdlib_module_names or top == "noria":
            return  # with the Python version; Noria's own code does not change what a step means
        name, version = _package(top)
        self.parts[f"package {name}"] = version

    def value(self, value: Any, depth: int = 0) -> Any:
        """A constant as plain text and tuples, equal for equal values on every machine."""
        if isinstance(value, (bool, int, float, complex, str, bytes, type(None), type(...))):
            return (type(value).__name__, repr(value))
        if depth > 20:
            return ("deep",)
        if isinstance(value, (list, tuple)):
            return (type(value).__name__, *(self.value(item, depth + 1) for item in value))
        if isinstance(value, (set, frozenset)):
            return (type(value).__name__, *sorted(repr(self.value(item, depth + 1)) for item in value))
        if isinstance(value, dict):
            return ("dict", *((self.value(k, depth + 1), self.value(v, depth + 1)) for k, v in value.items()))
        if isinstance(value, enum.Enum):
            return ("enum", type(value).__qualname__, self.value(value.value, depth + 1))
        if isinstance(value, re.Pattern):
            return ("pattern", value.pattern, value.flags)
        if isinstance(value, functools.partial):
            self.thing("partial", value.func, "functools")
            return ("partial", self.value(value.args, depth + 1), self.value(value.keywords, depth + 1))
        return self._object(value, depth)

    def _object(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._class(kind) if not isinstance(value, (type, types.FunctionType)) else self.thing("it", value, "")
        if is_dataclass(kind) and not isinstance(value, type):
            return (kind.__qualname__, *((f.name, self.value(getattr(value, f.name), depth + 1)) for f in fields(value)))
        package = kind.__module__.split(".")[0]
        if package == "numpy" and hasattr(value, "tobytes"):
            return ("numpy", str(value.dtype), str(value.shape), digest_bytes(value.tobytes()))
        if package == "polars" and hasattr(value, "to_frame"):
            return ("polars", repr(value.dtype), digest_json(value.to_list()))
        if package == "pandas" and hasattr(value, "to_json"):
            return ("pandas", digest_bytes(str(value.to_json()).encode()))
        state = getattr(value, "__dict__", None)
        if _is_user(kind.__module__) and isinstance(state, dict):
            return (kind.__qualname__, self.value(state, depth + 1))
        return ("opaque", kind.__module__, kind.__qualname__)
