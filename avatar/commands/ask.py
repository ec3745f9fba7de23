"""``avatar ask CKPT --video clip.mp4 "question"``: the reasoning and the answer of a model for one clip."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from jsonargparse import Namespace
from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text
from transformers.utils import logging as transformers_logging

from avatar.benchmarks.recipe import Recipe
from avatar.commands.checkpoints import NAMED_CHECKPOINTS, newest_checkpoint
from avatar.commands.messages import explain
from avatar.commands.subcommands import Parser
from avatar.commands.train import quieten
from avatar.data.schema import Medium
from avatar.errors import CheckpointError, ConfigError
from avatar.modules.asking import MAX_NEW_TOKENS, Answerer, Reply, check_file, check_num, naming_memory, see
from avatar.modules.loading import find_model, load_policy, pick_device
from avatar.types import Clip, Prompt

EXAMPLE = 'avatar ask CKPT --video clip.mp4 "What is heard?"'
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class AskParser(Parser):
    """Says how the command is written where a part of it is missing or too much."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Raise :class:`ConfigError`."""
        if match := re.search(r"following arguments are required: (.*)", message):
            raise ConfigError(f"{' and '.join(match[1].split(', '))} missing: {EXAMPLE}") from ex
        if match := re.search(r"[Uu]nrecognized arguments: ([^-].*)", message):
            raise ConfigError(f"too many words: {match[1]!r}. Put the question in quotes: {EXAMPLE}") from ex
        if "nrecognized arguments" in message:
            super().error(message, ex)
        raise ConfigError(explain(message)) from ex


def main(argv: Sequence[str]) -> int:
    """Run ``avatar ask``."""
    quieten()
    transformers_logging.disable_progress_bar()
    ask(_parser().parse_args(list(argv[1:])))
    return 0


def _parser() -> AskParser:
    parser = AskParser(
        prog="avatar ask", description="Print the reasoning and the answer of a model for one clip, or several."
    )
    add = parser.add_argument
    add("CKPT", help="A checkpoint, last, best, a run folder, a model folder, or a hub id")
    add("question", help="In quotes; - reads it from standard input")
    for kind, more in (("video", " or folder of frames"), ("image", ""), ("audio", "; of a video it takes the sound")):
        add(f"--{kind}", action="append", default=[], metavar="FILE", help=f"Shown{more}; may be given several times")
    add("--start", type=float | None, default=None, help="Seconds into videos and sounds where they begin")
    add("--end", type=float | None, default=None, help="Seconds into videos and sounds where they end")
    add("--options", action="append", default=[], metavar="TEXTS", help='"red,green,blue"; or one each time')
    add("--sound", type=bool, default=True, help="Play the videos' own sound, where they have any")
    add("--max_frames", type=int, default=16, help="Most frames of a video")
    add("--max_new_tokens", type=int, default=MAX_NEW_TOKENS, help="Length limit of the reply")
    add("--wording", type=str, default="think", help="think, direct (the answer alone) or plain (nothing is added)")
    add("--temperature", type=float, default=0.0, help="Of sampling; 0 is greedy")
    add("--num", type=int, default=1, help="How many replies, with a temperature")
    add("--seed", type=int, default=0, help="Of sampling")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1 ...")
    add("--dtype", type=str, default="auto", help="auto, float32, bfloat16 or float16")
    add("--json", type=bool, default=False, help="Print each reply as one line of JSON")
    return parser


def ask(config: Namespace) -> None:
    """Look, listen, answer, print. What can be wrong is looked at before the model is loaded.

    Raises:
        AvatarError: What was asked for is not there or cannot be done.
    """
    question, media, options = _question(config.question), _media(config), _options(config.options)
    check_num(config.num, config.temperature)
    recipe = Recipe(config.max_frames, max_new_tokens=config.max_new_tokens, wording=config.wording)
    place, device = find_model(_named(config.CKPT)), str(pick_device(config.device))
    for medium in media:
        check_file(medium)
    with _busy("looking and listening"):
        prompt = see(question, media, options, config.sound, recipe)
    with _busy(f"loading {place}"), naming_memory():
        model = Answerer(load_policy(place, config.dtype, device), recipe, config.temperature, config.seed)
    with _busy("answering"):
        replies = model.answer(prompt, config.num)
    Console(stderr=config.json).print(Text(_seen(media, prompt), style="dim"))
    for number, reply in enumerate(replies, 1):
        if config.json:
            print(json.dumps(asdict(reply), ensure_ascii=False))
        else:
            show_reply(Console(), reply, f"reply {number} of {len(replies)}" if len(replies) > 1 else "")


