"""What others wrote and we ship is exactly what is listed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "src/noria/ui/static/vendor"
LISTED = dict(re.findall(r"^\|[^|]+\|[^|]+\| (\S+) \| ([0-9a-f]{64}) \|", (VENDOR / "VENDORED.md").read_text(), re.M))


def test_every_vendored_file_is_listed_with_its_digest() -> None:
    files = {path.name for path in VENDOR.iterdir()} - {"VENDORED.md"}
    assert files == set(LISTED)


def test_every_vendored_file_is_unchanged() -> None:
    for name, digest in LISTED.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
