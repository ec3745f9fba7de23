"""MVBench: twenty tasks about motion and time in short videos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from avatar.benchmarks.base import BENCHMARKS
from avatar.benchmarks.files import FileBenchmark, check_inside, first_there, take
from avatar.benchmarks.grades import Grade, read
from avatar.benchmarks.question import Question, letter_of
from avatar.benchmarks.records import read_records, take_texts
from avatar.benchmarks.rules.authors import grade_authors
from avatar.data.schema import Medium
from avatar.errors import DataError

FOLDERS = {
    "action_antonym": "ssv2_video",
    "action_count": "perception/videos",
    "action_localization": "sta/sta_video",
    "action_prediction": "star/Charades_v1_480",
    "action_sequence": "star/Charades_v1_480",
    "character_order": "perception/videos",
    "counterfactual_inference": "clevrer/video_validation",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",  # a folder of frames for each video
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "fine_grained_pose": "nturgbd",
    "moving_attribute": "clevrer/video_validation",
    "moving_count": "clevrer/video_validation",
    "moving_direction": "clevrer/video_validation",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "scene_transition": "scene_qa/video",
    "state_change": "perception/videos",
    "unexpected_action": "FunQA_test/test",
}
BOUNDED = {"action_localization", "action_prediction", "action_sequence", "episodic_reasoning", "object_interaction"}


@BENCHMARKS.register("mvbench")
class MVBench(FileBenchmark):
    """Twenty tasks of 200 questions each; five of them are about a part of the video only, between two seconds.

    The gold answer is the candidate that it is the text of, blanks around it aside: with the official notebook and the
    authors' script the 14 questions whose answer has a blank more than its candidate cannot be answered right.
    """

    title = "MVBench"
    source = "hf.co/datasets/OpenGVLab/MVBench, json/*.json"
    hub = "OpenGVLab/MVBench"
    licence = "MIT (dataset card); the videos have licences of their own"
    num_records = 4000
    media_kinds = ("video",)
    groups = ("task",)
    annotation = ("json/*.json",)
    default_root = "data/benchmarks/mvbench"
    published: ClassVar[Mapping[str, float]] = {
        "Qwen2.5-Omni-7B": 66.1,
        "+ GRPO": 66.3,
        "+ AVATAR": 66.4,
        "Ola-7B": 40.1,
        "Ola-7B + GRPO": 42.5,
        "Ola-7B + AVATAR": 45.4,
    }
    elsewhere: ClassVar[Mapping[str, float]] = {"Qwen2.5-Omni-7B (Qwen)": 70.3}

    def questions(self, root: Path) -> list[Question]:
        """Task by task, in the order of the files."""
        found = []
        for path in self.annotation_files(root):
            if path.stem not in FOLDERS:
                raise DataError(f"{path}: {path.stem!r} is no task of MVBench; it has {', '.join(FOLDERS)}")
            records = enumerate(read_records(path))
            found += [_question(root, path.stem, i, record, where) for i, (where, record) in records]
        return found

    def official(self, output: str, question: Question) -> Grade:
        """See :func:`check_option`; on the raw reply, without the ``(`` that the notebook begins every reply with."""
        return read(check_option(output, question.gold), output.split(" ")[0])

    def authors(self, output: str, question: Question) -> Grade:
        """The authors' extractor, without a fallback."""
        return grade_authors(output, question.gold)


def check_option(reply: str, gold: str) -> bool:
    """Whether the first word of the reply is part of ``(B)``, or has it as a part, where B is the gold letter.

    Small letters are as good as capitals, full stops in the word do not count, and words end at blanks only. An empty
    reply and a lone bracket are part of any option.

    Reference:
        github.com/OpenGVLab/Ask-Anything, video_chat2/mvbench.ipynb, ``check_ans``.
    """
    word, option = reply.lower().split(" ")[0], f"({gold.lower()})"
    return word.replace(".", "") in option or option in word


def _question(root: Path, task: str, index: int, record: Any, where: str) -> Question:
    candidates, answer = take_texts(record, "candidates", where), take(record, "answer", str, where)
    texts = [candidate.strip() for candidate in candidates]
    if answer.strip() not in texts:
        raise DataError(f"{where}: answer {answer!r} is none of the candidates {texts}", "broken annotation")
    name = check_inside(take(record, "video", str, where), where)
    crop = [float(take(record, side, (int, float), where)) for side in ("start", "end")] if task in BOUNDED else []
    return Question(
        key=f"{task}/{index}",
        text=take(record, "question", str, where),
        gold=letter_of(texts.index(answer.strip())),
        options=candidates,
        media=(Medium("video", _place(root, FOLDERS[task], name), *crop),),
        groups={"task": task},
    )


def _place(root: Path, folder: str, name: str) -> str:
    """Where the video lies: archives of the hub may be unpacked in place, or each into a folder of its name."""
    top = folder.split("/")[0]
    places = (folder, f"video/{folder}", f"video/{top}/{folder}", f"video/data0613/{folder}")
    return first_there(root, [f"{place}/{name}" for place in places])
