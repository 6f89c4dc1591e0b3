"""Where a run came from: commit and uncommitted changes, installed packages, memory used."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

__all__ = ["environment_lock", "git_state", "peak_memory"]

_LARGEST_DIFF = 1 << 20
_SECONDS = 10


def _git(folder: Path, *arguments: str) -> bytes | None:
    # Variables such as GIT_DIR would make git look at another repository than the loop file's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def git_state(folder: Path) -> tuple[str | None, bool, bytes]:
    """Commit, whether tracked files differ from it, and the difference (at most 1 MB).

    Without git, outside a repository, or before its first commit: ``(None, False, b"")``.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, False, b""
    diff = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or b""
    return commit.decode().strip(), bool(diff), diff[:_LARGEST_DIFF]


@cache
def environment_lock() -> str:
    """Installed packages as sorted ``name==version`` lines, after a line with the Python version."""
    found = set()
    for one in distributions():
        # Reading the file name is some hundred times faster than parsing each package's metadata.
        name = getattr(one, "_path", None)
        match = re.fullmatch(r"(.+)-([^-]+)\.(dist|egg)-info", name.name) if name is not None else None
        pair = (match[1], match[2]) if match else (one.metadata["Name"], one.version)
        found.add(f"{re.sub(r'[-_.]+', '-', pair[0]).lower()}=={pair[1]}")
    return "\n".join([f"# python {platform.python_version()}", *sorted(found)]) + "\n"


def peak_memory() -> int:
    """The highest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
