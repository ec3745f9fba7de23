"""What ``avatar test --benchmark`` takes beside Lightning's own arguments, and one or several benchmarks of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jsonargparse import ActionYesNo, Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.markup import escape

from avatar.benchmarks import BENCHMARKS, find_benchmark
from avatar.benchmarks.data import BenchmarkData
from avatar.benchmarks.exams.exam import Exam
from avatar.benchmarks.figures.show import overview_markdown, overview_table
from avatar.benchmarks.files import FileBenchmark
from avatar.benchmarks.grades import SCORINGS
from avatar.benchmarks.places import find_home
from avatar.benchmarks.recipe import Recipe
from avatar.benchmarks.writing import write_whole
from avatar.commands.regrade import check_judge, judge_client
from avatar.errors import AvatarError, DataError
from avatar.modules import EvaluationModule

EVERY = "all"
LONGEST = 150  # letters of a file name, without its endings; one that says more has a hash in the place of settings


def add_options(parser: LightningArgumentParser, test: bool) -> None:
    """The options of a benchmark; those of ``avatar test`` alone, too."""
    add = parser.add_argument
    add("--benchmark", type=str | None, default=None, help=f"One of: {', '.join(BENCHMARKS)}; several with commas; all")
    add("--benchmark_root", type=str | None, default=None, help="Folder of its files, or a hub cache")
    add("--swap", type=str | None, default=None, help="audio | video: swap in another clip's, to see what it costs")
    add("--modalities", type=str | None, default=None, help="both | video | audio | none: what is shown")
    add("--limit", type=int | None, default=None, help="Ask so many questions, evenly spread")
    add("--batch_size", type=int | None, default=None, help="Questions answered at a time")
    add("--num_workers", type=int, default=1, help="Processes that decode ahead")
    for field in fields(Recipe):
        kind = inspect.signature(Recipe).parameters[field.name]
        if field.name != "modalities":
            add(f"--recipe.{field.name}", type=_type_of(field.name), default=None, help=f"{kind.default} if not pinned")
    if not test:
        return
    add("--scoring", type=str, default="avatar", help=f"{' | '.join(SCORINGS)}: whose rule grades")
    flag = {"action": ActionYesNo, "nargs": "?", "default": False}  # bare, or with true or false
    add("--allow_missing", **flag, help="Count questions as wrong whose media cannot be read")
    add("--restart", **flag, help="Ask anew what was answered already")
    add("--regrade", type=str | None, default=None, help="Grade these predictions again, without the model")
    add("--judge_endpoint", type=str | None, default=None, help="Of a judge for what no rule decides, http://host/v1")
    add("--judge_model", type=str | None, default=None, help="As the judge's server names it")
    add("--judge_cache", type=str | None, default=None, help="Folder for verdicts, by default test/judge of the run")


def _type_of(name: str) -> Any:
    default = getattr(Recipe(), name)
    return {bool: bool | None, str: str | None, float: float | None, int: int | None}.get(type(default), float | None)


def recipe_of(name: str, chosen: Namespace) -> Recipe:
    """The benchmark's recipe with what the command line changes.

    Raises:
        ConfigError: A value is out of range.
    """
    changes = dict(vars(chosen.get("recipe") or Namespace()))
    return find_benchmark(name).recipe.changed(**changes, modalities=chosen.get("modalities"))


def benchmark_names(asked: str, root: str | None) -> list[str]:
    """The benchmarks that ``--benchmark`` means, each once: names with commas, or ``all`` whose files are there.

    Raises:
        UnknownNameError: There is none of a name.
        DataError: ``all``, and there are files of none.
    """
    if asked != EVERY:
        names = [name.strip() for name in asked.split(",")]
        classes = [find_benchmark(name) for name in names]
        return [next(key for key in BENCHMARKS if BENCHMARKS[key] is cls) for cls in dict.fromkeys(classes)]
    present = [name for name in every_benchmark() if _is_there(name, root)]
    if not present:
        where = root or "data/benchmarks"
        raise DataError(
            f"--benchmark all: {where} holds files of none of {', '.join(every_benchmark())}. Put each benchmark's "
            f"files into {where}/NAME as they were downloaded"
        )
    return present


def every_benchmark() -> list[str]:
    """The published benchmarks: those with figures of the paper."""
    return [name for name in BENCHMARKS if BENCHMARKS[name].published]


def absent_benchmarks(asked: str, present: Sequence[str]) -> list[str]:
    """Those that ``all`` means and that are not there; none where names were given."""
    return [name for name in every_benchmark() if name not in present] if asked == EVERY else []


def _is_there(name: str, root: str | None) -> bool:
    cls = BENCHMARKS[name]
    if not issubclass(cls, FileBenchmark):
        return False
    try:
        find_home(cls.title, cls.source, cls.annotation, cls.hub, cls.default_root, root_of(name, root, True))
    except DataError:
        return False
    return True


def root_of(name: str, root: str | None, several: bool) -> Path | None:
    """Where the files of one of several benchmarks are looked for: its own folder below ``root``, if there is one."""
    if root is None:
        return None
    below = Path(root) / name
    return below if several and below.is_dir() else Path(root)


def benchmark_data(name: str, chosen: Namespace, several: bool) -> BenchmarkData:
    """The questions of one benchmark as the command line asks for them."""
    root = root_of(name, chosen.benchmark_root, several)
    return BenchmarkData(
        name,
        str(root) if root else None,
        chosen.swap,
        chosen.batch_size,
        chosen.num_workers,
        recipe_of(name, chosen),
        chosen.limit,
        bool(chosen.get("allow_missing")),
    )


def exam_of(data: BenchmarkData, chosen: Namespace, folder: Path, model: str, checkpoint: Path | None) -> Exam:
    """What takes the replies of ``avatar test``; its files lie in ``folder/test``."""
    stem = folder / "test" / output_name(data, short_name(model, checkpoint))
    cache = chosen.judge_cache or str(stem.parent / "judge")
    judge = judge_client(chosen.judge_endpoint, chosen.judge_model, cache)
    return Exam(stem, chosen.scoring, judge, model, bool(chosen.restart))


def short_name(model: str, checkpoint: Path | None) -> str:
    """What files call a model: its checkpoint, else the last part of its path or hub id; of ``RUN/model`` both."""
    if checkpoint:
        return checkpoint.stem
    path = Path(model).absolute()
    return f"{path.parent.name}-model" if path.name == "model" else path.name


def output_name(data: BenchmarkData, model: str) -> str:
    """``micro-best``; with what is asked otherwise than the benchmark's own recipe has it."""
    pinned, recipe = asdict(data.benchmark.recipe), asdict(data.recipe)
    changed = [f"{name}_{value}" for name, value in recipe.items() if value != pinned[name]]
    parts = [f"swap_{data.swap}" if data.swap else "", *changed, f"limit_{data.limit}" if data.limit else ""]
    name = "-".join(part for part in (data.name, model, *parts) if part)
    return name if len(name) <= LONGEST else f"{data.name}-{model[-60:]}-{data.recipe.stamp(parts=parts)}"


