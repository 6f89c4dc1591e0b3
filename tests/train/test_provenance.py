from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from noria.provenance import environment_lock, git_state, peak_memory


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "loop.py").write_text("LIMIT = 1\n")
    (folder / ".gitignore").write_text("scratch*\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_a_clean_repository_gives_its_commit(repository: Path) -> None:
    assert git_state(repository) == (git(repository, "rev-parse", "HEAD"), False, b"")


def test_a_changed_file_is_dirty_and_its_difference_is_given(repository: Path) -> None:
    (repository / "loop.py").write_text("LIMIT = 2\n")
    commit, dirty, diff = git_state(repository)
    assert commit is not None
    assert dirty
    assert b"-LIMIT = 1\n+LIMIT = 2" in diff


def test_a_python_file_unknown_to_git_is_dirty_unless_ignored(repository: Path) -> None:
    (repository / "scratch.py").write_text("")
    (repository / "notes.txt").write_text("")
    assert git_state(repository)[1:] == (False, b"")
    (repository / "helpers.py").write_text("")
    assert git_state(repository)[1:] == (True, b"")


def test_a_huge_difference_is_cut_off(repository: Path) -> None:
    (repository / "loop.py").write_text("X = 1\n" * 1_000_000)
    commit, dirty, diff = git_state(repository)
    assert commit is not None
    assert dirty
    assert len(diff) == 1 << 20


def test_no_repository_and_no_commit_and_no_git_give_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_state(tmp_path) == (None, False, b"")
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) == (None, False, b"")
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) == (None, False, b"")


def test_variables_of_git_do_not_lead_elsewhere(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git_state(repository)[0]
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    assert git_state(repository) == (commit, False, b"")


def test_a_program_named_by_the_repository_is_not_run(repository: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    git(repository, "config", "diff.external", f"touch {mark}")
    git(repository, "config", "core.fsmonitor", f"touch {mark}")
    git(repository, "config", "diff.show.textconv", f"touch {mark}; cat")
    (repository / ".gitattributes").write_text("*.py diff=show\n")
    (repository / "loop.py").write_text("LIMIT = 2\n")
    assert b"+LIMIT = 2" in git_state(repository)[2]
    assert not mark.exists()


def test_the_lock_lists_python_and_the_packages_in_order() -> None:
    first, *lines = environment_lock().splitlines()
    assert first == f"# python {platform.python_version()}"
    assert f"scikit-learn=={version('scikit-learn')}" in lines
    assert f"noria=={version('noria')}" in lines
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))


def test_peak_memory_is_of_this_process_in_bytes() -> None:
    before = peak_memory()
    block = b"x" * 80_000_000
    assert peak_memory() >= max(before, len(block))
    assert peak_memory() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
