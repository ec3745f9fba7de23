"""``avatar fit | validate | test | predict``: LightningCLI with our defaults and messages, and ``--benchmark``."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from transformers.utils import logging as transformers_logging

import avatar
from avatar.benchmarks import BenchmarkData
from avatar.commands.argv import find_option, has_config, set_option
from avatar.commands.checkpoints import NAMED_CHECKPOINTS, named_checkpoint, point_at_model, resolve_checkpoint
from avatar.commands.evaluating import (
    absent_benchmarks,
    add_options,
    benchmark_data,
    benchmark_names,
    check_scoring,
    exam_of,
    examine,
    output_name,
    short_name,
)
from avatar.commands.messages import explain  # and every class whose short name `--model` and `--data` take
from avatar.commands.regrade import regrade
from avatar.errors import ConfigError
from avatar.modules import EvaluationModule, RLModule
from avatar.modules.callbacks import GracefulStop, ResumeLogs, RunProgress, SampleCompletions
from avatar.modules.checks import check_trainer
from avatar.modules.health import HealthPanel
from avatar.modules.loading import read_checkpoint
from avatar.modules.logs import RunLogger
from avatar.modules.saving import AtomicCheckpointIO, ConfigInCheckpoint, ExportModel, RunCheckpoint
from avatar.types import Prompt

WHOLE_CHECKPOINTS = ("auto", "ddp", "ddp_find_unused_parameters_true", "None")  # these write one file, others their own
EVALUATING = ("validate", "test", "predict")
# What the Trainer does unless a config says otherwise.
TRAINER_DEFAULTS = {
    "default_root_dir": "runs/default",
    "log_every_n_steps": 1,
    "max_epochs": -1,
    "min_epochs": 0,
    "num_sanity_val_steps": -1,  # the whole validation once before the first step: where the learning curve starts
    "enable_model_summary": False,
}


class AvatarParser(LightningArgumentParser):
    """Says what was wrong with an argument in a few lines, with the nearest known name."""

    known_options: ClassVar[set[str]] = set()

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Raise :class:`ConfigError`."""
        raise ConfigError(explain(message, self.known_options)) from ex


