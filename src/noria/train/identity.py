"""A function's identity: its code and everything of the user's that it calls or reads, transitively.

Covered: the code without positions, comments, layout and docstrings; annotations, defaults and closures; of
the globals that are really used, constants by value, functions, decorators and classes of the user's by
recursion, modules of the user's whole only when used as objects, installed packages by version; Python's
minor version. It is the identity of what is loaded, also when files were edited since.

Not seen: ``getattr`` with a computed name, ``eval``, registries filled elsewhere (but those of
``functools.singledispatch``), data files, environment variables, C code of the user's own. A constant too
deep or too large to be looked at whole always counts as changed.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from noria.core.hashing import digest_bytes, digest_json
from noria.train.bodies import body_of, imports, references
from noria.train.packages import is_user, package_of, place_of, root_of
from noria.train.values import Values

__all__ = ["Identity", "code_identity"]

_WRITTEN_BY_PYTHON = frozenset(
    ("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__annotate__",
     "__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl", "__dataclass_fields__",
     "__dataclass_params__", "__match_args__", "__static_attributes__", "__firstlineno__", "__hash__",
     "_member_map_", "_member_names_", "_value2member_map_", "_unhashable_values_", "_hashable_values_",
     "_unhashable_values_map_", "_member_type_", "_value_repr_", "_use_args_", "_new_member_",
     "_generate_next_value_")
)  # fmt: skip

_DESCRIPTORS = (property, staticmethod, classmethod, functools.cached_property, functools.partialmethod)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a step's code is.

    Attributes:
        digest: one digest for all parts.
        parts: each contributing thing by name (``train (loop.py)``, ``helper clean (helpers.py)``,
            ``constant LIMIT (loop.py)``, ``package polars``, ``python``) to its digest or version, so that
            two identities can be compared part by part.
    """

    digest: str
    parts: dict[str, str]


def code_identity(function: Callable[..., Any]) -> Identity:
    """The identity of a function of the user's."""
    walk = _Walk(root_of(_module_of(function)))
    walk.start(function)
    parts = {name: found[0] if len(found) == 1 else digest_json(found) for name, found in walk.parts.items()}
    parts = dict(sorted(parts.items()))
    return Identity(digest_json(parts), parts)


def _module_of(thing: Any) -> str:
    """The module a thing was written in; a decorator's wrapper claims to be from that of what it wraps."""
    if isinstance(thing, types.FunctionType):
        return str(thing.__globals__.get("__name__", "__main__"))
    return str(getattr(thing, "__module__", None) or type(thing).__module__)


