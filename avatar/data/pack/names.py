"""What records are called in the shards: by their own keys as far as those can be names of members."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

MAX_KEY = 200  # characters
_PASSED_OVER = "__MACOSX"  # a folder that no reader of shards looks into
_KEY = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*")


def clean_key(key: str) -> str:
    """``key`` in letters, digits, ``_``, ``-`` and ``/``; all else becomes ``_``. Empty where nothing is left.

    What is clean stays as it is. A longer one than ``MAX_KEY`` keeps its beginning, with a hash of the whole behind.
    """
    if len(key) <= MAX_KEY and _KEY.fullmatch(key) and key.partition("/")[0] != _PASSED_OVER:
        return key
    parts = [re.sub(r"[^A-Za-z0-9_-]+", "_", part).strip("_") for part in key.split("/")]
    cleaned = "/".join(part for part in parts if part)
    if len(cleaned) <= MAX_KEY:
        return cleaned
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{cleaned[: MAX_KEY - 13].rstrip('/')}-{digest}"


class Names:
    """Gives samples and their records names that nothing else has, in the order in which they are asked for.

    A sample with one record bears its key. One with several bears what their keys have in common before the last
    ``/``, as ``clip/q0`` and ``clip/q1`` do, or else the name of what they show; its records follow as
    ``SAMPLE/NAME``. A name that is taken gets ``-2``, ``-3`` and on behind it.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def reserve(self, key: str) -> bool:
        """Take ``key`` for the record that is called so already; False where it is taken or could not be a name."""
        if key in self._taken or clean_key(key) != key:
            return False
        self._taken.add(key)
        return True

    def one(self, key: str) -> str:
        """The name of a sample with one record."""
        return self._free(clean_key(key) or "record")

    def several(self, keys: Sequence[str], shown: str) -> tuple[str, list[str]]:
        """The name of a sample that shows the file ``shown``, and those of its records in it.

        The latter are in small letters and without ``/``.
        """
        cleaned = [clean_key(key) or "record" for key in keys]
        parents = {key.rpartition("/")[0] for key in cleaned}
        parent = parents.pop() if len(parents) == 1 else ""
        if parent:
            cleaned = [key.rpartition("/")[2] for key in cleaned]
        wanted = parent or clean_key(_stem(shown)) or cleaned[0]
        names = _distinct([key.replace("/", "_").lower() for key in cleaned])
        while True:
            sample = self._free(wanted)
            full = [f"{sample}/{name}" for name in names]
            if not self._taken.intersection(full):
                self._taken.update(full)
                return sample, names

    def _free(self, name: str) -> str:
        if name not in self._taken:
            self._taken.add(name)
            return name
        while True:
            number = self._next[name] = self._next.get(name, 1) + 1
            numbered = f"{name}-{number}"
            if numbered not in self._taken:
                self._taken.add(numbered)
                return numbered


def _stem(path: str) -> str:
    """A path without its extension; of an absolute one, which says where this machine has it, the last part alone."""
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0] or name
    return f"{folder}/{stem}" if folder and not path.startswith("/") else stem


def _distinct(names: list[str]) -> list[str]:
    """The same, with a number behind those that come again."""
    taken, seen = set(names), set[str]()
    counts: dict[str, int] = {}
    result = []
    for name in names:
        chosen = name
        while chosen in seen or (chosen != name and chosen in taken):
            counts[name] = counts.get(name, 1) + 1
            chosen = f"{name}-{counts[name]}"
        seen.add(chosen)
        result.append(chosen)
    return result
