"""IntentBench: what people mean and feel, and whether they deceive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from avatar.answers import normalize, payloads
from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, first_there, take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question
from avatar.benchmarks.records import read_records, take_options, unique_keys
from avatar.benchmarks.rules.authors import grade_authors
from avatar.data.schema import Medium
from avatar.errors import DataError

CHOICE, EMOTIONS, DECEPTION = "multiple choice", "emer_ov_mc", "judge"  # as the file calls its types
PROBLEM_TYPES = {CHOICE: "choice", EMOTIONS: "choices", DECEPTION: "exact"}
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
# An answer, and not the article of "no idea" and "no sign of it": with a word behind it only if a sentence goes on.
_SAID = re.compile(r"\b(yes|no(?!\s+(?!(?:he|she|it|they|the|this|because|since|as)\b)\w))\b", re.IGNORECASE)


@BENCHMARKS.register("intentbench")
class IntentBench(FileBenchmark):
    """One option, any number of emotions (graded by F1), or yes or no to a question whether somebody deceives.

    The authors' script wants emotions exactly, so that its figures and those of HumanOmniV2 are of two kinds. Where a
    reply has no answer tag, HumanOmniV2's code grades the last reply that its process wrote; taken here is the reply
    itself.

    Reference:
        HumanOmniV2, arXiv 2506.21277; github.com/HumanMLLM/HumanOmniV2, ``eval/eval_humanomniv2.py``.
    """

    title = "IntentBench"
    source = "hf.co/datasets/PhilipC/IntentBench, qa.json"
    hub = "PhilipC/IntentBench"
    num_records = 2689
    media_kinds = ("video",)
    groups = ("problem_type", "type")
    metric = "accuracy, of emotions F1"
    qtypes = tuple(PROBLEM_TYPES)
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 63.7,
        "+ GRPO": 63.8,
        "+ AVATAR": 63.9,
        "Ola-7B": 59.1,
        "Ola-7B + GRPO": 60.3,
        "Ola-7B + AVATAR": 61.9,
    }
    elsewhere: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B (HumanOmniV2)": 64.2,
        "HumanOmniV2 (HumanOmniV2)": 69.33,
    }
    default_root = "data/benchmarks/intentbench"
    annotation = ("qa.json",)

    def questions(self, root: Path) -> list[Question]:
        """Those of ``qa.json``; media are below ``videos`` or beside it."""
        records = [item for file in self.annotation_files(root) for item in read_records(file)]
        keys = unique_keys(_ident(record) or str(number) for number, (_, record) in enumerate(records))
        return [_question(record, key, root, where) for key, (where, record) in zip(keys, records, strict=True)]

    def problem_type(self, qtype: str, options: Sequence[str]) -> str:
        """As the file's type has it."""
        return PROBLEM_TYPES.get(qtype) or super().problem_type(qtype, options)

    def avatar(self, output: str, question: Question) -> Grade:
        """Our parser's answer; of emotions the F1; of deception the one of the words yes and no that is there."""
        return _deception(output, question.gold) if question.qtype == DECEPTION else super().avatar(output, question)

    def official(self, output: str, question: Question) -> Grade:
        """The first answer as it stands; yes and no count in other words too, as in "I don't know"."""
        found = _TAG.search(output)
        answer, gold = (found[1].strip() if found else "") or output, str(question.gold)
        letters = set(ascii_uppercase[: len(question.options) or None])
        if question.qtype == DECEPTION:
            said = [word for word in ("yes", "no") if word in answer.lower()]
            return read(any(word in gold.lower() for word in said), " ".join(said))
        if question.problem_type == "choices":
            pieces = [piece for piece in answer.split(",") if piece in letters]
            return read(_f1(answer.split(","), gold.split(",")), ",".join(pieces))
        answer = answer.strip()
        return read(answer == gold.strip(), answer if answer in letters else "")

    def authors(self, output: str, question: Question) -> Grade:
        """The last letter A to D; all letters A to F of the reply in capitals; or the first yes or no."""
        reply, gold = output.split("assistant\n", 1)[-1], str(question.gold)
        if question.qtype == DECEPTION:
            word = _YES_NO.search(reply)
            said = word[1].capitalize() if word else ""
            return read(said == gold.capitalize(), said)
        if question.problem_type == "choices":
            letters = set(re.findall("[A-F]", reply.upper()))
            return read(letters == set(gold.upper().split(",")), ",".join(sorted(letters)))
        return grade_authors(output, gold, "A-D", tags=False)


def _deception(output: str, gold: object) -> Grade:
    texts = payloads(output)
    said = {word.lower() for text in texts for word in _SAID.findall(text)}
    if len(said) != 1 or not all(_SAID.search(text) for text in texts):
        return Grade(0.0, "", "unparsed")
    (word,) = said
    alone = {normalize(text) for text in texts} == said
    return Grade(float(word == normalize(str(gold))), word, "strict" if alone else "lenient")


def _f1(said: Sequence[str], gold: Sequence[str]) -> float:
    """Of lists: what comes twice counts twice in their lengths and once as found."""
    both = len(set(said) & set(gold))
    return 2 * both / (len(said) + len(gold))


def _question(record: Any, key: str, root: Path, where: str) -> Question:
    qtype = take(record, "problem_type", str, where)
    if qtype not in PROBLEM_TYPES:
        raise DataError(
            f"{where}: problem_type must be one of {', '.join(PROBLEM_TYPES)}, is {qtype!r}", "broken annotation"
        )
    options = () if qtype == DECEPTION else take_options(record, "options", where)
    kind = take(record, "data_type", str, where) if "data_type" in record else "video"
    if kind not in ("video", "image"):
        raise DataError(f"{where}: data_type must be video or image, is {kind!r}", "broken annotation")
    name = take(record, "video" if "video" in record else "path", str, where)
    names = [check_inside(f"{folder}{name}", where) for folder in ("videos/", "")]
    return Question(
        key=key,
        text=take(record, "problem", str, where),
        gold=_gold(record, qtype, options, where),
        problem_type=PROBLEM_TYPES[qtype],
        options=options,
        media=(Medium(kind, first_there(root, names)),),
        qtype=qtype,
        groups={"problem_type": qtype, "type": take(record, "Type", str, where) if "Type" in record else ""},
        ident=_ident(record),
    )


def _ident(record: Any) -> str:
    found = record.get("qid", record.get("Question id")) if isinstance(record, Mapping) else None
    return "" if found is None else str(found)


def _gold(record: Any, qtype: str, options: Sequence[str], where: str) -> str:
    """The answer of ``solution``, which its code goes by; of a record without one, ``answer``."""
    found = _TAG.search(take(record, "solution", str, where)) if "solution" in record else None
    gold = found[1].strip() if found else take(record, "answer", str, where).strip()
    if qtype == DECEPTION:
        right = normalize(gold) in ("yes", "no")
    else:
        right = _names_options(gold, PROBLEM_TYPES[qtype], options)
    if not right:
        wanted = "yes or no" if qtype == DECEPTION else "of the options' letters"
        raise DataError(f"{where}: the answer must be {wanted}, is {gold!r:.80}", "broken annotation")
    return gold


def _names_options(gold: str, problem_type: str, options: Sequence[str]) -> bool:
    pieces = [piece.strip() for piece in gold.split(",")]
    known = set(ascii_uppercase[: len(options)])
    return set(pieces) <= known and (len(pieces) == 1 or problem_type == "choices")
