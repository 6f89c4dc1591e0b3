"""Steps by key: what went in decides whether a step is run again.

The key holds the function's transitive code, the digests of its inputs, its knobs and the packages it uses.
Outputs are kept apart, by digest; the key's parts are kept beside it, so that two runs can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from noria.core.hashing import digest_json
from noria.records import StepTrace
from noria.store.ports import Blobs, CacheEntry, Ledger
from noria.train.identity import Identity

__all__ = ["StepCache", "compare_parts"]


class StepCache:
    """Runs steps of one loop, or finds what they gave before.

    Args:
        ledger: where keys are kept.
        blobs: where outputs are.
        loop: name of the loop.
        now: stamps new entries.
    """

    def __init__(self, ledger: Ledger, blobs: Blobs, loop: str, now: datetime) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._loop = loop
        self._now = now
        self.traces: list[StepTrace] = []

    def run(
        self,
        step: str,
        identity: Identity,
        inputs: Mapping[str, str],
        knobs: Mapping[str, Any],
        compute: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """The step's outputs: name to blob digest or plain value.

        Args:
            step: the function's name.
            identity: its transitive code.
            inputs: digest of each input.
            knobs: its knobs.
            compute: runs it and stores its outputs; called only when the key is new.
        """
        started = time.perf_counter()
        parts = {f"code {name}": value for name, value in identity.parts.items()}
        parts |= {f"input {name}": digest for name, digest in inputs.items()}
        parts |= {f"knob {name}": digest_json(repr(value)) for name, value in knobs.items()}
        key = digest_json({"step": step, "code": identity.digest, "parts": parts})
        with self._ledger.read() as db:
            entry = db.find(CacheEntry, key=key)
        if entry is not None and self._whole(entry):
            self.traces.append(StepTrace(step, key, True, time.perf_counter() - started, parts))
            return entry.outputs
        outputs = compute()
        seconds = time.perf_counter() - started
        made = CacheEntry(key, step, self._loop, self._now, outputs, parts, seconds)
        self._ledger.write(lambda tx: tx.put(made))
        self.traces.append(StepTrace(step, key, False, seconds, parts))
        return outputs

    def _whole(self, entry: CacheEntry) -> bool:
        """Whether every blob an entry names is still there."""
        return all(self._blobs.has(digest) for digest in _digests(entry.outputs))


def _digests(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.startswith("blake3:") else []
    if isinstance(value, dict):
        return [digest for item in value.values() for digest in _digests(item)]
    return []


def compare_parts(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs between two keys, a line each; empty when they are the same."""
    lines = [f"{name} changed" for name in before if name in after and before[name] != after[name]]
    lines += [f"{name} is new" for name in after if name not in before]
    lines += [f"{name} is gone" for name in before if name not in after]
    return sorted(lines)
