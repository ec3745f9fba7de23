import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torchcodec.decoders import AudioDecoder, VideoDecoder

from avatar.commands.bench import main
from avatar.commands.bench.clips import FPS, make_clip
from avatar.commands.bench.data import DataOptions, bench_data, data_table, machine, measure_data, ratios
from avatar.commands.bench.errors import BenchError
from avatar.commands.bench.lots import check_runs, cpu_seconds_of
from avatar.commands.bench.ways import WAYS, Seen, by_pyav, by_us, check_crop, check_same, file_of
from avatar.data.schema import Medium
from avatar.errors import ConfigError

FOUR = ["decode", "pipeline", "pyav_sequential", "full_decode"]
SMALL = {"clips": 2, "long_seconds": 4, "side": 56, "rounds": 1}


@pytest.fixture(scope="module")
def file():
    """Three seconds with sound: 75 frames."""
    return file_of(make_clip(3.0, 56, seed=0), 3.0, FPS, sound=True)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """What the command prints and writes, with PyAV where it is installed."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    assert main(["bench", "data", *(f"--{name}={value}" for name, value in SMALL.items()), f"--json={path}"]) == 0
    return json.loads(path.read_text())


@pytest.fixture
def no_pyav(monkeypatch):
    """As where ``av`` is not installed: the import fails."""
    monkeypatch.setitem(sys.modules, "av", None)


# -- figures -----------------------------------------------------------------------------------------------------------


def test_it_writes_clips_a_cpu_second_of_four_ways_for_short_and_long_clips(figures):
    for name in ("short", "long"):
        assert list(figures[name]) == FOUR
        assert all(figures[name][way] > 0 for way in FOUR if figures["machine"]["av"] or way != "pyav_sequential")
    assert figures["audio_crop"]["crop"] > 0
    assert figures["audio_crop"]["whole"] > 0
    assert {name: figures["options"][name] for name in SMALL} == SMALL


def test_ratios_say_how_many_times_as_fast_we_decode_and_what_the_pipeline_keeps():
    speeds = {"short": dict(zip(FOUR, (40.0, 30.0, 20.0, 10.0), strict=True))}
    # 40 / 20, 40 / 10, 30 / 40
    assert ratios(speeds) == {"short": {"decode_over_pyav": 2.0, "decode_over_full": 4.0, "pipeline_of_decode": 0.75}}


def test_the_table_sets_every_way_beside_ours():
    speed = dict(zip(FOUR, (40.0, 32.0, 20.0, 10.0), strict=True))
    rows = table_rows(some_figures(speed, speed))
    assert rows[0][1:] == ("40", "", "40", "")
    assert rows[1][1:] == ("32", "1.25x", "32", "1.25x")
    assert rows[2][1:] == ("20", "2.00x", "20", "2.00x")
    assert rows[3][1:] == ("10", "4.00x", "10", "4.00x")


def test_without_pyav_its_entries_are_null_and_the_rest_is_measured(no_pyav, capsys):
    figures = measure_data(DataOptions(**SMALL))
    for name in ("short", "long"):
        assert figures[name]["pyav_sequential"] is figures["ratios"][name]["decode_over_pyav"] is None
        assert min(figures[name][way] for way in FOUR if way != "pyav_sequential") > 0
    assert machine()["av"] is None
    assert table_rows(figures)[2][1:] == ("-", "", "-", "")
    json.dumps(figures)


def test_without_pyav_it_says_how_to_install_it(no_pyav, monkeypatch, capsys):
    speed = dict(zip(FOUR, (40.0, 32.0, None, 10.0), strict=True))
    monkeypatch.setattr("avatar.commands.bench.data.measure_data", lambda options: some_figures(speed, speed))
    bench_data(DataOptions(**SMALL))
    printed = capsys.readouterr().out
    assert "pip install 'avatar-rl[bench]'" in printed
    assert "over PyAV" not in printed


def some_figures(short, long):
    speeds = {"short": short, "long": long}
    return {
        **speeds,
        "ratios": ratios(speeds),
        "audio_crop": {"crop": 60.0, "whole": 2.0, "ratio": 30.0},
        "options": SMALL | {"long_clips": 1},
        "kbit_s": {"short": 220.0, "long": 218.0},
    }


def table_rows(figures):
    return list(zip(*(column.cells for column in data_table(figures).columns), strict=True))


# -- the ways ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(WAYS))
def test_all_ways_give_the_same_frames_and_the_same_sound(name, file):
    if name == "pyav_sequential":
        pytest.importorskip("av")
    seen = WAYS[name](file)
    check_same(name, by_us(file), seen)
    # 16 frames from the first of 75 to the last, 74 / 15 apart, as the reference spreads them
    assert list(file.indices) == torch.linspace(0, 74, 16).round().int().tolist()
    exact = VideoDecoder(file.payload).get_frames_at(list(file.indices)).data
    assert (seen.frames.float() - exact.float()).abs().mean() < 1
    assert 47_900 < len(seen.audio) < 49_600  # 3 s at 16 kHz; AAC pads its last block, which ours cuts off


def test_a_neighbouring_frame_is_not_the_same(file):
    """The clips move so much from frame to frame that a way that is one frame off is found out."""
    ours = by_us(file)
    late = by_full_decode_at(file, 1)
    with pytest.raises(BenchError, match=r"late: frame .* is another than decode gave"):
        check_same("late", ours, late)


def by_full_decode_at(file, shift):
    """One frame of sixteen is its neighbour; all else is right."""
    indices = [*file.indices[:7], file.indices[7] + shift, *file.indices[8:]]
    return WAYS["full_decode"](replace(file, indices=tuple(indices)))


def test_another_sound_or_none_is_not_the_same(file):
    ours = by_us(file)
    for audio, message in (
        (ours.audio.roll(40), "another sound than decode gave"),
        (ours.audio[:24_000], "24000 samples of sound in place of 48000"),
        (None, "either it or decode gave no sound"),
    ):
        with pytest.raises(BenchError, match=f"other: {message}"):
            check_same("other", ours, Seen(ours.frames, audio))
    with pytest.raises(BenchError, match=r"other: frames of \[15, 3, 56, 56\]"):
        check_same("other", ours, Seen(ours.frames[1:], ours.audio))


def test_no_figure_is_given_for_a_way_that_sees_something_else(file):
    def liar():
        yield Seen(by_us(file).frames.flip(0), by_us(file).audio)

    check_runs([file], {"decode": lambda: map(by_us, [file])})
    with pytest.raises(BenchError, match=r"liar: frame \d+ of 16 is another"):
        check_runs([file], {"liar": liar})
    with pytest.raises(ValueError, match="shorter"):
        check_runs([file, file], {"lazy": lambda: map(by_us, [file])})


def test_pyav_converts_only_the_frames_that_are_wanted(file):
    pytest.importorskip("av")
    few = by_pyav(replace(file, indices=(3, 40), sound=False))
    assert few.audio is None
    wanted = VideoDecoder(file.payload).get_frames_at([3, 40]).data
    assert (few.frames.float() - wanted.float()).abs().mean() < 1


def test_the_sound_of_a_crop_is_a_part_of_the_whole(file):
    check_crop(file.payload, Medium("audio", "mp4", 1.0, 2.5))


# -- the clips ---------------------------------------------------------------------------------------------------------


def test_a_clip_is_as_long_as_asked_for_and_has_stereo_sound():
    payload = make_clip(2.6, 56, seed=1)
    video, sound = VideoDecoder(payload).metadata, AudioDecoder(payload).metadata
    assert (video.num_frames, video.average_fps, video.width, video.height) == (65, 25, 56, 56)  # 2.6 x 25
    assert (sound.num_channels, sound.sample_rate) == (2, 44_100)
    assert sound.duration_seconds == pytest.approx(2.6, abs=0.1)
    assert video.codec == "h264"
    assert sound.codec == "aac"


def test_the_same_seed_gives_the_same_clip_and_more_noise_more_bits():
    quiet, again, other = (make_clip(2.0, 56, seed, noise=2.0) for seed in (0, 0, 1))
    assert quiet == again
    assert quiet != other
    assert len(make_clip(2.0, 56, 0, noise=20.0)) > 1.3 * len(quiet)


def test_every_piece_of_a_clip_is_told():
    told = []
    make_clip(20.5, 28, 0, advance=told.append)
    assert sum(told) == pytest.approx(512 / 25)  # 20.5 x 25 = 512.5, rounded to even
    assert len(told) > 10


# -- CPU time ----------------------------------------------------------------------------------------------------------


def test_cpu_seconds_of_other_processes_are_counted():
    def wait():
        time.sleep(0.5)
        yield

    idle = cpu_seconds_of(wait)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        time.sleep(0.2)
        with_child = cpu_seconds_of(wait)
        busy.kill()
    assert idle < 0.02 < with_child  # it has a core's share of half a second


def test_waiting_costs_nothing_and_work_costs_what_it_takes():
    def work():
        began = time.process_time()
        while time.process_time() - began < 0.2:
            pass
        yield

    assert 0.2 <= cpu_seconds_of(work) < 0.3


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 0}, "--clips must be at least 1, got 0"),
        ({"long_seconds": float("nan")}, "--long_seconds must be at least 1, got nan"),
        ({"rounds": 0}, "--rounds must be at least 1, got 0"),
        ({"side": 60}, "--side must be a multiple of 28, so that no frame is scaled, got 60"),
        ({"json": "no/such/folder/figures.json"}, "there is no folder no/such/folder"),
    ],
)
def test_what_cannot_be_measured_is_said_first(options, message):
    with pytest.raises(ConfigError, match=message):
        DataOptions(**options)
