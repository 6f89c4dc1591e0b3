"""Environments of other tools' packages, kept apart from the project's own and made once per machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["client_python"]


def _cache() -> Path:
    given = os.environ.get("NORIA_TEST_ENVIRONMENTS")
    return Path(given) if given else Path.home() / ".cache" / "noria" / "environments"


def client_python(*requirements: str) -> Path:
    """The Python of an environment with these packages; the test is skipped where it cannot be made.

    Made with uv if there is one, else with venv and pip, on first use; kept outside the checkout.
    """
    text = "\n".join((sys.version.split()[0], *requirements))
    name = re.sub(r"[^\w.]+", "-", requirements[0]) + "-" + hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = _cache() / name
    python, done = folder / "bin" / "python", folder / "done"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            for command in _commands(folder, python, requirements):
                made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
                if made.returncode:
                    shutil.rmtree(folder, ignore_errors=True)
                    pytest.skip(f"no environment of {' '.join(requirements)}: {made.stderr.strip()[-300:]}")
            done.touch()
    return python


def _commands(folder: Path, python: Path, requirements: tuple[str, ...]) -> list[list[str]]:
    uv = shutil.which("uv")
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *requirements],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
    ]
