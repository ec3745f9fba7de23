"""CG-AV-Counting's white-box part: when and where the things are that are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from avatar.benchmarks.av_counting import AVCounting, groups_of, text_of, video_of
from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import take
from avatar.benchmarks.question import Question
from avatar.benchmarks.rules.clue_answers import frame_times, score_clues
from avatar.data.schema import Medium
from avatar.errors import DataError

STILL = 0.1  # seconds of film that stand for a frame
TASKS = {
    "event": "Say when each begins and ends, in seconds, as JSON in the answer: "
    '<answer>[["START", "END"], ...]</answer>.',
    "object": "Give the box of each in the first frame that shows it, in pixels, and none in later ones, as JSON in "
    'the answer: <answer>{"Frame1": [[x_min, y_min, x_max, y_max], ...], "Frame2": [], ...}</answer>.',
    "attribute": "Sort them as the question asks, and give each kind a label. Give the box of each in the first frame "
    "that shows it, in pixels, and none in later ones, as JSON in the answer: <answer>"
    '{"Frame 1": [{"bbox": [x_min, y_min, x_max, y_max], "label": "LABEL"}, ...], "Frame 2": [], ...}</answer>.',
}


@BENCHMARKS.register("av_counting_clues")
class AVCountingClues(AVCounting):
    """The same questions, asked for the clues: when an event is, where objects are, and which of them are alike.

    The headline is the white-box score (WCS); ``ifa`` is the share of answers whose format can be read. Objects and
    attributes are asked for on frames at the clues' times. The size of these is not told, unlike in the benchmark's own
    prompt: the model sees them scaled, and boxes are in pixels of the file.

    Reference:
        AV-Reasoner, arXiv 2506.05328; github.com/AV-Reasoner/AV-Reasoner, ``eval/white_box_evaluation.py``.
    """

    title = "AV-Counting, clues"
    metric = "WCS"
    scorings = ("avatar", "official")
    qtype_optional = False
    published: ClassVar[Mapping[str, float]] = {}
    elsewhere: ClassVar[Mapping[str, float]] = {"Qwen2.5-Omni-7B (AV-Reasoner)": 0.41}

    def to_question(self, record: Any, key: str, root: Path, where: str) -> Question:
        """The question of a record, its clues for gold."""
        category, clues = take(record, "category", str, where), take(record, "clue", list, where)
        if category not in TASKS:
            raise DataError(
                f"{where}: category must be one of {', '.join(TASKS)}, is {category!r}", "broken annotation"
            )
        text, video = f"{text_of(record, where)} {TASKS[category]}", video_of(record, root, where)
        times = _times(category, clues, where)
        return Question(
            key=key,
            text=text,
            gold={"category": category, "clue": clues, "answer": take(record, "answer", (int, float, str), where)},
            problem_type="clue",
            media=tuple(Medium("video", video, time, time + STILL) for time in times) or (Medium("video", video),),
            qtype=f"clue_{category}",
            groups=groups_of(record, where),
            parts=_parts(text, len(times)),
        )


def _parts(text: str, num_frames: int) -> tuple[Mapping[str, str], ...]:
    """Frames with their names, and the text; nothing where the video is shown as a whole."""
    shown: list[Mapping[str, str]] = []
    for number in range(1, num_frames + 1):
        shown += [{"type": "text", "text": f"Frame{number}: "}, {"type": "video"}]
    return (*shown, {"type": "text", "text": f"\n{text}"}) if shown else ()


def _times(category: str, clues: Sequence[Any], where: str) -> list[float]:
    """When the frames are that are shown, none for events; after a look whether the clues can be scored at all."""
    if score_clues("[]" if category == "event" else "{}", category, clues) is None:
        raise DataError(f"{where}: field 'clue' is none of category {category!r}: {clues!r:.120}", "broken annotation")
    times = [] if category == "event" else frame_times([clues] if category == "object" else clues)
    for time in times:
        take({"timestamp": time}, "timestamp", (int, float), where)
    return [float(time) for time in times]
