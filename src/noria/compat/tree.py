"""Files below a folder that somebody else wrote: read without ever leaving it, by links or by names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from noria.errors import DataError, NotFound

__all__ = ["Tree"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Tree:
    """The plain files below ``root``. Links, and what is neither file nor folder, are passed over."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def inner(self, *parts: str) -> Tree | None:
        """The tree of a folder below, or None if it is not there (a link is not there)."""
        try:
            os.close(self._folder(parts))
        except (OSError, NotFound):
            return None
        return _Inner(self, parts)

    def walk(self) -> Iterator[tuple[str, int]]:
        """Every file below: its path, with ``/``, and its size."""
        yield from self._below(())

    def _below(self, parts: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        for name, kind in self.entries(*parts):
            path = (*parts, name)
            if stat.S_ISDIR(kind.st_mode):
                yield from self._below(path)
            else:
                yield "/".join(path), kind.st_size

    def entries(self, *parts: str) -> list[tuple[str, os.stat_result]]:
        """Files and folders directly in a folder below, by name; empty if it is not there."""
        try:
            handle = self._folder(parts)
        except (OSError, NotFound):
            return []
        found = []
        try:
            for name in sorted(os.listdir(handle)):  # noqa: PTH208 - by handle, so that no link is followed
                with suppress(OSError):
                    kind = os.stat(name, dir_fd=handle, follow_symlinks=False)
                    if stat.S_ISREG(kind.st_mode) or stat.S_ISDIR(kind.st_mode):
                        found.append((name, kind))
        finally:
            os.close(handle)
        return found

    def folders(self, *parts: str) -> list[str]:
        """Names of the folders directly in a folder below."""
        return [name for name, kind in self.entries(*parts) if stat.S_ISDIR(kind.st_mode)]

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """One file's bytes.

        Raises:
            NotFound: there is no such plain file.
        """
        *parents, name = path.split("/")
        try:
            folder = self._folder(tuple(parents))
            try:
                handle = os.open(_plain(name), _FILE, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise NotFound(f"There is no file {path[:200]!r} in {self._root}: {error.strerror}.") from None
        with os.fdopen(handle, "rb") as opened:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise NotFound(f"{path[:200]!r} in {self._root} is not a plain file.")
            yield opened

    def text(self, path: str, most: int = 1 << 20) -> str:
        """One file as text, of at most ``most`` bytes.

        Raises:
            DataError: it is longer, or not UTF-8.
            NotFound: there is no such plain file.
        """
        with self.open(path) as opened:
            data = opened.read(most + 1)
        if len(data) > most:
            raise DataError(f"{path[:200]!r} in {self._root} is over {most} bytes.")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise DataError(f"{path[:200]!r} in {self._root} is not UTF-8 text.") from None

    def _folder(self, parts: tuple[str, ...]) -> int:
        """A handle on a folder below, opened one step after the other so that no link is followed."""
        handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts:
            try:
                inner = os.open(_plain(part), _FOLDER, dir_fd=handle)
            finally:
                os.close(handle)
            handle = inner
        return handle


class _Inner(Tree):
    """A tree within a tree: its own root is below, so the steps to it are taken anew without links."""

    def __init__(self, outer: Tree, parts: tuple[str, ...]) -> None:
        super().__init__(outer._root)
        self._outer, self._parts = outer, parts

    def _folder(self, parts: tuple[str, ...]) -> int:
        return self._outer._folder((*self._parts, *parts))


def _plain(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise NotFound(f"{name[:80]!r} is not the name of a file.")
    return name
