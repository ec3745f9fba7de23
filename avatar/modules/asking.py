"""One question about clips of your own, and what a model makes of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from avatar.answers import How, parse_answer, payloads
from avatar.benchmarks.recipe import Recipe
from avatar.data.containers import film_format, still_format
from avatar.data.dataset import Decoders, PromptDataset, start_decoders
from avatar.data.files import FileIndex
from avatar.data.modalities import limit_media
from avatar.data.prompts import PromptStyle
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record, record_from_fields
from avatar.data.skipped import Failure
from avatar.errors import AvatarError, ConfigError, DataError
from avatar.modules.loading import load_policy
from avatar.modules.policy import Policy
from avatar.registry import did_you_mean
from avatar.types import Completion, Prompt, Sampling

MAX_NEW_TOKENS = 512
ASKED = Recipe(max_new_tokens=MAX_NEW_TOKENS)
_THINK = re.compile(r"<think>(.*?)(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Attributes:
        output: All of it, tags too.
        reasoning: What stands between ``<think>`` tags; of a tag that is not closed all that follows. Empty without.
        answer: What stands between ``<answer>`` tags, or without these the reply less its reasoning. Several answers
            stand one a line. Empty where the answer was cut off.
        parsed: The option that the answer names; None without options, or where it names none or several.
        how: How it was read, see :mod:`avatar.answers`; None without options.
        finished: False if the length limit cut it off.
        num_tokens: Its length, the token that ends it included.
        seconds: From the decoded clips to the last token of all replies that were written together.
    """

    output: str
    reasoning: str
    answer: str
    parsed: str | None
    how: How | None
    finished: bool
    num_tokens: int
    seconds: float


class Answerer:
    """A model that is asked one question at a time.

    Args:
        policy: The model, loaded.
        recipe: What it is shown, and how it is asked to answer. ``max_new_tokens`` None is 512.
        temperature: Of sampling; 0 is greedy.
        seed: Of sampling: the same question with the same seed gets the same replies.

    Raises:
        ConfigError: The temperature is below 0.
    """

    def __init__(self, policy: Policy, recipe: Recipe = ASKED, temperature: float = 0.0, seed: int = 0) -> None:
        self.policy, self.recipe, self.seed = policy, recipe, seed
        self.sampling = Sampling(temperature, recipe.max_new_tokens or MAX_NEW_TOKENS)
        self.decoders = start_decoders(1, clip_rule(recipe))

    @classmethod
    def load(cls, path: str | Path, recipe: Recipe = ASKED, dtype: str = "auto", device: str = "auto") -> Answerer:
        """One that answers greedily, from a checkpoint, a run folder, a model folder or a hub id.

        Raises:
            CheckpointError: See :func:`load_policy`.
            ConfigError: Likewise.
            AvatarError: The GPU is full.
        """
        with naming_memory():
            return cls(load_policy(path, dtype, device), recipe)

    def ask(self, question: str, *media: Medium, options: Sequence[str] = (), sound: bool = True) -> Reply:
        """The reply to one question about what is shown: :func:`see`, then :meth:`answer`."""
        return self.answer(see(question, media, options, sound, self.recipe, self.decoders))[0]

    @torch.no_grad()
    def answer(self, prompt: Prompt, num: int = 1) -> list[Reply]:
        """``num`` replies to what :func:`see` gave.

        Raises:
            ConfigError: ``num`` is below 1, or above it where all would be the same.
            AvatarError: The GPU is full.
        """
        check_num(num, self.sampling.temperature)
        began = time.perf_counter()
        generator = torch.Generator(next(self.policy.parameters()).device).manual_seed(self.seed)
        with naming_memory():
            prefixes = self.policy.encode([prompt])
            (completions,) = self.policy.adapter.generate(prefixes, num, self.sampling, generator)
        seconds = round(time.perf_counter() - began, 3)
        return [read_reply(completion, prompt.options, seconds) for completion in completions]