def show_reply(console: Console, reply: Reply, title: str = "") -> None:
    """Reasoning in a panel, the answer under it; a reply without tags as it is."""
    if title:
        console.rule(title, style="dim")
    if reply.reasoning:
        console.print(Panel(Text(_clean(reply.reasoning)), title="reasoning", title_align="left", style="dim"))
    tagged = reply.answer != reply.output.strip()
    if reply.answer:
        console.print(Text(_clean(reply.answer), style="bold" if tagged else ""))
    if reply.how:
        read = f"{reply.parsed} ({reply.how})" if reply.parsed is not None else "none of the options, or several"
        console.print(Text(f"read as: {read}", style="dim"))
    if not reply.finished:
        text = f"cut off after {reply.num_tokens} tokens; --max_new_tokens {2 * reply.num_tokens} lets it go on"
        console.print(Text(text, style="yellow"))


def describe(medium: Medium, clip: Clip) -> str:
    """What was taken of one file, in one line."""
    parts = []
    if clip.frames is not None:
        num, _, height, width = clip.frames.shape
        parts.append(f"{width} x {height}" if clip.image else f"{num} frames of {width} x {height}")
    if clip.times is not None:
        begin = medium.start or 0.0
        parts[-1] += f" from {begin + float(clip.times[0]):.1f} to {begin + float(clip.times[-1]):.1f} s"
    if clip.audio is not None:
        parts.append(f"{len(clip.audio) / clip.sample_rate:.1f} s of sound")
    elif not clip.image and not clip.notes:
        parts.append("no sound")
    return f"{medium.name}: {', '.join([*parts, *clip.notes])}"


def _seen(media: Sequence[Medium], prompt: Prompt) -> str:
    lines = [describe(medium, clip) for medium, clip in zip(media, prompt.clips, strict=True)]
    return "\n".join(lines) or "nothing is shown"


def _media(config: Namespace) -> list[Medium]:
    """Videos, then images, then sounds."""
    if not (config.video or config.audio) and not config.start is config.end is None:
        raise ConfigError("--start and --end crop videos and sounds: give --video or --audio")
    moving = [("video", name) for name in config.video], [("audio", name) for name in config.audio]
    videos, sounds = ([Medium(kind, name, config.start, config.end) for kind, name in some] for some in moving)
    return [*videos, *(Medium("image", name) for name in config.image), *sounds]


def _question(given: str) -> str:
    question = sys.stdin.read().strip() if given == "-" else given.strip()
    if not question:
        raise ConfigError(f"the question is empty: {EXAMPLE}")
    return question


def _options(given: Sequence[str]) -> list[str]:
    """One text is split at its commas; several are taken as they are."""
    options = [option.strip() for option in (given[0].split(",") if len(given) == 1 else given)]
    if given and (len(options) < 2 or not all(options)):
        raise ConfigError(f'--options must name two or more, none of them empty, got {", ".join(given)!r}: "red,green"')
    return options


def _named(given: str) -> str:
    """The newest checkpoint for ``last`` or ``best``, and anything else as it is."""
    if given not in NAMED_CHECKPOINTS:
        return given
    if (found := newest_checkpoint(given)) is None:
        raise CheckpointError(f"{given}: no {given}.ckpt under runs/; give the file")
    Console(stderr=True).print(Text(f"{given} is {found}", style="dim"))
    return str(found)


def _clean(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    return _CONTROL.sub("", text)


@contextmanager
def _busy(text: str) -> Iterator[None]:
    """A spinner with the seconds that it has taken, on a terminal alone."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(text, total=None)
        yield