class _Walk:
    """Goes from a function to all it uses, once each, and notes a part for each thing met."""

    def __init__(self, root: str) -> None:
        self.parts: dict[str, list[str]] = {}
        self._seen: dict[int, Any] = {}  # holds what it saw: a number freed could name another thing
        self._values = Values(self.thing, root)
        self._note("python", f"{sys.version_info.major}.{sys.version_info.minor}")

    def start(self, function: Callable[..., Any]) -> None:
        """Note the step's function itself."""
        if isinstance(function, types.FunctionType):
            self._function(function, "")
        else:
            self._constant("step", function, type(function).__module__)

    def thing(self, value: Any) -> None:
        """Note a function, class, module or method, and what it uses."""
        if isinstance(value, types.MethodType):
            self.thing(type(value.__self__))
            value = value.__func__
        module = _module_of(value)
        if isinstance(value, types.ModuleType):
            self._module(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.FunctionType) and is_user(module):
            self._function(value, "helper ")
        else:
            if module in sys.modules and not is_user(module):
                self._installed(module)
            if hasattr(value, "__wrapped__"):
                self.thing(value.__wrapped__)
            for one in _functions_behind(value):
                self.thing(one)

    def _note(self, name: str, value: str) -> None:
        found = self.parts.setdefault(name, [])
        if value not in found:
            found.append(value)

    def _is_new(self, value: Any) -> bool:
        new = id(value) not in self._seen
        self._seen[id(value)] = value
        return new

    def _function(self, function: types.FunctionType, word: str) -> None:
        if not self._is_new(function):
            return
        name = getattr(function.__code__, "co_qualname", function.__qualname__)
        given = self._values.plain([function.__defaults__, function.__kwdefaults__])
        text = body_of(function, decorated=bool(word)) + repr(given)
        self._note(f"{word}{name} ({place_of(_module_of(function))})", digest_bytes(text.encode()))
        self._uses(function)
        if hasattr(function, "__wrapped__"):
            self.thing(function.__wrapped__)

    def _uses(self, function: types.FunctionType) -> None:
        scope, module = function.__globals__, _module_of(function)
        for chain in sorted(set(references(function.__code__))):
            if chain[0] in scope:
                self._name(chain, scope[chain[0]], module)
        for imported, names in sorted(set(imports(function.__code__))):
            self._import(imported, names, str(scope.get("__package__") or ""))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                self._named(name, cell.cell_contents, module)
            except ValueError:
                continue  # still empty: the name of a function that calls itself while being made

    def _name(self, chain: tuple[str, ...], value: Any, module: str) -> None:
        used = 1
        while used < len(chain) and isinstance(value, types.ModuleType) and is_user(value.__name__):
            if not hasattr(value, chain[used]):
                break
            module, value, used = value.__name__, getattr(value, chain[used]), used + 1
        self._named(chain[used - 1], value, module)

    def _named(self, name: str, value: Any, module: str) -> None:
        if isinstance(value, (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
            self.thing(value)
            if isinstance(value, types.MethodType):
                self._constant(name, value.__self__, module)
        elif type(value).__module__.split(".")[0] != "noria":  # the Loop and its policy values are in the plan
            self._constant(name, value, module)

    def _constant(self, name: str, value: Any, module: str) -> None:
        plain = repr(self._values.plain(value))
        self._note(f"constant {name} ({place_of(module)})", digest_bytes(plain.encode()))

    def _class(self, value: type) -> None:
        if not is_user(value.__module__):
            self._installed(value.__module__)
            return
        if not self._is_new(value):
            return
        held: list[Any] = []
        for name, member in sorted(vars(value).items()):
            if name in _WRITTEN_BY_PYTHON or isinstance(
                member, (types.MemberDescriptorType, types.GetSetDescriptorType)
            ):
                continue
            functions = [one for one in _functions_in(member) if is_user(_module_of(one))]
            for one in functions:
                self._method(one, held)
            if not functions:
                held.append((name, self._values.plain(member)))
        noted = {key: str(note) for key, note in vars(value).get("__annotations__", {}).items()}
        for field in vars(value).get("__dataclass_fields__", {}).values():
            held.append((field.name, self._values.plain([field.default, field.default_factory])))
        bases = [f"{base.__module__}.{base.__qualname__}" for base in value.__bases__]
        text = repr((bases, noted, str(vars(value).get("__dataclass_params__")), held))
        self._note(f"class {value.__qualname__} ({place_of(value.__module__)})", digest_bytes(text.encode()))
        for base in (*value.__bases__, type(value)):
            self._class(base)

    def _method(self, method: types.FunctionType, held: list[Any]) -> None:
        """Code of a method belongs to its class; what it uses are parts of their own."""
        if not self._is_new(method):
            return
        if method.__code__.co_filename == "<string>":
            return  # written by dataclass or NamedTuple, from fields that are noted
        given = self._values.plain([method.__defaults__, method.__kwdefaults__])
        held.append((method.__code__.co_name, body_of(method, decorated=True), given))
        self._uses(method)

    def _module(self, module: types.ModuleType) -> None:
        """A user's module as a whole: it was passed on as an object, or imported within a function."""
        if not is_user(module.__name__):
            self._installed(module.__name__)
            return
        if not self._is_new(module):
            return
        names = sorted(name for name in vars(module) if not name.startswith("__"))
        place = place_of(module.__name__)
        self._note(f"module {module.__name__} ({place})", digest_json(names))
        for name in names:
            self._named(name, vars(module)[name], module.__name__)

    def _import(self, name: str, names: tuple[str, ...], package: str) -> None:
        """An import within a function; a user's module is imported here, as the function is about to do."""
        level = len(name) - len(name.lstrip("."))
        full = ".".join([*package.split(".")[: package.count(".") + 2 - level], name[level:]]) if level else name
        full = full.strip(".")
        if not is_user(full):
            self._installed(full)
            return
        try:
            module = importlib.import_module(full)
            for one in names:
                if not hasattr(module, one):
                    importlib.import_module(f"{full}.{one}")
        except Exception as error:  # noqa: BLE001 - a module of the user's may raise anything
            self._note(f"module {full}", f"cannot be imported: {type(error).__name__}")
            return
        if not names:
            self._module(module)
        for one in names:
            self._named(one, getattr(module, one), full)

    def _installed(self, module: str) -> None:
        top = module.split(".")[0]
        if top in sys.stdlib_module_names or top == "__main__":
            return  # with the Python version
        name, version = package_of(top)
        self._note(f"package {name}", version)


def _functions_in(member: Any) -> Iterator[types.FunctionType]:
    """The functions of a class's member: itself, a property's, a class method's, or what is wrapped."""
    waiting = [member]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, types.FunctionType):
            yield one
        if isinstance(one, (types.FunctionType, *_DESCRIPTORS)):
            inner = [getattr(one, name, None) for name in ("fget", "fset", "fdel", "func", "__wrapped__")]
            waiting += [found for found in inner if found is not None]


def _functions_behind(wrapper: Any) -> Iterator[types.FunctionType]:
    """The user's functions that a function of somebody else's calls: held in its closure, or registered with it."""
    cells = getattr(wrapper, "__closure__", None) or ()
    registered = getattr(wrapper, "registry", None)  # of functools.singledispatch
    held: list[Any] = [*registered.values()] if isinstance(registered, types.MappingProxyType) else []
    for cell in cells:
        try:
            held.append(cell.cell_contents)
        except ValueError:
            continue  # still empty
    yield from (one for one in held if isinstance(one, types.FunctionType) and is_user(_module_of(one)))
