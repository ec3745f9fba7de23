"""``avatar COMMAND``: a light dispatcher. Each command's room is opened only when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from avatar import __version__
from avatar.errors import AvatarError
from avatar.registry import did_you_mean

# OpenMP threads that wait must soon sleep and not spin: with other jobs on the machine, spinning made a training step
# of the micro-world 20 times slower. Set before torch is imported; what the user has set stands.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# command: (module, what --help says)
COMMANDS = {
    "fit": ("avatar.commands.train", "train: cold start or reinforcement learning, from a config"),
    "validate": ("avatar.commands.train", "grade a checkpoint on the validation data of a config"),
    "test": ("avatar.commands.train", "grade a checkpoint on a benchmark"),
    "predict": ("avatar.commands.train", "write a checkpoint's answers to a benchmark or to data"),
    "ask": ("avatar.commands.ask", "ask a checkpoint about a clip: its reasoning and its answer"),
    "grade": ("avatar.commands.grade", "grade replies that are there already, row by row, without a model"),
    "compare": ("avatar.commands.compare", "whether one result on a benchmark is better than another"),
    "data": ("avatar.commands.data", "make, pack, look at and check data: synth, pack, inspect, validate, index"),
    "hints": ("avatar.commands.hints", "have a teacher write the hints that a stuck policy is shown"),
    "rewards": ("avatar.commands.rewards", "try a reward mix on saved completions and on attacks: score, attack"),
    "bench": ("avatar.commands.bench", "measure on this machine: answers, curves, data, replay, rewards, step"),
    "list": ("avatar.commands.listing", "what is registered: advantages, rewards, benchmarks ..."),
    "curriculum": ("avatar.commands.curriculum", "stages one after another, each from the last one's weights"),
    "sweep": ("avatar.commands.sweep", "every combination of some settings, compared in one table"),
    "report": ("avatar.commands.report", "a page of figures from runs and sweeps"),
    "demo": ("avatar.commands.demo", "the whole path on the micro-world, in minutes on two cores"),
}

EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_PIPE = 2, 130, 141


def usage() -> str:
    """What ``avatar --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: avatar [--help] [--version] COMMAND ...",
            "",
            "Reinforcement learning to see, hear and reason over video.",
            "",
            "commands:",
            *lines,
            "",
            "avatar COMMAND --help says more about one.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0 if args else EXIT_USER_ERROR
    if args[0] in ("-V", "--version"):
        print(f"avatar {__version__}")
        return 0
    if args[0] not in COMMANDS:
        print(
            f"error: unknown command {args[0]!r}.{did_you_mean(args[0], list(COMMANDS))}\n\n{usage()}", file=sys.stderr
        )
        return EXIT_USER_ERROR
    try:
        return int(import_module(COMMANDS[args[0]][0]).main(args) or 0)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever reads our output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except Exception as error:
        if (cause := users_error(error)) is None:
            raise
        print(f"error: {cause}", file=sys.stderr)
        return EXIT_USER_ERROR


def users_error(error: BaseException | None) -> AvatarError | None:
    """The error meant for the user, if one lies at the bottom of ``error``: libraries wrap what our classes raise."""
    while error is not None and not isinstance(error, AvatarError):
        error = error.__cause__ or error.__context__
    return error


def entry() -> None:
    """Console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
