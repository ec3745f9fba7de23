"""``avatar bench data``: clips a CPU second, decoded our way, through our whole pipeline, and in the ways of others."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from avatar.commands.bar import LateBar
from avatar.commands.bench.clips import FPS, make_clip
from avatar.commands.bench.lots import PIPELINE, Pipeline, check_runs, make_runs, measure_runs
from avatar.commands.bench.ways import NUM_FRAMES, WAYS, File, check_crop, file_of, load_pyav, sound_of
from avatar.data.rules import FACTOR
from avatar.data.schema import Medium
from avatar.errors import ConfigError

SHORT_SECONDS, CROP_SECONDS = (2.0, 10.0), 10.0
DECODE, PYAV, FULL = WAYS
LABELS = {
    DECODE: "decode: ours, alone",
    PIPELINE: "pipeline: from shard to prompt",
    PYAV: "PyAV, in sequence",
    FULL: f"all frames, then {NUM_FRAMES} of them",
}
TARGETS = {"short_over_pyav": 1.5, "long_over_pyav": 3.5, "pipeline_of_decode": 0.85}


@dataclass(frozen=True)
class DataOptions:
    """What ``avatar bench data`` is asked to measure.

    Attributes:
        clips: Number of short clips, of 2 to 10 s.
        long_clips: Number of long ones.
        long_seconds: Duration of a long one.
        side: Height and width of all of them in pixels, a multiple of 28, so that no frame is scaled.
        noise: Of the camera, in grey levels. The more of it, the more bits there are, and the larger the part of any
            way that is the H.264 decoder's work, which all of them share.
        rounds: How often each way sees each clip.
        json: File to write the figures to.

    Raises:
        ConfigError: A value makes no sense.
    """

    clips: int = 24
    long_clips: int = 1
    long_seconds: float = 600.0
    side: int = 224
    noise: float = 6.0
    rounds: int = 5
    json: str | None = None

    def __post_init__(self) -> None:
        for name, least in {"clips": 1, "long_clips": 1, "long_seconds": 1, "noise": 0, "rounds": 1}.items():
            if not getattr(self, name) >= least:
                raise ConfigError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if self.side < FACTOR or self.side % FACTOR:
            raise ConfigError(f"--side must be a multiple of {FACTOR}, so that no frame is scaled, got {self.side}")
        if self.json and not Path(self.json).parent.is_dir():
            raise ConfigError(f"--json {self.json}: there is no folder {Path(self.json).parent}")


def bench_data(options: DataOptions) -> None:
    """Clips a CPU second: decoded our way, through the whole pipeline, by PyAV, and by decoding every frame."""
    figures = measure_data(options)
    Console().print(data_table(figures))
    if load_pyav() is None:
        print("PyAV is not installed, so it was left out: pip install 'avatar-rl[bench]'")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure_data(options: DataOptions) -> dict[str, Any]:
    """All figures by name, as ``--json`` writes them: clips a CPU second, None for a way that is not installed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        lots = make_lots(options)
        with LateBar("measuring", options.rounds * (2 * len(LABELS) + 2)) as bar:
            speeds = {name: measure_lot(files, options.rounds, bar) for name, files in lots.items()}
            sound = measure_sound(lots["long"][0], options.rounds, bar)
    finally:
        torch.set_num_threads(threads)
    return {
        **speeds,
        "audio_crop": sound,
        "ratios": ratios(speeds),
        "targets": TARGETS,
        "options": {name: value for name, value in asdict(options).items() if name != "json"},
        "kbit_s": {name: _kilobits(files) for name, files in lots.items()},
        "machine": machine(),
    }


def make_lots(options: DataOptions) -> dict[str, list[File]]:
    """The clips, the same in every run: short ones wanted with their sound, long ones without."""
    (shortest, longest), num = SHORT_SECONDS, options.clips
    durations = [shortest + (longest - shortest) * (i + 0.5) / num for i in range(num)]
    durations += [options.long_seconds] * options.long_clips
    files = []
    with LateBar("making clips", sum(durations)) as bar:
        for i, seconds in enumerate(durations):
            payload = make_clip(seconds, options.side, i, options.noise, bar.advance)
            files.append(file_of(payload, seconds, FPS, sound=i < num))
    return {"short": files[:num], "long": files[num:]}