def see(
    question: str, media: Sequence[Medium] = (), options: Sequence[str] = (), sound: bool = True,
    recipe: Recipe = ASKED, decoders: Decoders | None = None,
) -> Prompt:  # fmt: skip
    """Decode what is to be shown, in a process of its own, and lay the question out behind it.

    Args:
        question: The text.
        media: What is shown, in order; names are paths. A folder of images is a film.
        options: Option texts without letters.
        sound: Play the videos' own sound; one that has none is shown silent.
        recipe: How many frames, how large, how much sound; and how the answer is asked for.
        decoders: Processes to decode in; None starts one.

    Returns:
        The prompt; the ``notes`` of its clips say what is not there or was left out.

    Raises:
        DataError: A file is not there, cannot be read, or is not what it is said to be.
    """
    record = limit_media(_record(question, media, options, sound), recipe.modalities)
    for medium in record.media:
        check_file(medium)
    index, style = FileIndex("", [("the question", record)]), PromptStyle(recipe.system, recipe.letter_options)
    found = PromptDataset([index], style, clip_rule(recipe), decoders=decoders)[0]
    if isinstance(found, Failure):
        named = any(medium.name in found.reason for medium in media)
        raise DataError(found.reason if named else f"{_names(media)}: {found.reason}", found.cause)
    if len(found.clips) < len(record.media):
        heard = [medium for medium in record.media if medium.kind == "audio"]
        raise DataError(f"{_names(heard)}: there is no sound track to hear", "no sound")
    return found


def check_num(num: int, temperature: float) -> None:
    """Raise :class:`ConfigError` where so many replies cannot be, or would all be the same."""
    if num < 1 or (num > 1 and not temperature):
        raise ConfigError(f"num must be 1 where the temperature is 0, and at least 1 elsewhere, got {num}")


def clip_rule(recipe: Recipe) -> ClipRule:
    """As the recipe decodes, with a note in the place of an error where a video is silent or a sound too long."""
    return replace(recipe.rule(), cut_audio=True, silent_videos=True, late_ends=True)


def read_reply(completion: Completion, options: Sequence[str] = (), seconds: float = 0.0) -> Reply:
    """A completion taken apart: reasoning, answer, and which of ``options`` the answer names."""
    text = completion.text
    read = parse_answer(text, "choice", options) if options else None
    return Reply(
        output=text,
        reasoning="\n\n".join(thought.strip() for thought in _THINK.findall(text)).strip(),
        answer="\n".join(dict.fromkeys(payloads(text))).strip(),
        parsed=options[int(read.value)] if read and read.value is not None else None,
        how=read.how if read else None,
        finished=completion.finished,
        num_tokens=len(completion.ids),
        seconds=seconds,
    )


def check_file(medium: Medium) -> None:
    """See that a file is there and begins like what it is said to be.

    Raises:
        DataError: It is not, or does not; says what it is, or what is called much the same.
    """
    path = Path(medium.name)
    if path.is_dir():
        return
    if not path.is_file():
        near = did_you_mean(path.name, sorted(entry.name for entry in path.parent.glob("*")))
        raise DataError(f"no such file: {path}.{near}", "missing media")
    try:
        with path.open("rb") as file:
            beginning = file.read(64)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "missing media") from None
    still, film = still_format(beginning), film_format(beginning)
    if still and medium.kind != "image":
        raise DataError(f"{path} is an image ({still}) and no {medium.kind}: give it as an image", "no picture")
    if film and medium.kind == "image":
        raise DataError(f"{path} is a video ({film}) and no image: give it as a video", "no picture")


@contextmanager
def naming_memory() -> Iterator[None]:
    """Make of a full GPU an error that says what takes less.

    Raises:
        AvatarError: The GPU is full.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise AvatarError(
            f"the GPU is full ({str(error).partition('. ')[0]}). Show less (fewer frames, or from start to end), take "
            "dtype bfloat16, or device cpu"
        ) from None


def _record(question: str, media: Sequence[Medium], options: Sequence[str], sound: bool) -> Record:
    """Checked as a record of a dataset is, but for its gold answer, which is made up here and never looked at."""
    return record_from_fields(
        {
            "question": question,
            "answer": "unknown",
            "options": list(options),
            "media": [medium.to_fields() for medium in media],
            "use_audio_in_video": sound,
        },
        "the question",
    )


def _names(media: Sequence[Medium]) -> str:
    return ", ".join(medium.name for medium in media)
