"""Where a run came from: commit and uncommitted changes, installed packages, memory used."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from threading import Timer
from typing import IO, cast

__all__ = ["environment_lock", "git_state", "peak_memory"]

_LARGEST_DIFF = 1 << 20
_SECONDS = 10.0
# Neither a hook nor a converter that the repository's configuration names is run.
_DIFF = ("diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")


def git_state(folder: Path) -> tuple[str | None, bool, bytes]:
    """Commit, whether the project differs from it, and the difference (at most 1 MB).

    A changed tracked file makes a difference, and so does a Python file below ``folder`` that git does not
    know and is not told to ignore. Without git, outside a repository, or before its first commit:
    ``(None, False, b"")``.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None, False, b""
    diff = _git(folder, *_DIFF) or b""
    unknown = _git(folder, "ls-files", "--others", "--exclude-standard", "--", "*.py")
    return commit.decode().strip(), bool(diff or unknown), diff


def _git(folder: Path, *arguments: str) -> bytes | None:
    """The start of what git writes; None when it fails or takes too long."""
    # Variables such as GIT_DIR would make git look at another repository than the loop file's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ["git", "-c", "core.fsmonitor=false", *arguments]
    try:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None
    timer = Timer(_SECONDS, process.kill)
    timer.start()
    with process:
        pipe = cast("IO[bytes]", process.stdout)
        found = pipe.read(_LARGEST_DIFF)
        more = bool(pipe.read(1))
        if more:
            process.kill()
    timer.cancel()
    return found if more or process.returncode == 0 else None


@cache
def environment_lock() -> str:
    """Installed packages as sorted ``name==version`` lines, after a line with the Python version."""
    found: dict[str, str] = {}
    for one in distributions():
        # Reading the folder's name is some hundred times faster than parsing each package's metadata.
        folder = getattr(one, "_path", None)
        match = re.fullmatch(r"(.+)-([^-]+)\.dist-info", folder.name) if folder is not None else None
        name, version = match.groups() if match else (one.metadata["Name"], one.version)
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)  # the first on the path is imported
    lines = [f"{name}=={version}" for name, version in sorted(found.items())]
    return "\n".join([f"# python {platform.python_version()}", *lines]) + "\n"


def peak_memory() -> int:
    """The highest resident memory of this process so far, in bytes; 0 where the system does not say."""
    try:
        # Where there is such a file it counts from this program's start; getrusage also from its parent's.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    if match:
        return int(match[1]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
