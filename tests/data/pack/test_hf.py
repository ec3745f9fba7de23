"""Hugging Face datasets, as the library itself writes them."""

import csv
import json
import sys

import pytest

from avatar.data.pack import FORMATS, Embedded, Shown
from avatar.data.pack.guess import find_source
from avatar.data.pack.hf import BATCH
from avatar.errors import ConfigError, DataError

datasets = pytest.importorskip("datasets")
pytest.importorskip("pyarrow")


def table(folder, embedded=True):
    """Three questions about two clips, as a dataset with a column of videos."""
    clips = [(folder / f"clips/{name}.mp4") for name in "aba"]
    files = [{"bytes": c.read_bytes(), "path": c.name} if embedded else f"clips/{c.name}" for c in clips]
    columns = {
        "id": ["x", "y", "z"],
        "problem": ["how many?", "which?", "what is written?"],
        "problem_type": ["numerical", "multiple choice", "OCR"],
        "options": [[], ["A. red", "B. green"], []],
        "solution": ["<answer>2</answer>", "<answer>B</answer>", "<answer>STOP</answer>"],
        "video": files,
        "source": ["web", None, "tv"],
    }
    made = datasets.Dataset.from_dict(columns)
    return made.cast_column("video", datasets.Video(decode=False)) if embedded else made


def check_three(found, folder):
    assert found.quarantine == []
    assert found.manifest["format"] == "hf"
    assert found.manifest["counts"]["samples"] == 2
    records = {found.record(key).metadata.get("source_key", key): key for key in found.keys}
    assert sorted(records) == ["x", "y", "z"]
    for name, clip in (("x", "a"), ("y", "b"), ("z", "a")):
        assert found.payloads(records[name]) == [(folder / f"clips/{clip}.mp4").read_bytes()]
    assert found.record(records["y"]).options == ["red", "green"]
    assert found.record(records["z"]).problem_type == "ocr"
    assert found.record(records["x"]).metadata["source"] == "web"


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("layout", ["saved", "saved split", "file", "folder", "pattern"])
def test_what_the_library_writes_is_packed_whole(packed, folder, tmp_path, layout, embedded):
    made = table(folder, embedded)
    place = tmp_path / "hf"
    if layout == "saved":
        made.save_to_disk(place)
    elif layout == "saved split":
        datasets.DatasetDict({"train": made}).save_to_disk(place)
    else:
        (place / "data").mkdir(parents=True)
        made.select([0, 1]).to_parquet(place / "data/train-00000-of-00002.parquet")
        made.select([2]).to_parquet(place / "data/train-00001-of-00002.parquet")
    source = {"file": place / "all.parquet", "pattern": place / "data/train-*.parquet"}.get(layout, place)
    if layout == "file":
        made.to_parquet(source)
    status, found = packed(source, media_root=str(folder))
    assert status == 0
    check_three(found, folder)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_folder_of_media_with_a_table(packed, folder, form):
    rows = [
        {"file_name": "clips/a.mp4", "question": "how many?", "answer": "2", "problem_type": "number", "id": "x"},
        {"file_name": "pictures/red.png", "question": "which?", "answer": "red", "problem_type": "exact", "id": "y"},
        {"file_name": "sounds/beep.wav", "question": "what?", "answer": "a beep", "problem_type": "free", "id": "z"},
    ]
    if form == "csv":
        with (folder / "metadata.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, found = packed(folder)
    assert (status, found.keys, found.quarantine) == (0, ["x", "y", "z"], [])
    assert [found.record(key).media[0].kind for key in "xyz"] == ["video", "image", "audio"]
    assert found.payloads("y") == [(folder / "pictures/red.png").read_bytes()]


def test_columns_of_file_names_may_say_their_kind_and_be_lists(tmp_path):
    (tmp_path / "metadata.jsonl").write_text("{}\n")
    read = FORMATS["hf"](tmp_path).read
    asked = {"question": "same?", "answer": "yes"}
    row = {**asked, "audio_file_name": "a.mp4", "image_file_names": ["1.png", "2.png"], "file_name": "b.mp4"}
    assert read(row).media == [
        Shown("video", "b.mp4"), Shown("image", "1.png"), Shown("image", "2.png"), Shown("audio", "a.mp4")
    ]  # fmt: skip


def test_rows_may_be_of_any_of_the_other_formats(tmp_path):
    (tmp_path / "metadata.jsonl").write_text("{}\n")
    read = FORMATS["hf"](tmp_path).read
    chat = [{"role": "user", "content": "<image>which?"}]
    assert read({"messages": chat, "images": [{"bytes": b"x", "path": "1.png"}], "answer": "red"}).media == [
        Shown("image", Embedded(b"x", "1.png"))
    ]
    ours = {"question": "q", "answer": "a", "media": [{"video": "a.mp4", "image": None, "start": 1.0, "end": None}]}
    assert read(ours).media == [Shown("video", "a.mp4", 1.0)]
    with pytest.raises(DataError, match=r"the columns \(text, label\) are those of no format"):
        read({"text": "x", "label": 3})


def test_several_splits_are_not_mixed(folder, tmp_path):
    made = table(folder, False)
    (tmp_path / "hf/data").mkdir(parents=True)
    for split in ("train", "test"):
        made.to_parquet(tmp_path / f"hf/data/{split}-00000-of-00001.parquet")
    with pytest.raises(
        ConfigError, match=r"holds 2 splits \(test, train\); pack one at a time, as .*data/test-\*.parquet"
    ):
        FORMATS["hf"](tmp_path / "hf")
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"2 splits \(train, test\); pack one at a time, as .*saved/train"):
        FORMATS["hf"](tmp_path / "saved")
    assert find_source(str(tmp_path / "saved/train"), "auto")[1] == "hf"
    with pytest.raises(ConfigError, match="no file is called so"):
        FORMATS["hf"](tmp_path / "hf/data/dev-*.parquet")


def test_more_rows_than_are_held_at_a_time_come_in_order(tmp_path):
    num = 5 * BATCH + 3
    columns = {"question": [f"q{i}" for i in range(num)], "answer": [str(i) for i in range(num)]}
    made = datasets.Dataset.from_dict(columns)
    made.save_to_disk(tmp_path / "saved")
    made.to_parquet(tmp_path / "all.parquet", batch_size=BATCH + 1)
    for place in (tmp_path / "saved", tmp_path / "all.parquet"):
        rows = list(FORMATS["hf"](place).rows())
        assert [row.fields["question"] for row in rows] == columns["question"]
        assert rows[-1].origin.endswith(f"#{num}")


def test_without_pyarrow_the_extra_is_named(folder, tmp_path, monkeypatch):
    table(folder).to_parquet(tmp_path / "all.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'avatar-rl\[hf\]'"):
        list(FORMATS["hf"](tmp_path / "all.parquet").rows())


def test_a_broken_table_is_named(tmp_path):
    (tmp_path / "all.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    with pytest.raises(DataError, match=r"all.parquet: the table cannot be read"):
        list(FORMATS["hf"](tmp_path / "all.parquet").rows())
