"""What the source formats have in common: problem types, options, gold answers, keys, and what is left over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from string import ascii_uppercase
from typing import Any

from avatar.answers import gold_answer, payloads
from avatar.data.pack.formats import Embedded, Shown
from avatar.data.schema import MEDIA_KINDS
from avatar.errors import DataError

TYPES = {
    "choice": "choice", "multiple choice": "choice", "mcq": "choice",
    "number": "number", "numerical": "number", "regression": "number", "counting": "number",
    "ocr": "ocr", "text recognition": "ocr",
    "free": "free", "free form": "free", "open ended": "free", "descriptive": "free",
    "exact": "exact", "code": "exact", "default": "exact",
    "location": "location", "localization": "location", "localisation": "location",
}  # fmt: skip
KEY_FIELDS = ("key", "id", "prompt_id", "problem_id", "question_id")
EXTENSIONS = {
    "video": ("mp4", "m4v", "mov", "mkv", "webm", "avi", "flv", "ts", "mpg", "mpeg", "wmv", "3gp", "ogv"),
    "image": ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"),
    "audio": ("wav", "flac", "mp3", "m4a", "aac", "ogg", "opus"),
}
_LETTERED = re.compile(r"\s*\(?([A-Z])[.):]\s*(\S.*)", re.DOTALL)


class Fields:
    """The fields of a source record, taken out one by one; what is left at the end is metadata."""

    def __init__(self, row: dict[str, Any]) -> None:
        self._left = {name: value for name, value in row.items() if value is not None}

    def take(self, *names: str) -> Any:
        """The first of these that is there, or None."""
        return next((self._left.pop(name) for name in names if name in self._left), None)

    def text(self, *names: str) -> str | None:
        """The first of these that is there, which must be text; or None.

        Raises:
            DataError: It is something else.
        """
        name = next((name for name in names if name in self._left), "")
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise DataError(f"field {name!r} must be text, got {type(value).__name__}")
        return value

    def key(self) -> str | None:
        """What the source calls the record."""
        value = self.take(*KEY_FIELDS)
        return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" else None

    def common(self) -> dict[str, Any]:
        """The fields that all sources call as we do, and what is left over as ``metadata``."""
        fields = {
            "hint": self.text("hint"),
            "show_hint": self.take("show_hint"),
            "audio_caption": self.text("audio_caption", "audio_cues"),
            "use_audio_in_video": self.take("use_audio_in_video"),
        }
        given = self.take("metadata")
        left = {**(given if isinstance(given, dict) else {}), **self._left}
        metadata = {name: value for name, value in left.items() if _is_json(value)}
        return {name: value for name, value in {**fields, "metadata": metadata}.items() if value not in (None, {})}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def problem_type(given: Any, options: Sequence[str]) -> str:
    """Our name of a problem type; where none is given ``choice`` with options and ``exact`` without.

    Raises:
        DataError: It is none that we know.
    """
    if given is None or given == "":
        return "choice" if options else "exact"
    name = " ".join(re.split(r"[\s_-]+", str(given).strip().lower()))
    if name not in TYPES:
        raise DataError(f"problem_type {given!r} is none of {', '.join(TYPES)}; rename it, or leave the record out")
    return TYPES[name]


def option_texts(given: Any) -> list[str]:
    """Option texts without letters, from a list of texts or of ``{"label", "text"}``, or from ``{"A": text}``.

    Letters are taken off where every option bears its own: ``A. red``, ``(B) green``.

    Raises:
        DataError: They are none of these, or letters and places are at odds.
    """
    if given is None or given == "":
        return []
    if isinstance(given, dict):
        given = [{"label": label, "text": text} for label, text in given.items() if text is not None]
    if not isinstance(given, list):
        raise DataError(f"field 'options' must be a list of texts, got {type(given).__name__}")
    if given and all(isinstance(option, dict) for option in given):
        labels = [option.get("label") for option in given]
        if labels != list(ascii_uppercase[: len(labels)]):
            raise DataError(f"options must be labelled A, B, C and so on in this order, got {labels}")
        given = [option.get("text") for option in given]
    if wrong := [option for option in given if isinstance(option, bool) or not isinstance(option, (str, int, float))]:
        raise DataError(f"field 'options' must hold texts, got {wrong[0]!r}")
    return strip_letters([str(option) for option in given])


def strip_letters(options: list[str]) -> list[str]:
    """Options without their letters, if each bears its own and has text behind it; else as they are."""
    found = [_LETTERED.fullmatch(option) for option in options]
    if len(options) <= len(ascii_uppercase) and all(
        m and m[1] == letter for m, letter in zip(found, ascii_uppercase, strict=False)
    ):
        return [m[2].strip() for m in found if m]
    return options


def options_in(text: str) -> list[str]:
    """The options that stand in a question, one a line, lettered from A on; empty where there are fewer than two."""
    options: list[str] = []
    for line in text.splitlines():
        found = _LETTERED.fullmatch(line)
        if found and len(options) < len(ascii_uppercase) and found[1] == ascii_uppercase[len(options)]:
            options.append(found[2].strip())
        elif found and found[1] == "A":  # another list begins; which of them is meant?
            return []
    return options if len(options) > 1 else []


def answer_in(given: Any, field: str) -> str | None:
    """A gold answer as text, without ``<answer>`` tags; None where there is none.

    Raises:
        DataError: It is no text and no number, or holds tags that differ.
    """
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise DataError(f"field {field!r} must be text or a number, got {type(given).__name__}")
    found = set(payloads(str(given)))
    if len(found) > 1:
        raise DataError(f"field {field!r} has {len(found)} answers that differ: {sorted(found)}")
    return found.pop() or None


def payload_of(chain: str | None) -> str | None:
    """What stands in the ``<answer>`` tags of a gold completion; None without one, or with several that differ."""
    if chain is None or "<answer>" not in chain.lower():
        return None
    found = set(payloads(chain))
    return found.pop() or None if len(found) == 1 else None


def check_chain(chain: str | None, answer: str, kind: str, options: list[str]) -> None:
    """See that a gold completion ends in the gold answer.

    Raises:
        DataError: Both can be read, and they differ.
    """
    told = payload_of(chain)
    if told is None or kind not in ("choice", "number", "exact", "location"):
        return
    try:
        same = gold_answer(told, kind, options) == gold_answer(answer, kind, options)
    except ValueError:
        return  # the schema says what is wrong with the gold answer; the chain's may have words around it
    if not same:
        raise DataError(f"the gold completion answers {told!r}, but the gold answer is {answer!r}; which is right?")


def files_of(value: Any, field: str) -> Iterator[str | Embedded]:
    """The files that a field names: a path, ``{"path", "bytes"}``, or a list of these.

    Raises:
        DataError: It is something else.
    """
    if isinstance(value, list):
        for item in value:
            yield from files_of(item, field)
    elif isinstance(value, str) and value:
        yield value
    elif isinstance(value, bytes):
        yield Embedded(value)
    elif isinstance(value, dict) and set(value) <= {"path", "bytes"} and isinstance(value.get("bytes"), bytes):
        yield Embedded(value["bytes"], value.get("path"))
    elif isinstance(value, dict) and set(value) <= {"path", "bytes"} and isinstance(value.get("path"), str):
        if value.get("bytes") is not None:
            raise DataError(f"field {field!r} holds a file as text; put it in a file of its own and give its path")
        yield value["path"]
    elif value is not None:
        raise DataError(f"field {field!r} must name a file, got {_short(value)}")


def kind_of(name: str) -> str:
    """``video``, ``image`` or ``audio`` by a file name's extension.

    Raises:
        DataError: It is none that we know.
    """
    extension = name.rpartition(".")[2].lower()
    for kind, extensions in EXTENSIONS.items():
        if extension in extensions:
            return kind
    raise DataError(f"{name!r}: no video, image or audio by its extension; say which, in a field of that name")


def take_media(fields: Fields) -> list[Shown]:
    """What the fields ``video(s)``, ``image(s)`` and ``audio(s)`` name, in this order."""
    return [
        Shown(kind, file)
        for kind in MEDIA_KINDS
        for name in (kind, f"{kind}s")
        for file in files_of(fields.take(name), name)
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