class RunConfig(SaveConfigCallback):
    """Keeps the whole configuration of a training run beside its results, as ``config.yaml``."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it, for training alone."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


class AvatarCLI(LightningCLI):
    """LightningCLI over the registries.

    A checkpoint brings its model's configuration as defaults, so that ``avatar test --ckpt_path X`` needs no config;
    what is given on the command line or in a config goes before it.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.subcommand_name = args[0]
        self.raw_args = args = point_at_model(args) if args[0] in EVALUATING else list(args)
        self.checkpoint = resolve_checkpoint(find_option(args, "--ckpt_path"), self.subcommand_name, has_config(args))
        self.stored = read_checkpoint(self.checkpoint) if self.checkpoint else None
        self.graceful = GracefulStop()
        self.benchmarks: list[str] = []
        self.several: list[BenchmarkData] = []
        super().__init__(
            EvaluationModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=AvatarParser,
            save_config_callback=RunConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            trainer_defaults=TRAINER_DEFAULTS,
            args=self.raw_args,
        )

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == self.subcommand_name and self.stored and self.stored.model:
            parser.set_defaults({"model": self.stored.model})
        elif subcommand in EVALUATING:
            parser.set_defaults({"model": {"class_path": "avatar.modules.EvaluationModule"}})
        if subcommand in EVALUATING:
            add_options(parser, subcommand == "test")
            parser.set_defaults({"verbose": False} if subcommand != "predict" else {})
        if subcommand == self.subcommand_name:
            AvatarParser.known_options = {o for o in parser._option_string_actions if o.startswith("--")}
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """``--num_threads``."""
        parser.add_argument(
            "--num_threads", type=int | None, default=None, help="CPU threads; a tiny model is fastest with one"
        )

    def before_instantiate_classes(self) -> None:
        """Set the number of threads."""
        if threads := self._get(self.config, "num_threads"):
            torch.set_num_threads(threads)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, with the checkpoint found and the benchmark in the place of the data."""
        args = list(self.raw_args)
        if self.checkpoint:
            set_option(args, "--ckpt_path", str(self.checkpoint))
        if benchmark := find_option(args, "--benchmark"):  # a misspelt name is answered before anything else
            self.benchmarks = benchmark_names(benchmark, find_option(args, "--benchmark_root"))
            check_scoring(self.benchmarks, find_option(args, "--scoring") or "avatar")
        config = parser.parse_args(args)
        chosen = config[self.subcommand_name]
        if chosen.ckpt_path in NAMED_CHECKPOINTS:
            self.checkpoint = named_checkpoint(chosen.ckpt_path, chosen.trainer)
            self.stored, chosen.ckpt_path = read_checkpoint(self.checkpoint), str(self.checkpoint)
        self.data_root = chosen.trainer.default_root_dir
        if chosen.get("benchmark"):
            self._use_benchmark(config, chosen)
        elif chosen.get("swap"):
            raise ConfigError("--swap needs --benchmark")
        elif chosen.get("data") is None:
            wanted = "--benchmark NAME or --config FILE" if self.subcommand_name in EVALUATING else "--config FILE"
            raise ConfigError(f"there is no data: give {wanted}")
        self.config = config

    def _use_benchmark(self, config: Namespace, chosen: Namespace) -> None:
        if chosen.swap not in (None, "audio", "video"):
            raise ConfigError(f"--swap must be audio or video, got {chosen.swap!r}")
        if len(self.benchmarks) > 1 and self.subcommand_name != "test":
            raise ConfigError(f"avatar {self.subcommand_name} takes one benchmark at a time; avatar test takes several")
        self.several = [benchmark_data(name, chosen, len(self.benchmarks) > 1) for name in self.benchmarks]
        data = {"class_path": "avatar.benchmarks.BenchmarkData", "init_args": {"benchmark": self.benchmarks[0]}}
        parsed = self.parser.parse_object({self.subcommand_name: {"data": data}}, config)
        chosen.data = parsed[self.subcommand_name].data

    def instantiate_classes(self) -> None:
        """As ever; benchmarks stand in the place of the data."""
        super().instantiate_classes()
        if self.several:
            self.datamodule = self.several[0]

    def _parse_ckpt_path(self) -> None:
        """Done in :meth:`_prepare_subcommand_parser`, as defaults."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The configured Trainer, with the run folder's logger and those callbacks that the config does not name."""
        config = self._get(self.config_init, "trainer")
        if self.subcommand == "fit":
            root = Path(config["default_root_dir"])
            given = config.get("logger")
            loggers = given if isinstance(given, list) else [given] if given not in (None, True, False) else []
            kwargs["logger"] = [*loggers, RunLogger(root)] if given is not False else False
            if str(config.get("strategy")) in WHOLE_CHECKPOINTS and not config.get("plugins"):
                kwargs["plugins"] = [AtomicCheckpointIO()]
        else:
            kwargs |= {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
        kwargs["callbacks"] = self._callbacks(list(config.get("callbacks") or []))
        try:
            return super().instantiate_trainer(**kwargs)
        except MisconfigurationException as error:
            hint = " There is no GPU here: --trainer.accelerator cpu" if "gpu backend" in str(error) else ""
            raise ConfigError(f"trainer: {error}{hint}") from None

    def _callbacks(self, given: list[Callback]) -> list[Callback]:
        """Those of the config, and ours where it names none of their kind."""
        wanted: list[Callback] = []
        bar = self._get(self.config_init, "trainer").get("enable_progress_bar") is not False
        if bar and not any(isinstance(g, ProgressBar) for g in given):
            wanted.append(RunProgress())
        if self.subcommand == "fit":
            model = self.config[self.subcommand].model.as_dict()
            wanted += [RunCheckpoint(), self.graceful, ResumeLogs(), SampleCompletions()]
            wanted += [HealthPanel(), ExportModel()]
            wanted.append(ConfigInCheckpoint(json.loads(json.dumps(model, default=str))))
        return given + [w for w in wanted if not any(isinstance(g, type(w)) for g in given)]

    def after_instantiate_classes(self) -> None:
        """Tell the module what it is graded by and where its answers go."""
        if self.subcommand in EVALUATING and self.stored:
            self.model.policy.skeleton = self.stored.skeleton
        asked = find_option(self.raw_args, "--trainer.default_root_dir")
        folder = Path(asked) if asked and self.several else run_folder(self.checkpoint, Path(self.data_root))
        if not self.several:
            self.model.output_stem = folder / self.subcommand if self.subcommand in ("test", "predict") else None
            return
        name = str(self.checkpoint or self.model.policy.path)
        self.model.benchmark = self.several[0].benchmark
        self.model.output_stem = folder / "test" / output_name(self.several[0], short_name(name, self.checkpoint))
        for data in self.several:
            if self.subcommand == "test":
                data.exam = exam_of(data, self.config.test, folder, name, self.checkpoint)

    def test(self, model: EvaluationModule, datamodule: LightningDataModule, **kwargs: Any) -> None:
        """Each benchmark in turn, or the test data of a config; what cannot be asked stops the others not."""
        if self.several:
            absent = absent_benchmarks(self.config.test.benchmark, self.benchmarks)
            examine(self.trainer, model, self.several, kwargs, absent)
        else:
            self.trainer.test(model, datamodule=datamodule, **kwargs)

    def before_fit(self) -> None:
        """Open the data and try the rewards before the model: what is missing or wrong is told in a second."""
        check_trainer(self.trainer)
        self.datamodule.setup("fit")
        if isinstance(self.model, RLModule) and isinstance(prompt := self.datamodule.train_dataset[0], Prompt):
            self.model.rehearse(prompt)


def run_folder(checkpoint: Path | None, root: Path) -> Path:
    """The run folder that the checkpoint lies in, else ``root``."""
    return checkpoint.parent.parent if checkpoint and checkpoint.parent.name == "checkpoints" else root


def quieten() -> None:
    """Hide notices about choices that are ours: the batch type, workers, the one checkpoint folder of a run."""
    for pattern in (
        ".*does not have many workers.*",
        ".*Trying to infer the `batch_size`.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*`isinstance.treespec, LeafSpec.` is deprecated.*",
        ".*The `.*_dataloader.` returned .* without.*",
        ".*Found .* module.* in eval mode.*",
        ".*IterableDataset.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
        ".*You have overridden `transfer_batch_to_device`.*",
        ".*It is recommended to use `self.log.*sync_dist=True.*",
        ".*Total length of `PromptLoader` across ranks is zero.*",
    ):
        warnings.filterwarnings("ignore", pattern)
    warnings.formatwarning = _format_warning
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(lambda record: not record.getMessage().startswith(_CHATTER))
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """What we warn of ourselves is for the user, who need not know which line did."""
    ours = Path(filename).is_relative_to(Path(avatar.__file__).parent)
    return f"warning: {message}\n" if ours else _python_format(message, category, filename, lineno, line)


_python_format = warnings.formatwarning
_CHATTER = ("GPU available", "TPU available", "HPU available", "💡", "Seed set to", "`Trainer.fit` stopped")


def main(argv: Sequence[str]) -> int:
    """Run ``avatar fit | validate | test | predict``."""
    from avatar.cli import EXIT_INTERRUPTED

    quieten()
    if argv[0] == "test" and (predictions := find_option(argv, "--regrade")):
        return regrade(predictions, argv[1:])
    try:
        cli = AvatarCLI(argv)
    except SystemExit as stop:  # how Lightning ends at Ctrl-C
        if isinstance(stop.__context__, KeyboardInterrupt):
            return EXIT_INTERRUPTED
        raise
    return EXIT_INTERRUPTED if cli.graceful.interrupted else 0
