import io
import json
import tarfile
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchcodec.encoders import AudioEncoder

from avatar import cli
from avatar.commands.data.inspect import add_row, empty_table, inspect
from avatar.commands.data.page import DPI, Page, without_glyph, wrap
from avatar.commands.data.sheet import caption, few_frames, spread, tick_step
from avatar.data.encode import encode_mp4
from avatar.data.index import ShardIndex
from avatar.data.inspect import Look, Shown, look_at, pick
from avatar.data.media import MediaInfo
from avatar.data.pack import pack
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record
from avatar.errors import ConfigError, DataError
from avatar.types import Clip

TEAL, PURPLE, PANEL, WAVE = (0, 128, 128), (128, 0, 128), (253, 236, 234), (59, 110, 165)


def film():
    """Two seconds of one colour, with a tone in the second."""
    frames = torch.tensor(TEAL, dtype=torch.uint8)[:, None, None].expand(20, 3, 56, 84).contiguous()
    return encode_mp4(frames, 10, tone(2) * (torch.arange(32_000) >= 16_000))


def picture():
    file = io.BytesIO()
    Image.new("RGB", (112, 84), PURPLE).save(file, "PNG")
    return file.getvalue()


def tone(seconds):
    return 0.3 * torch.sin(2 * torch.pi * 300 * torch.arange(seconds * 16_000) / 16_000)


def sound():
    return bytes(AudioEncoder(tone(3)[None], sample_rate=16_000).to_tensor("wav").numpy())