def check_scoring(names: Sequence[str], scoring: str) -> None:
    """Raise :class:`ConfigError` where a benchmark has no such rule, before anything is asked."""
    for name in names:
        BENCHMARKS[name]().check_scoring(scoring)


def examine(
    trainer: Trainer,
    model: EvaluationModule,
    several: Sequence[BenchmarkData],
    how: Mapping[str, Any],
    absent: Sequence[str] = (),
) -> None:
    """Ask each benchmark; a table of all, on the screen and as ``overview.md``, if there are several.

    Args:
        trainer: Runs the test loop.
        model: Who is asked.
        several: The benchmarks.
        how: What else the test loop takes.
        absent: Further lines of the table: benchmarks whose files are not there.

    Raises:
        AvatarError: One could not be asked; of several the others have been asked then.
        ConfigError: The judge does not answer; nothing has been asked.
    """
    done, failed = [], dict[str, AvatarError]()
    check_judge(several[0].exam.judge)
    for data in several:
        try:
            trainer.test(model, datamodule=data, **how)
            model.finish_exam(data.exam)  # where nothing was left to ask, Lightning runs no test
            done.append(model.results)
        except AvatarError as error:
            if len(several) == 1:
                raise
            failed[data.name] = error
            Console(stderr=True).print(f"[red]error:[/] {data.name}: {escape(str(error))}", soft_wrap=True)
        except SystemExit:  # how Lightning ends at Ctrl-C
            kept = len(data.exam.before) + len(data.exam.new)
            rank_zero_info(f"{data.name}: {kept} replies are kept; the same command goes on with the rest")
            raise
        finally:
            data.exam.close()
    if len(several) > 1 and trainer.is_global_zero:
        Console().print(overview_table(done, absent))
        if stem := several[0].exam.stem:
            write_whole(stem.parent / "overview.md", overview_markdown(done, absent))
    if failed:
        raise AvatarError(f"{len(failed)} of {len(several)} benchmarks could not be asked: {', '.join(failed)}")
