"""What a benchmark is: its questions, three rules that grade a reply, and what to report by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from torch import Tensor

from avatar.benchmarks.grades import Grade, Graded, Scoring
from avatar.benchmarks.question import Question
from avatar.benchmarks.recipe import Recipe
from avatar.benchmarks.rules.ours import grade_answer
from avatar.chat import ChatRequest
from avatar.data.dataset import PromptDataset
from avatar.data.prepare import Swap
from avatar.errors import ConfigError, DataError
from avatar.registry import Registry, did_you_mean
from avatar.types import Prompt


class Benchmark(ABC):
    """One benchmark, by its lower-case key in ``BENCHMARKS``.

    Attributes:
        title: Its name.
        version: Raised whenever the same reply could be graded differently.
        source: Where the questions come from: repository or hub id, and file.
        licence: Of the questions, as far as it is known.
        num_records: How many there should be.
        media_kinds: What is shown: ``image``, ``video``, ``audio``.
        groups: What results are reported by, in this order; keys of :attr:`Question.groups`.
        metric: What the headline figure is called.
        scorings: Those that it knows.
        qtypes: All values of :attr:`Question.qtype`, where its rules go by it; empty where they do not.
        qtype_optional: Whether rows may leave it out, since options or gold answer tell it.
        letters_alone: Whether its own rule reads a letter and needs no options.
        published: Figures in the AVATAR paper and on its site, in %, by what they are of.
        elsewhere: Figures published by others, in %, by what they are of and where they stand.
        recipe: How it is asked if nothing else is said.
        default_root: Folder that is looked into when none is given.
        batch_size: Questions that are answered at a time if nothing else is said.
    """

    title: ClassVar[str]
    version: ClassVar[int] = 1
    source: ClassVar[str]
    licence: ClassVar[str] = "not stated"
    num_records: ClassVar[int]
    media_kinds: ClassVar[tuple[str, ...]]
    groups: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[str] = "accuracy"
    scorings: ClassVar[tuple[Scoring, ...]] = ("avatar", "official", "authors")
    qtypes: ClassVar[tuple[str, ...]] = ()
    qtype_optional: ClassVar[bool] = False
    letters_alone: ClassVar[bool] = False
    published: ClassVar[Mapping[str, float]] = {}
    elsewhere: ClassVar[Mapping[str, float]] = {}
    recipe: ClassVar[Recipe] = Recipe()
    default_root: ClassVar[str]
    batch_size: ClassVar[int] = 64

    # -- questions ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def prompts(self, root: Path | None, recipe: Recipe, swap: Swap | None = None) -> PromptDataset:
        """The questions in ``root``, or where the benchmark expects its files.

        Args:
            root: Folder of its files.
            recipe: How they are asked.
            swap: Give each clip the sound or the picture of another.
        """

    @abstractmethod
    def question(self, prompt: Prompt) -> Question:
        """The question that a prompt of :meth:`prompts` asks."""

    def question_called(self, key: str) -> Question | None:
        """The question of that key as the files have it now; None where only its prompt tells."""
        return None

    def missing(self, keys: Sequence[str], recipe: Recipe, allowed: bool) -> dict[str, str]:
        """Which of these questions have media that are not there, and which; looked up before anything is decoded.

        Raises:
            DataError: Some have, and that is not ``allowed``.
        """
        return {}

    def question_of_row(self, row: Mapping[str, Any]) -> Question:
        """The question of a row of ``avatar grade`` or of saved predictions.

        Options may be a list, or an object whose keys are letters. ``ground_truth`` and ``question_type`` are taken for
        ``gold`` and ``qtype``.

        Raises:
            DataError: A field is missing or of the wrong type; or the rules go by ``qtype``, and it is none of theirs.
        """
        options = row.get("options") or []
        if isinstance(options, Mapping):
            if sorted(options) != list(ascii_uppercase[: len(options)]):
                raise DataError(f"field 'options' must have the keys A, B, C, ..., got {', '.join(map(str, options))}")
            options = [options[letter] for letter in sorted(options)]
        gold = row.get("gold", row.get("ground_truth"))
        if gold is None:
            raise DataError("field 'gold' is missing")
        if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
            raise DataError(f"field 'options' must be a list of texts, or letters with texts, got {options!r:.80}")
        qtype = self._qtype(str(row.get("qtype") or row.get("question_type") or ""))
        problem_type = str(row.get("problem_type") or self.problem_type(qtype, tuple(options)))
        if not self.letters_alone:
            self._check_options(problem_type, options)
        return Question(
            key=str(row.get("id", "")),
            text=str(row.get("question") or ""),
            gold=gold,
            problem_type=problem_type,
            options=tuple(options),
            qtype=qtype,
            groups={name: tuple(v) if isinstance(v, list) else v for name, v in (row.get("groups") or {}).items()},
            ident=str(row.get("ident") or ""),
            shown=str(row.get("clip") or ""),
        )

    def problem_type(self, qtype: str, options: Sequence[str]) -> str:
        """How the answer to a question of type ``qtype`` is parsed: by default one of the options is wanted."""
        return "choice"

    def _qtype(self, given: str) -> str:
        known = ", ".join(self.qtypes)
        if self.qtypes and not given and not self.qtype_optional:
            raise DataError(f"field 'qtype' is missing: {self.title} is graded by it; one of {known}")
        if self.qtypes and given and given not in self.qtypes:
            hint = did_you_mean(given, list(self.qtypes))
            raise DataError(f"field 'qtype': {given!r} is no type of {self.title}.{hint} Known: {known}")
        return given

    def _check_options(self, problem_type: str, options: Sequence[str]) -> None:
        if problem_type in ("choice", "choices") and not options:
            raise DataError(
                f"field 'options' is missing: {self.title} asks for {'some' if problem_type == 'choices' else 'one'} "
                "of them. Give a list of texts, or letters with texts"
            )

    # -- grading -----------------------------------------------------------------------------------------------------

    def grade(self, output: str, question: Question, scoring: Scoring = "avatar") -> Grade:
        """Grade one raw reply; a pure function.

        Raises:
            ConfigError: The benchmark has no such rule.
        """
        self.check_scoring(scoring)
        return getattr(self, scoring)(output, question)

    def check_scoring(self, scoring: str) -> None:
        """Raise :class:`ConfigError` where the benchmark has no such rule."""
        if scoring in self.scorings:
            return
        known = " or ".join(self.scorings)
        if scoring == "authors":
            raise ConfigError(f"{self.title}: the authors of AVATAR published no script for it; use --scoring {known}")
        raise ConfigError(f"--scoring must be {known} for {self.title}, got {scoring!r}")

    def avatar(self, output: str, question: Question) -> Grade:
        """Our rule: :func:`avatar.answers.parse_answer` reads the answer, nothing is guessed, unparsed is 0."""
        self._check_options(question.problem_type, question.options)
        return grade_answer(output, question.problem_type, question.gold, question.texts)

    def official(self, output: str, question: Question) -> Grade:
        """The benchmark's own rule to the letter, on the raw reply."""
        return self.avatar(output, question)

    def authors(self, output: str, question: Question) -> Grade:
        """The rule of the AVATAR authors' script, on the reply alone (their scripts decode the prompt along)."""
        raise ConfigError(f"{self.title}: the authors of AVATAR published no script for it")

    def judge_request(self, output: str, question: Question, scoring: Scoring) -> ChatRequest | None:
        """What a judge is asked about a reply whose score is None; None where no judge is foreseen."""
        return None

    def judged(self, verdict: Mapping[str, Any], question: Question, scoring: Scoring) -> Grade:
        """The grade that follows from a judge's verdict."""
        raise NotImplementedError

    # -- figures -----------------------------------------------------------------------------------------------------

    def settle(self, graded: Sequence[Graded], scoring: Scoring) -> list[Graded]:
        """What depends on more than one reply, such as ids that count once; by default nothing."""
        return list(graded)

    def overall(self, graded: Sequence[Graded], weights: Tensor) -> Tensor:
        r"""The headline figure, 0 to 1: by default the mean over questions, :math:`\sum_i w_i s_i / \sum_i w_i`.

        Args:
            graded: n graded replies, all scored.
            weights: [..., n], how often each is drawn; ones for the figure itself.

        Returns:
            [...]; NaN where no reply is drawn.
        """
        scores = weights.new_tensor([g.grade.score or 0.0 for g in graded])  # [n]
        return (weights @ scores) / weights.sum(-1)

    def figures(self, graded: Sequence[Graded]) -> dict[str, float]:
        """Further figures of the benchmark's rule, by the names it gives them; percentages are 0 to 100."""
        return {}


BENCHMARKS: Registry[type[Benchmark]] = Registry("benchmark", "benchmarks")
ALIASES = {"cg_av_counting": "av_counting"}


def uncounted(graded: Graded) -> Graded:
    """The same, left out of the mean."""
    return replace(graded, grade=replace(graded.grade, counted=False))


def find_benchmark(name: str) -> type[Benchmark]:
    """The benchmark called ``name``, hyphens for underscores and capitals allowed.

    Raises:
        UnknownNameError: There is none; says which are.
    """
    key = name.lower().replace("-", "_")
    return BENCHMARKS[ALIASES.get(key, key) if ALIASES.get(key, key) in BENCHMARKS else name]