def measure_lot(files: Sequence[File], rounds: int, bar: LateBar) -> dict[str, float | None]:
    """Clips a CPU second of each way, measured once it is known that all of them give the same."""
    ways = {name: way for name, way in WAYS.items() if name != PYAV or load_pyav()}
    with TemporaryDirectory() as folder, Pipeline(Path(folder) / "shards", files) as pipeline:
        runs = make_runs(files, pipeline, ways)
        check_runs(files, runs)
        speeds = measure_runs(runs, len(files), rounds, bar)
    return {name: speeds.get(name) for name in LABELS}


def measure_sound(file: File, rounds: int, bar: LateBar) -> dict[str, float]:
    """The sound of ten seconds in the middle of a long clip, and all of its sound: how many a CPU second."""
    start = file.seconds / 2
    whole, crop = Medium("audio", "mp4"), Medium("audio", "mp4", start, min(start + CROP_SECONDS, file.seconds))
    check_crop(file.payload, crop)
    ways = {"crop": crop, "whole": whole}
    runs = {name: partial(map, partial(sound_of, file.payload), [medium]) for name, medium in ways.items()}
    speeds = measure_runs(runs, 1, rounds, bar)
    return {**speeds, "ratio": speeds["crop"] / speeds["whole"]}


def ratios(speeds: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """How many times as fast as the others we decode, and which share of that the pipeline keeps."""

    def ratio(speed: dict[str, float | None], one: str, other: str) -> float | None:
        above, below = speed[one], speed[other]
        return above / below if above and below else None

    return {
        name: {
            "decode_over_pyav": ratio(speed, DECODE, PYAV),
            "decode_over_full": ratio(speed, DECODE, FULL),
            "pipeline_of_decode": ratio(speed, PIPELINE, DECODE),
        }
        for name, speed in speeds.items()
    }


def machine() -> dict[str, Any]:
    """What the figures depend on beside the clips."""
    av, info = load_pyav(), Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "processor": next(models, platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchcodec": version("torchcodec"),
        "av": av.__version__ if av else None,
    }


def _kilobits(files: Sequence[File]) -> float:
    return sum(len(file.payload) for file in files) * 8e-3 / sum(file.seconds for file in files)


# -- showing -----------------------------------------------------------------------------------------------------------


def data_table(figures: dict[str, Any]) -> Table:
    """The figures of :func:`measure_data`, beside how many times as fast as each way we decode."""
    table = Table(title=_title(figures), caption=_caption(figures), title_justify="left", caption_justify="left")
    table.add_column("clips a CPU second")
    for name in ("short", "long"):
        table.add_column(name, justify="right")
        table.add_column("decode is", justify="right")
    for way, label in LABELS.items():
        cells = []
        for speed in (figures["short"], figures["long"]):
            value, ours = speed[way], speed[DECODE]
            cells += ["-", ""] if value is None else [_number(value), "" if way == DECODE else f"{ours / value:.2f}x"]
        table.add_row(label, *cells, style="bold" if way == DECODE else None)
    table.add_section()
    sound = figures["audio_crop"]
    table.add_row(f"sound of {CROP_SECONDS:g} s of a long clip", "", "", _number(sound["crop"]), "")
    table.add_row("sound of all of it", "", "", _number(sound["whole"]), "")
    return table


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _title(figures: dict[str, Any]) -> str:
    asked, rates = figures["options"], figures["kbit_s"]
    return (
        f"{NUM_FRAMES} frames of clips of {asked['side']} x {asked['side']} pixels at {FPS} a second: {asked['clips']} "
        f"short ones ({SHORT_SECONDS[0]:g}-{SHORT_SECONDS[1]:g} s, {rates['short']:.0f} kbit/s) with sound, "
        f"{asked['long_clips']} of {asked['long_seconds']:g} s ({rates['long']:.0f} kbit/s) without"
    )


def _caption(figures: dict[str, Any]) -> str:
    short, long = (figures["ratios"][name] for name in ("short", "long"))
    kept = " and ".join(f"{ratio['pipeline_of_decode']:.0%}" for ratio in (short, long))
    wanted = f"at least {TARGETS['pipeline_of_decode']:.0%} are wanted"
    if short["decode_over_pyav"]:
        wanted += f", and {TARGETS['short_over_pyav']:g}x and {TARGETS['long_over_pyav']:g}x over PyAV"
    return f"The pipeline keeps {kept} of decode; {wanted}. All ways gave the same frames and the same sound."
