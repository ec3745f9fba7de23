"""Video-MMMU: lectures of 30 subjects; what was shown in them, what it means, and a new problem to solve with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from avatar.answers import normalize, payloads
from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, first_there, read_json, take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import read_records, take_letter, take_options
from avatar.benchmarks.rules.mmmu import MARKS, Form, mmmu_choice
from avatar.benchmarks.rules.mmmu_open import normalized, open_match
from avatar.benchmarks.rules.ours import grade_answer
from avatar.data.schema import Medium
from avatar.errors import DataError

CHOICE, OPEN = "multiple-choice", "open"
FORMS: tuple[Form, ...] = (("{}.", "{}."), ("{}:", "{}:"), ("({})", "({})"), ("{} ", " {} "))
NO_REPLY = ("", "API Error")
TRACKS = ("Perception", "Comprehension", "Adaptation")
IGNORE = "\nThe quiz in the last frame of the video is no part of this question."
APPLY = "Learn from the video, then use it to answer this question. Its picture is the last frame of the video.\n"
DISCIPLINES = {
    "Art": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Medicine": (
        *("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy"),
        "Public_Health",
    ),
    "Humanities": ("History", "Literature", "Sociology", "Psychology"),
    "Engineering": (
        *("Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power"),
        *("Materials", "Mechanical_Engineering"),
    ),
}
_SUBJECT = re.compile(r"[^_]+_(.+)_\d+")


@BENCHMARKS.register("video_mmmu")
class VideoMMMU(FileBenchmark):
    """Three tracks of 300 questions, most with options; the video of the last track ends with the problem's picture.

    By its own code a reply that is empty leaves the mean. Three problems cannot be solved as they stand: the answer of
    two open ones is a letter, and that of a third a list that was cut off.

    Reference:
        Video-MMMU, arXiv 2501.13826; github.com/EvolvingLMMs-Lab/VideoMMMU, ``lmms_eval/tasks/videommmu``.
    """

    title = "Video-MMMU"
    source = "github.com/EvolvingLMMs-Lab/VideoMMMU, data/*_video.json; or hf.co/datasets/lmms-lab/VideoMMMU, parquet"
    hub = "lmms-lab/VideoMMMU"
    num_records = 900
    media_kinds = ("video",)
    groups = ("track", "discipline", "subject")
    scorings = ("avatar", "official")
    qtypes = (CHOICE, OPEN)
    published: ClassVar[Mapping[str, float]] = {"Qwen2.5-Omni-7B": 46.8, "+ GRPO": 48.1, "+ AVATAR": 49.4}
    elsewhere: ClassVar[Mapping[str, float]] = {"Qwen2.5-VL-7B (Video-MMMU)": 47.44}
    default_root = "data/benchmarks/video_mmmu"
    annotation = ("data/*_video.json", "*_video.json", "[PCA]*/test-*.parquet")

    def questions(self, root: Path) -> list[Question]:
        """Those of all three tracks that are there; media are ``Science/ID.mp4``, as the six archives unpack."""
        records = [item for file in self.annotation_files(root) for item in _records(file)]
        return [_question(track, record, root, where) for track, where, record in records]

    def problem_type(self, qtype: str, options: Sequence[str]) -> str:
        """An option, or a text; some open questions have options too."""
        return "choice" if options or qtype == CHOICE else "exact"

    def avatar(self, output: str, question: Question) -> Grade:
        """Our parser's answer; without options, a number, or a text that its rule finds in what was read."""
        if question.options:
            return super().avatar(output, question)
        gold = _golds(question.gold)
        if isinstance(gold, str) and isinstance(normalized(gold)[0], float):
            return grade_answer(output, "number", gold)
        texts = {normalize(text) for text in payloads(output)}
        text = texts.pop()
        if texts or not text:
            return Grade(0.0, "", "unparsed")
        return Grade(float(open_match(text, gold)), text, "strict")

    def official(self, output: str, question: Question) -> Grade:
        """``C.`` or ``C:``, else ``(C)``, else ``C`` before a blank, else the option's text; or key phrases."""
        if output in NO_REPLY:
            return read(0.0, "", counted=False)
        if question.qtype != CHOICE:
            return read(open_match(output, _golds(question.gold)), output.strip())
        letter = mmmu_choice(output, dict(zip(ascii_uppercase, question.options, strict=False)), FORMS, strip=MARKS)
        return read(letter == question.gold, letter)


def knowledge_gain(before: float, after: float) -> float:
    r"""How much of what was not known before the video is known after it.

    .. math:: \Delta = 100 \, (a - b) / (100 - b)

    Args:
        before: Accuracy in the Adaptation track with its pictures alone, in %.
        after: Accuracy in that track, in %.

    Returns:
        In %; negative where the video does harm.

    Raises:
        ValueError: All was known before.

    Reference:
        Video-MMMU, arXiv 2501.13826, section 5.
    """
    if not before < 100:
        raise ValueError(f"before must be below 100 %, else there is nothing to learn; got {before}")
    return 100 * (after - before) / (100 - before)


def _golds(gold: Any) -> Any:
    return gold if isinstance(gold, list) else str(gold)


def _records(file: Path) -> Iterator[tuple[str, str, Any]]:
    """(track, where, record); the track is the key of the JSON, or the folder of the table."""
    if file.suffix == ".parquet":
        columns = ("id", "question", "options", "answer", "question_type")
        yield from ((file.parent.name, where, record) for where, record in read_records(file, columns))
        return
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: must be an object of tracks, got {type(content).__name__}", "broken annotation")
    for track in content:
        for number, record in take(content, track, dict, str(file)).items():
            yield track, f"{file}: {track} {number}", record


def _question(track: str, record: Any, root: Path, where: str) -> Question:
    if track not in TRACKS:
        raise DataError(f"{where}: the track must be one of {', '.join(TRACKS)}, is {track!r}", "broken annotation")
    name, text = take(record, "id", str, where), take(record, "question", str, where)
    subject, discipline = _place(name, where)
    options = take_options(record, "options", where) if record.get("options") else ()
    qtype = _qtype(track, record, options, where)
    gold = take_letter(record, "answer", options, where) if options else take(record, "answer", str, where)
    names = [check_inside(f"{folder}{discipline}/{name}.mp4", where) for folder in ("", "videos/")]
    return Question(
        key=f"{track}/{name}",
        text=f"{APPLY}{text}" if track == "Adaptation" else f"{text}{IGNORE}",
        gold=gold,
        problem_type="choice" if options else "exact",
        options=options,
        media=(Medium("video", first_there(root, names)),),
        qtype=qtype,
        groups={"track": track, "discipline": discipline, "subject": subject.replace("_", " ")},
        ident=name,
    )


def _qtype(track: str, record: Any, options: Sequence[str], where: str) -> str:
    """Its own code takes what has no type for open; two of the tracks have none, and all of them have options."""
    if track != "Adaptation":
        if not options:
            raise DataError(f"{where}: field 'options' is missing", "broken annotation")
        return CHOICE
    qtype = take(record, "question_type", (str, type(None)), where)
    if qtype == CHOICE and not options:
        raise DataError(f"{where}: field 'options' is missing", "broken annotation")
    return CHOICE if qtype == CHOICE else OPEN


def _place(name: str, where: str) -> tuple[str, str]:
    """Subject and discipline: Physics of Science for ``validation_Physics_21``."""
    match = _SUBJECT.fullmatch(name)
    for discipline, subjects in DISCIPLINES.items():
        if match and match[1] in subjects:
            return match[1], discipline
    raise DataError(f"{where}: id {name!r} is not of the form validation_SUBJECT_1", "broken annotation")
