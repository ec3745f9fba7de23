"""``avatar bench curves``: our GRPO and TRL's learn the same questions from the same start, side by side."""

from __future__ import annotations

import json
import platform
import warnings
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from avatar.commands.bar import LateBar
from avatar.commands.bench.curve_course import Course, Examiner, Watch, read_world, torch_threads
from avatar.commands.bench.curve_figures import summarize_runs
from avatar.commands.bench.curve_ours import Watching, train_ours
from avatar.commands.bench.curve_parity import measure_update
from avatar.commands.bench.curve_sampling import measure_sampling
from avatar.commands.bench.curve_show import curves_table, plot_curves, update_table
from avatar.commands.bench.options import trl_is_installed
from avatar.commands.train import quieten
from avatar.errors import ConfigError

SIDES = ("avatar", "trl")


@dataclass(frozen=True)
class CurveOptions:
    """What ``avatar bench curves`` is asked to measure.

    Attributes:
        completions: That each run generates.
        num_generations: Of each prompt; one prompt a step.
        seeds: Of the order of the prompts and of the sampling, with commas; each is one run of either side.
        lr: Constant learning rate.
        every: Completions between two exams.
        checks: Steps of the first seed on which what the two draw, and what they make of the same completions, is
            compared apart from learning.
        model: Folder of the cold-started model that all runs begin with.
        data: Folder of the micro-world in words, with ``train`` and ``dev``.
        threads: That torch uses.
        out: Folder for ``curves.json``, ``curves.png`` and ``curves.svg``.

    Raises:
        ConfigError: A value makes no sense, or TRL, the model or the data are not there.
    """

    completions: int = 1280
    num_generations: int = 8
    seeds: str = "0,1,2"
    lr: float = 2e-4
    every: int = 80
    checks: int = 160
    model: str = "runs/micro/text_sft/model"
    data: str = "data/micro_text"
    threads: int = 1
    out: str = "bench/curves"

    def __post_init__(self) -> None:
        self._check_numbers()
        self.seed_numbers()
        self._check_there()

    def _check_numbers(self) -> None:
        for name, least in {"num_generations": 2, "every": 1, "checks": 1, "threads": 1}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"--lr must be above 0, got {self.lr}")
        if self.every % self.num_generations:
            raise ConfigError(
                f"--every {self.every} must be a multiple of --num_generations {self.num_generations}: exams are "
                "between steps"
            )
        if self.completions < 1 or self.completions % self.every:
            raise ConfigError(
                f"--completions must be a multiple of --every {self.every}, so that the last exam is at the end, got "
                f"{self.completions}"
            )

    def _check_there(self) -> None:
        if not trl_is_installed():
            raise ConfigError("TRL, whose trainer is the other side, is not installed; pip install 'avatar-rl[bench]'")
        if not all((Path(self.data) / split).is_dir() for split in ("train", "dev")):
            raise ConfigError(
                f"--data {self.data}: there is no world in words (folders train and dev); make one: "
                f"avatar data synth --world text --out {self.data}"
            )
        if not (Path(self.model) / "config.json").is_file():
            raise ConfigError(
                f"--model {self.model}: there is no model to begin with; the cold start writes one: "
                "avatar fit --config configs/micro/text_sft.yaml"
            )
        if Path(self.out).is_file():
            raise ConfigError(f"--out {self.out}: this is a file; give a folder")

    def seed_numbers(self) -> list[int]:
        """The seeds as numbers.

        Raises:
            ConfigError: They are none, or one comes twice.
        """
        words = [word.strip() for word in self.seeds.split(",")]
        if not all(word.isdecimal() for word in words) or len(words) != len(set(map(int, words))):
            raise ConfigError(f"--seeds must be different whole numbers with commas, like 0,1,2; got {self.seeds!r}")
        return [int(word) for word in words]

    @property
    def steps(self) -> int:
        """Of each run."""
        return self.completions // self.num_generations


def bench_curves(options: CurveOptions) -> None:
    """Train our GRPO and TRL's from the same start on the same questions, and overlay their learning curves."""
    quieten()
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    with torch_threads(options.threads), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is deprecated and will be removed in v6.*", FutureWarning)
        warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*")
        figures = measure_curves(options)
    (folder / "curves.json").write_text(json.dumps(figures, indent=2) + "\n")
    for name in ("curves.png", "curves.svg"):
        plot_curves(figures, folder / name)
    console = Console()
    console.print(curves_table(figures))
    console.print(update_table(figures["checks"]["update"]))
    console.print(f"{folder}/curves.json, curves.png, curves.svg")


def measure_curves(options: CurveOptions) -> dict[str, Any]:
    """All figures by name, as ``curves.json`` holds them."""
    seeds = options.seed_numbers()
    orders, exam = read_world(Path(options.data), seeds, options.steps)
    examiner = Examiner(options.model, exam)
    courses = [
        Course(options.model, order, options.num_generations, options.lr, seed)
        for order, seed in zip(orders, seeds, strict=True)
    ]
    few = replace(courses[0], prompts=orders[0][: options.checks])
    with LateBar("curves", 2 * len(seeds) * options.steps + 4 * len(few.prompts)) as bar:
        watches = {(side, c.seed): _run(side, c, examiner, options, bar) for c in courses for side in SIDES}
        checks = {"update": measure_update(few, bar.advance), "sampling": measure_sampling(few, bar.advance)}
    runs = [watch.figures(*which, options.num_generations) for which, watch in watches.items()]
    return {
        "options": asdict(options),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
        "num_questions": examiner.num,
        "runs": runs,
        "summary": summarize_runs(runs, options.completions, options.every),
        "checks": checks,
    }


def _run(side: str, course: Course, examiner: Examiner, options: CurveOptions, bar: LateBar) -> Watch:
    watch = Watch(examiner, options.every // options.num_generations, bar.advance)
    with TemporaryDirectory() as folder:
        if side == "avatar":
            train_ours(course, Watching(watch), folder)
        else:
            peer = import_module("avatar.commands.bench.curve_peer")
            peer.train_peer(course, peer.Watching(watch), folder)
    return watch
