"""The health panel of an RL run: do advantages vanish, is replay alive, and a warning in words when it is not."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from avatar.modules.logs import StepLines, is_due
from avatar.modules.rl import RLModule
from avatar.replay import TIERS, Memory

ADVANTAGE_EDGES = (-2.0, -1.5, -1.0, -0.5, -1e-6, 1e-6, 0.5, 1.0, 1.5, 2.0)  # the narrow one holds the vanished
ADVANTAGE_LABELS = ("< -2", "-2", "-1.5", "-1", "-0.5", "0", "+0", "+0.5", "+1", "+1.5", "> +2")
STALENESS_EDGES = (2, 5, 10, 20, 50, 100, 200, 500)
STALENESS_LABELS = ("1", "2-4", "5-9", "10-19", "20-49", "50-99", "100-199", "200-499", "500+")
LOW_SAMPLE_SHARE, FEW_PROMPTS = 0.1, 10


class HealthPanel(Callback):
    """Histograms and shares over the last steps, shown now and then and kept in ``health.jsonl``.

    Args:
        every_n_steps: How often; 0 is never.
        show: Print the panel; else it is only written.
    """

    def __init__(self, every_n_steps: int = 100, show: bool = True) -> None:
        self.every_n_steps, self.show = every_n_steps, show
        self.resume_step: int | None = None
        self._file: StepLines | None = None
        self._window = Window()
        self._shown_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from where the run starts or goes on."""
        self._shown_at = trainer.global_step

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the step in; report when it is time."""
        if not isinstance(pl_module, RLModule) or not self.every_n_steps:
            return
        self._window.add(pl_module)
        step = trainer.global_step
        if not is_due(self._shown_at, step, self.every_n_steps):
            return
        self._shown_at = step
        report = self._window.report() | memory_report(pl_module.memory)
        self._window = Window()
        if self._file is None:
            self._file = StepLines(Path(trainer.default_root_dir) / "health.jsonl", self.resume_step)
        self._file.write([{"step": step, **report}])
        if self.show:
            Console().print(health_panel(report, step))
        for warning in warnings_of(report):
            rank_zero_warn(f"replay at step {step}: {warning}")

    def state_dict(self) -> dict[str, Any]:
        """The steps seen since the last report."""
        return dict(self._window.__dict__)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._window.__dict__.update(state)


class Window:
    """What the steps since the last report have shown, as plain counts and sums."""

    def __init__(self) -> None:
        self.fresh = [0] * (len(ADVANTAGE_EDGES) + 1)
        self.replayed = [0] * (len(ADVANTAGE_EDGES) + 1)
        self.staleness = [0] * (len(STALENESS_EDGES) + 1)
        self.shares: dict[str, list[float]] = {}

    def add(self, module: RLModule) -> None:
        """Take in the step that ``module`` has just made."""
        rollout = module.rollout
        if rollout is None:  # it stood by: none of its records could be read
            return
        for i, value in enumerate(rollout.estimates.tolist()):
            side = self.fresh if i < len(rollout.completions) else self.replayed
            side[bisect_right(ADVANTAGE_EDGES, value)] += 1
        for entry in rollout.entries:
            self.staleness[bisect_right(STALENESS_EDGES, rollout.step - entry.step)] += 1
        for name in ("advantage/zero_spread_share", "ess/fresh", "ess/replayed", "replay/hit_rate", "hint/share"):
            if name in module.metrics:
                self.shares.setdefault(name, []).append(float(module.metrics[name]))

    def report(self) -> dict[str, Any]:
        """Histograms, and the mean of each share."""
        means = {name: round(sum(values) / len(values), 6) for name, values in self.shares.items()}
        histograms = {"fresh": self.fresh, "replayed": self.replayed, "staleness": self.staleness}
        return {**means, **{f"histogram/{name}": counts for name, counts in histograms.items()}}


def memory_report(memory: Memory) -> dict[str, Any]:
    """Tiers as [stored, quota, prompts]; empty without a buffer."""
    if memory.buffer is None:
        return {}
    tiers = {name: [o.entries, o.quota, o.prompts] for name, o in memory.buffer.occupancy().items()}
    evicted = memory.buffer.num_evicted
    return {"replay/alive": memory.replay_since is not None, "replay/evicted": evicted, "tiers": tiers}


def warnings_of(report: dict[str, Any]) -> list[str]:
    """What is wrong with replay, in words, and what to do about it."""
    tiers: dict[str, list[int]] = report.get("tiers", {})
    if not tiers:
        return []
    found = []
    if not any(stored for stored, _, _ in tiers.values()):
        found.append(
            "nothing is stored. Are the rewards valid (reward/invalid_share), or replay.max_staleness too small?"
        )
    elif report["replay/alive"] and report.get("replay/hit_rate", 1.0) == 0:
        found.append("nothing was found to replay: do prompts come back? If not, take replay.scope any.")
    elif not report["replay/alive"] and report.get("replay/evicted"):
        found.append("tiers overflow before replay.minimum is there, so nothing is replayed. Raise replay.capacity.")
    starved = [name for name in TIERS if tiers[name][1] and not tiers[name][2]]
    if starved and sum(prompts for _, _, prompts in tiers.values()) >= FEW_PROMPTS:
        found.append(f"the {' and '.join(starved)} tier is empty: its share of the buffer is unused.")
    if (share := report.get("ess/replayed", 1.0)) < LOW_SAMPLE_SHARE:
        found.append(
            f"the importance weights are worth {share:.0%} of the replayed tokens: the policy has moved away from "
            "them. Lower replay.max_staleness or the learning rate, or cap objective.max_replayed_ratio."
        )
    return found


# -- the picture -------------------------------------------------------------------------------------------------------


def health_panel(report: dict[str, Any], step: int) -> Panel:
    """Histograms beside tiers and shares."""
    parts = [_histogram("advantages, fresh", ADVANTAGE_LABELS, report["histogram/fresh"])]
    if sum(report["histogram/replayed"]):
        parts.append(_histogram("advantages, replayed", ADVANTAGE_LABELS, report["histogram/replayed"]))
        parts.append(_histogram("staleness (steps)", STALENESS_LABELS, report["histogram/staleness"]))
    if report.get("tiers"):
        parts.append(_tiers(report["tiers"]))
    parts.append(_shares(report))
    return Panel(Columns(parts, padding=(0, 3)), title=f"health at step {step}", title_align="left")


def _histogram(title: str, labels: Sequence[str], counts: Sequence[int], width: int = 12) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="dim")
    table.add_column(min_width=width)
    table.add_column(justify="right")
    total = sum(counts) or 1
    table.add_row("", f"[bold]{title}[/bold]", "")
    for label, count in zip(labels, counts, strict=True):
        bar = "█" * round(width * count / max(max(counts), 1)) or ("▏" if count else "")
        table.add_row(label, bar, f"{count / total:.0%}")
    return table


def _tiers(tiers: dict[str, list[int]]) -> Table:
    table = Table(box=None, padding=(0, 1))
    for name in ("tier", "stored", "of", "prompts"):
        table.add_column(name, justify="left" if name == "tier" else "right")
    for name, (stored, quota, prompts) in tiers.items():
        table.add_row(name, f"{stored:,}", f"{quota:,}", f"{prompts:,}")
    return table


def _shares(report: dict[str, Any]) -> Table:
    names = {
        "advantage/zero_spread_share": "groups without spread",
        "hint/share": "prompts hinted",
        "replay/hit_rate": "hit rate of replay",
        "ess/replayed": "effective sample share",
    }
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(justify="right")
    for key, label in names.items():
        if key in report:
            table.add_row(label, f"{report[key]:.2f}")
    return table
