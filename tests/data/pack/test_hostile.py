"""Sources that were made to do harm: nothing outside the media root is read, nothing is run, and the run goes on."""

import json
import os
import pickle
import time

import pytest

from avatar.data.pack import text
from avatar.errors import DataError


def question(path, key):
    return {"key": key, "question": "how many?", "answer": "2", "problem_type": "number", "media": [{"video": path}]}


def test_paths_that_lead_out_of_the_media_root_are_refused(packed, write, folder, media, tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes((folder / "clips/a.mp4").read_bytes())
    (folder / "link.mp4").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    (folder / "inside.mp4").symlink_to("clips/b.mp4")
    os.mkfifo(folder / "fifo.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    names = {
        "up": "../secret.mp4",
        "absolute": str(secret),
        "link": "link.mp4",
        "through": "linked/secret.mp4",
        "system": "/etc/passwd",
        "device": "/dev/zero",
        "fifo": "fifo.mp4",
        "folder": "clips",
        "url": "http://127.0.0.1:9/a.mp4",
        "file": f"file://{secret}",
        "pipe": "pipe:touch hacked",
        "data": "data:video/mp4;base64,AAAA",
        "zero": "a\0.mp4",
        "loop": "loop.mp4",
        "long": "x" * 3000,
        "good": "clips/a.mp4",
        "also good": "inside.mp4",
    }
    status, found = packed(write([question(name, key) for key, name in names.items()]))
    causes = {entry["key"]: entry["cause"] for entry in found.quarantine}
    refused = {key: "not allowed" for key in names if "good" not in key}
    assert causes == {**refused, "loop": "missing media", "long": "missing media"}
    assert (status, found.keys) == (0, ["good", "also_good"])
    assert "--media_root" in next(e["reason"] for e in found.quarantine if e["key"] == "up")  # the way out


def test_a_pickle_is_never_opened(packed, write, folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/hacked",)

    raw = pickle.dumps(Bomb())
    for name in ("a.pkl", "b.pth", "c.mp4", "d"):
        (folder / name).write_bytes(raw)
    _, found = packed(write([question(name, name) for name in ("a.pkl", "b.pth", "c.mp4", "d")]))
    assert {e["key"]: e["cause"] for e in found.quarantine} == {
        "a.pkl": "not allowed", "b.pth": "not allowed", "c.mp4": "cannot be decoded", "d": "not allowed"
    }  # fmt: skip
    assert not (tmp_path / "hacked").exists()


def test_a_pickle_in_a_table_is_never_opened(packed, tmp_path):
    datasets = pytest.importorskip("datasets")

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/hacked",)

    columns = {
        "question": ["q", "r"],
        "answer": ["a", "b"],
        "video": [{"bytes": pickle.dumps([Bomb(), name]), "path": name} for name in ("x.mp4", "../../x.pkl")],
    }
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "all.parquet")
    status, found = packed(tmp_path / "all.parquet")
    assert (status, found.manifest["quarantined"]) == (1, {"cannot be decoded": 1, "not allowed": 1})
    assert not (tmp_path / "hacked").exists()


def test_a_saved_dataset_cannot_name_files_elsewhere(packed, tmp_path, folder):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"question": ["q"], "answer": ["a"]})
    made.save_to_disk(tmp_path / "outside")
    made.save_to_disk(tmp_path / "saved")
    state = json.loads((tmp_path / "saved/state.json").read_text())
    (tmp_path / "saved" / state["_data_files"][0]["filename"]).unlink()
    state["_data_files"][0]["filename"] = "../outside/" + state["_data_files"][0]["filename"]
    (tmp_path / "saved/state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match=r"state\.json lists this file, but it is not there"):
        packed(tmp_path / "saved")


KEYS = [
    "../../etc/cron",
    "/etc/passwd",
    "..",
    "a.mp4",
    "a\\b",
    "",
    "問題",
    "-rf",
    "\u202egnp.exe",
    "x" * 5000,
    "__MACOSX/a",
    "a\nb",
]


def test_no_key_leads_out_of_a_shard(packed, write, folder):
    rows = [
        {"id": key, "problem": "q", "solution": "a", "video": f"clips/{'abc'[i % 3]}.mp4"} for i, key in enumerate(KEYS)
    ]
    rows += [{"id": key, "problem": "q", "solution": "a"} for key in KEYS]
    status, found = packed(write(rows, "train.json"))
    assert (status, len(found.keys)) == (0, 2 * len(KEYS))  # the index refuses names that lead out
    kept = [found.record(key).metadata.get("source_key") for key in found.keys]
    assert {key for key in KEYS if key and key != "-rf"} <= set(kept)


def test_broken_text_costs_the_records_that_hold_it(packed, write, folder, monkeypatch):
    monkeypatch.setattr(text, "MAX_RECORD", 100_000)
    source = write([question("clips/a.mp4", "first")])
    lines = [
        b'{"key": "latin", "question": "caf\xe9?", "answer": "2"}',
        b'{"key": "half", "question": "\\ud800", "answer": "2"}',
        b'{"key": "long", "question": "' + b"x" * 200_000 + b'", "answer": "2"}',
        b'{"key": "deep", "metadata": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        b'{"key": "nan", "question": "q", "answer": "2", "metadata": {"a": Infinity}}',
        json.dumps(question("clips/b.mp4", "last")).encode(),
    ]
    with source.open("ab") as file:
        file.write(b"\n".join(lines))
    _, found = packed(source)
    assert found.keys == ["first", "last"]
    assert "UTF-8" in next(e["reason"] for e in found.quarantine if e["key"] == "half")
    assert list(found.causes.values()) == ["broken record", "broken record", "too large", "too large", "broken record"]


def test_text_in_an_array_that_is_no_utf8_costs_its_record(packed, folder):
    row = b'{"problem_id": "%s", "problem": "caf%s?", "solution": "a"}'
    (folder / "train.json").write_bytes(b"[" + row % (b"bad", b"\xe9") + b"," + row % (b"good", "é".encode()) + b"]")
    _, found = packed(folder / "train.json")
    assert (found.keys, found.causes) == (["good"], {"train.json#1": "broken record"})
    assert found.record("good").question == "café?"


def test_a_clip_that_takes_for_ever_is_given_up(packed, write, folder):
    # An hour of film of 640 x 480 whose sound alone would take more than the time that it is given.
    slow = folder / "clips/slow.mp4"
    slow.write_bytes((folder / "clips/a.mp4").read_bytes())
    begun = time.monotonic()
    status, found = packed(write([question("clips/slow.mp4", "slow"), question("clips/b.mp4", "b")]), time_limit=0.001)
    assert time.monotonic() - begun < 60
    assert status == 1
    assert set(found.manifest["quarantined"]) <= {"time limit"}
