r"""Reads the JSON of a clue-grounded answer of AV-Counting, and scores it.

===========  ==============================================================================================
category     answer
===========  ==============================================================================================
event        ``[["12.5", "14"], ["1:02", "1:04.5"]]``: seconds, or minutes and seconds; numbers without quotes too
object       ``{"Frame1": [[x, y, x, y], ...], "Frame2": []}``, or two corners ``[[x, y], [x, y]]`` for each
attribute    ``{"Frame 1": [{"bbox": [x, y, x, y], "label": "red"}]}``
===========  ==============================================================================================

Frames are counted from 1 in the order in which the clues name their times.
"""

from __future__ import annotations

import json
import re
from typing import Any

from avatar.benchmarks.rules.clues import Framed, Interval, score_boxes, score_clusters, score_intervals

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_CLOSES = {"}": "{", "]": "["}
# What an answer of another shape runs into, wherever it is read: there, anything at all is a format error.
_SHAPE = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)


def payload(reply: str) -> str:
    """The first ``<answer>``, or the whole reply."""
    found = _TAG.search(reply)
    return (found[1] if found else reply).strip()


def is_json(text: str) -> bool:
    """Whether ``text`` is JSON and nothing else."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def score_clues(text: str, category: str, clues: Any) -> float | None:
    """The white-box score of an answer, see :mod:`avatar.benchmarks.rules.clues`.

    Args:
        text: JSON, or a text around it: then the first outermost list or object that is JSON.
        category: ``event``, ``object`` or ``attribute``.
        clues: As in the benchmark's file.

    Returns:
        0 to 1; None where the answer's format is wrong.
    """
    try:
        said = _read_json(text)
        if category == "event":
            gold = [(float(clue["start"]), float(clue["end"])) for clue in clues]
            return score_clusters([gold], [_intervals(said)], score_intervals)
        wanted = gold_boxes([clues] if category == "object" else clues)
        found = [_boxes(said)] if category == "object" else _labelled(said)
        return score_clusters(wanted, found, score_boxes)
    except (*_SHAPE, RecursionError):
        return None


def gold_boxes(clusters: Any) -> list[list[Framed]]:
    """Clues with the number of their frame in place of its time; see :func:`frame_times`."""
    times = frame_times(clusters)
    return [[(times.index(clue["timestamp"]), clue["bbox"]) for clue in cluster] for cluster in clusters]


def frame_times(clusters: Any) -> list[float]:
    """The times of the frames that are shown, in seconds: each once, in the order in which the clues name them."""
    return list(dict.fromkeys(clue["timestamp"] for cluster in clusters for clue in cluster))


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _outer_json(text)


def _outer_json(text: str) -> Any:
    """The first outermost ``[...]`` or ``{...}`` that is JSON; a closing bracket of the wrong kind is passed over."""
    open_: list[str] = []
    begin = 0
    for place, char in enumerate(text):
        if char in "[{":
            begin = begin if open_ else place
            open_.append(char)
        elif open_ and _CLOSES.get(char) == open_[-1]:
            open_.pop()
            if not open_:
                try:
                    return json.loads(text[begin : place + 1])
                except ValueError:
                    continue
    raise ValueError("no JSON")


def _intervals(said: Any) -> list[Interval]:
    return [_interval(item[0], item[1]) for item in said]


def _interval(start: Any, end: Any) -> Interval:
    if isinstance(start, str) and isinstance(end, str) and ":" in start and ":" in end:
        return _clock(start), _clock(end)
    first, last = (float(side.split(" ")[0]) if isinstance(side, str) else side for side in (start, end))
    return first, last


def _clock(text: str) -> float:
    """``1:02.5`` and ``1:01:02.5`` in seconds."""
    whole, _, fraction = text.strip().partition(".")
    seconds, parts = 0, [int(part) for part in whole.split(":")]
    if len(parts) not in (2, 3) or "." in fraction:
        raise ValueError(f"no time: {text!r}")
    for part in parts:
        seconds = 60 * seconds + part
    return seconds + (float(f"0.{fraction}") if "." in text else 0.0)


def _frames(said: Any) -> list[tuple[int, Any]]:
    """(number from 0, what is said of it) for each key with ``Frame`` in it; other keys are passed over."""
    return [(int(key.replace("Frame", "")) - 1, items) for key, items in said.items() if "Frame" in key]


def _boxes(said: Any) -> list[Framed]:
    found: list[Framed] = []
    for frame, items in _frames(said):
        if len(items) == 0:
            continue
        if _is_list(items[0], 4):
            found += [(frame, item) for item in items if _is_list(item, 4)]
        elif _is_list(items[0], 2):
            corners = zip(items[::2], items[1::2], strict=False)
            found += [(frame, [*a, *b]) for a, b in corners if _is_list(a, 2) and _is_list(b, 2)]
    return found


def _labelled(said: Any) -> list[list[Framed]]:
    found: dict[Any, list[Framed]] = {}
    for frame, items in _frames(said):
        for item in items:
            cluster = found.setdefault(item["label"], [])
            cluster += [(frame, item[name]) for name in ("bbox", "bbox_2d") if name in item and _has_four(item[name])]
    return list(found.values())


def _is_list(item: Any, length: int) -> bool:
    return isinstance(item, list) and len(item) == length


def _has_four(item: Any) -> bool:
    return len(item) == 4 and isinstance(item, list)