NUMBER = {"answer": "4", "problem_type": "number"}
CHOICE = {"answer": "b", "problem_type": "choice", "options": ["one [bold]", "two"]}
PARTS = [{"type": "video"}, {"type": "image"}, {"type": "audio"}, {"type": "text", "text": "and [now] ?"}]
SEVERAL = [{"video": "mp4", "start": 0.5, "end": 1.5}, {"image": "png"}, {"audio": "wav"}]
# key: (members, record)
SAMPLES = {
    "film": (
        {"mp4": film},
        {"question": "how many ?", "media": [{"video": "mp4"}], "use_audio_in_video": True} | NUMBER,
    ),
    "picture": ({"png": picture}, {"question": "is $\\frac{x$ [one] ?", "media": [{"image": "png"}]} | CHOICE),
    "sound": ({"wav": sound}, {"question": "几个音", "media": [{"audio": "wav"}]} | NUMBER),
    "several": (
        {"mp4": film, "png": picture, "wav": sound},
        {"messages": [{"role": "user", "content": PARTS}], "media": SEVERAL} | NUMBER,
    ),
    "text": ({}, {"question": "2 + 2 ?"} | NUMBER),
    "cut": ({"mp4": lambda: film()[:3000]}, {"question": "what ?", "media": [{"video": "mp4"}]} | NUMBER),
    "garbled": ({}, None),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _wide_console(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def write(tmp_path):
    """Write a folder of one shard that holds some of the samples."""

    def write_shard(*keys):
        folder = tmp_path / "shards"
        folder.mkdir()
        with tarfile.open(folder / "00000.tar", "w") as tar:
            for key in keys:
                members, record = SAMPLES[key]
                record = json.dumps(record).encode() if record else b"{no"
                for name, payload in {**{n: make() for n, make in members.items()}, "json": record}.items():
                    info = tarfile.TarInfo(f"{key}.{name}")
                    info.size = len(payload)
                    tar.addfile(info, io.BytesIO(payload))
        return str(folder)

    return write_shard


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def count(path, color, tolerance=6):
    """Pixels of nearly that colour."""
    return int((np.abs(pixels(path) - color).max(-1) <= tolerance).sum())


# -- the command -------------------------------------------------------------------------------------------------------


def test_it_prints_a_row_for_each_record_and_draws_all_of_them(write, tmp_path, capsys):
    out = tmp_path / "new" / "sheet.png"
    assert inspect(write(*SAMPLES), out=str(out)) == 0
    printed = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line for line in printed.splitlines() if line.startswith("│")}
    assert set(SAMPLES) <= set(rows)
    assert all(word in rows["film"] for word in ("video", "2.00", "number", "how many ?"))
    assert all(word in rows["picture"] for word in ("image", "choice", "is $\\frac{x$ [one] ?", "B. two"))
    assert all(word in rows["sound"] for word in ("audio", "3.00", "几个音"))
    assert "cut.mp4: the file is cut short" in rows["cut"]
    assert "not JSON" in rows["garbled"]
    assert f"contact sheet: {out}" in printed
    assert count(out, TEAL) > 8 * 50**2  # eight thumbnails of the film, and three of its crop
    assert count(out, PURPLE) > 2 * 50**2
    assert count(out, PANEL) > 2 * 50**2  # two panels that say what cannot be read
    assert count(out, WAVE) > 10_000


def test_a_sheet_of_good_records_has_no_red_panel_and_is_higher_with_each(write, tmp_path):
    folder = write("film", "picture", "text")
    heights = []
    for num in (1, 3):
        inspect(folder, num, str(tmp_path / "sheet.png"))
        assert count(tmp_path / "sheet.png", PANEL) == 0
        heights.append(len(pixels(tmp_path / "sheet.png")))
    assert heights[1] > heights[0] + 2 * 0.5 * DPI


def test_no_more_records_are_shown_than_asked_for(write, tmp_path, capsys):
    folder = write("text", "cut", "film", "garbled")
    assert pick(4, 2) == [0, 2]
    assert inspect(folder, num=2, out=str(tmp_path / "s.png")) == 0
    printed = capsys.readouterr().out
    assert "2 of 4 records" in printed
    assert [key for key in SAMPLES if f" {key} " in printed] == ["film", "text"]


def test_a_pack_is_summed_up_first(tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(sound())
    rows = [{"key": k, "question": "?", "media": [{"audio": f"{k}.wav"}]} | NUMBER for k in ("a", "b")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pack(str(tmp_path / "rows.jsonl"), out=str(tmp_path / "packed"), jobs=1)
    capsys.readouterr()
    assert inspect(str(tmp_path / "packed"), out=str(tmp_path / "s.png")) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "records 1 of 2" in printed
    assert "in quarantine 1" in printed
    assert "1 of 1 records" in printed


def test_a_script_without_glyphs_is_named_once_and_warned_of_never(write, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inspect(write("sound"), out=str(tmp_path / "s.png"))
    said = capsys.readouterr().out.count("boxes stand for 3 signs that no font here has")
    assert said == (1 if without_glyph("几个音") else 0)


def test_a_folder_that_is_not_there_and_options_that_make_no_sense_are_said(write, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        inspect(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="--num must be at least 1, got 0"):
        inspect(write("text"), num=0)
    with pytest.raises(ConfigError, match=r"--out sheet\.jpg: the contact sheet is a PNG"):
        inspect("anywhere", out="sheet.jpg")


def test_the_exit_status_is_2_for_a_missing_folder_and_0_for_records_that_cannot_be_read(write, tmp_path, capsys):
    assert cli.main(["data", "inspect", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert cli.main(["data", "inspect", write("garbled"), "--out", str(tmp_path / "s.png")]) == 0


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_a_record_is_looked_at_as_training_gets_it(write):
    [film_, several, cut] = look_at(ShardIndex(write("film", "several", "cut")), [0, 1, 2], ClipRule())
    [shown] = film_.shown
    assert len(shown.clip.frames) == 16
    assert (shown.info.width, shown.info.height, shown.info.fps) == (84, 56, 10)
    assert (shown.seconds, shown.sound_seconds) == (2.0, 2.0)
    assert [part.clip.kind for part in several.shown] == ["video", "image", "audio"]
    assert [part.seconds for part in several.shown] == [1.0, None, 3.0]  # 0.5 s to 1.5 s; a picture; all of the sound
    assert [part.sound_seconds for part in several.shown] == [None, None, 3.0]  # the film is not to be heard
    assert several.question == "and [now] ?"
    assert not cut.shown
    assert cut.record.question == "what ?"
    assert "cut short" in cut.reason


def test_a_record_that_cannot_be_read_is_red_and_the_others_are_not():
    table = empty_table()
    add_row(table, Look("good", Record("what ?", "this")))
    add_row(table, Look("bad", Record("what ?", "this", media=[Medium("video", "mp4")]), reason="[it] is broken"))
    add_row(table, Look("worse", None, reason="no record"))
    assert [row.style for row in table.rows] == [None, "red", "red"]
    cells = [[cell.plain for cell in column.cells] for column in table.columns]
    assert cells[1] == ["", "video", ""]
    assert cells[-2] == ["what ?", "[it] is broken", "no record"]


def test_the_caption_says_what_is_asked_for_and_what_is_there():
    info = MediaInfo(True, True, 12.0, 12.0, 640, 360, 30.0, 360, 48_000, 2)
    frames = torch.zeros(8, 3, 364, 644, dtype=torch.uint8)
    quiet = Shown(Medium("video", "mp4", 2.5), info, Clip("c", frames, 1.0))
    assert caption(quiet) == (
        "video (mp4) · 640 x 360 in the file at 30 a second · from 2.5 s to the end · 8 frames of 644 x 364 seen · "
        "its sound is not asked for"
    )
    assert caption(Shown(Medium("audio", "wav"), MediaInfo(), Clip("c", audio=0.25 * torch.ones(8000)))) == (
        "audio (wav) · 0.50 s heard, peak 0.25"
    )
    assert "all silent" in caption(Shown(Medium("audio", "wav"), MediaInfo(), Clip("c", audio=torch.zeros(8000))))


def test_thumbnails_are_up_to_eight_frames_at_their_own_times():
    frames = torch.arange(16, dtype=torch.uint8)[:, None, None, None].expand(16, 3, 28, 28)
    times = torch.arange(16).double() ** 2  # a rate that varies
    picked, when = few_frames(Clip("c", frames, 1.0, times=times))
    assert [int(frame[0, 0, 0]) for frame in picked] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert when == [0, 4, 16, 36, 64, 100, 144, 196]
    assert few_frames(Clip("c", frames[:3], 2.0))[1] == [0, 0.5, 1]  # no times: steps of 1 / fps
    assert few_frames(Clip("c", audio=torch.zeros(5))) == ([], [])


def test_sound_is_drawn_at_the_seconds_at_which_it_is_heard(tmp_path):
    """Silence for three seconds of four, then a tone: what stands out is right of three quarters."""
    page = Page(4.2)
    page.wave(torch.cat([torch.zeros(48_000), tone(1)]), 0.1, 0.1, 4.0, 1.0, color="#3b6ea5")
    page.save(tmp_path / "wave.png", 1.2)
    rows = (np.abs(pixels(tmp_path / "wave.png") - WAVE).max(-1) < 40).sum(0)  # blue pixels of each column
    high = np.flatnonzero(rows > 0.8 * DPI)
    assert high.min() == pytest.approx((0.1 + 3.0) * DPI, abs=3)
    assert high.max() == pytest.approx((0.1 + 4.0) * DPI, abs=3)
    assert len(high) > 0.95 * DPI


def test_a_frame_is_drawn_where_it_is_put(tmp_path):
    page = Page(3.0)
    frame = torch.zeros(3, 40, 80, dtype=torch.uint8)
    frame[:, :20] = 200  # its upper half is light
    page.picture(frame, 1.0, 0.5, 1.0, 0.5)
    page.save(tmp_path / "frame.png", 1.5)
    image = pixels(tmp_path / "frame.png")[..., 0]
    at = lambda x, y: image[round(y * DPI), round(x * DPI)]  # noqa: E731
    assert [at(0.9, 0.7), at(1.5, 0.6), at(1.5, 0.9), at(2.1, 0.7), at(1.5, 1.1)] == [255, 200, 0, 255, 255]


# -- arithmetic --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 40), st.none() | st.integers(0, 5))
def test_picked_records_are_different_ones_in_order(total, num, seed):
    places = pick(total, num, seed)
    assert len(places) == min(total, num)
    assert places == sorted(set(places))
    assert 0 <= places[0] <= places[-1] < total
    assert places == pick(total, num, seed)
    if seed is None and num < total:  # evenly: steps differ by one at most
        steps = np.diff(places)
        assert not len(steps) or steps.max() - steps.min() <= 1


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8).map(sorted))
def test_frames_of_any_times_are_spread_without_overlap_and_within_bounds(places):
    moved = spread(places, 1.25, 0.0, 10.0)  # eight of 1.25 have 8.75 between the first and the last
    assert min(np.diff(moved), default=1.25) >= 1.25 - 1e-9
    assert moved[0] >= -1e-9
    assert moved[-1] <= 10 + 1e-9


def test_frames_that_do_not_overlap_stay_where_they_are():
    assert spread([1.0, 3.0, 9.0], 1.5, 0.0, 10.0) == [1.0, 3.0, 9.0]
    assert spread([4.0, 4.0, 9.9], 1.5, 0.0, 10.0) == [4.0, 5.5, 9.9]


@given(st.floats(1e-3, 1e5))
def test_an_axis_has_three_to_ten_parts_of_a_round_number_of_seconds(seconds):
    step = tick_step(seconds)
    assert 3 <= seconds / step <= 10.001
    assert f"{step:e}"[0] in "125"


@given(st.text(min_size=1, max_size=200))
def test_wrapped_lines_fit_and_lose_nothing_but_blanks(text):
    lines = wrap(text, 1.5, 9)
    plain = "".join(sign if sign.isprintable() else " " for line in text.splitlines() for sign in line)
    assert "".join("".join(lines).split()) == "".join(plain.split())


@pytest.mark.parametrize(
    "text", ["how many beeps are there in this clip of a street ?", "w" * 200, "招牌上写着什么字" * 9]
)
def test_no_line_is_wider_than_the_column(text, tmp_path):
    lines, page = wrap(text, 1.5, 9), Page(3.0)
    for i, line in enumerate(lines):
        page.text(0.1, 0.1 + 0.2 * i, line)
    page.save(tmp_path / "text.png", 0.3 + 0.2 * len(lines))
    dark = np.flatnonzero((pixels(tmp_path / "text.png") < 128).all(-1).any(0))
    assert len(lines) > 1
    assert dark.max() / DPI < 0.1 + 1.5 + 0.02
    assert dark.max() / DPI > 0.1 + 0.9  # and the column is used
