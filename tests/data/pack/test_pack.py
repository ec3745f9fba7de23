"""What was packed is what was in the source: every record, every byte of its media, or the reason why not."""

import json
import shutil
import tarfile

import pytest
import torch

from avatar.data.index import ShardIndex
from avatar.data.pack import pack
from avatar.errors import ConfigError, DataError


def question(path="clips/a.mp4", **fields):
    return {"question": "how many?", "answer": "2", "problem_type": "number", "media": [{"video": path}], **fields}


def problem(number, path="clips/a.mp4", **fields):
    row = {"problem_id": number, "problem": "how many?", "data_type": "video", "problem_type": "numerical"}
    return {**row, "solution": "<answer>2</answer>", "path": path, **fields}


# -- parity ------------------------------------------------------------------------------------------------------------


def test_a_packed_record_and_its_clip_are_those_of_the_source(packed, write, folder):
    row = question(
        key="one", use_audio_in_video=True, hint="look", audio_caption="a tone", metadata={"kind": "count"},
        chain="<think>1</think><answer>2</answer>",
    )  # fmt: skip
    row["media"] = [
        {"video": "clips/a.mp4", "start": 0.25, "end": 0.75},
        {"image": "pictures/red.png"},
        {"audio": "sounds/beep.wav"},
    ]
    status, found = packed(write([row]))
    assert (status, found.keys, found.quarantine) == (0, ["one"], [])
    record = found.record("one")
    assert [medium.to_fields() for medium in record.media] == [
        {"video": "mp4", "start": 0.25, "end": 0.75}, {"image": "png"}, {"audio": "wav"}
    ]  # fmt: skip
    left = {name: value for name, value in row.items() if name not in ("media", "key")}
    assert {name: getattr(record, name) for name in left} == left
    paths = ("clips/a.mp4", "pictures/red.png", "sounds/beep.wav")
    assert found.payloads("one") == [(folder / path).read_bytes() for path in paths]
    clip, image, sound = found.clips("one")
    # 8 frames a second from 40 on in steps of 5: those at 0.25 .. 0.625 s are 50, 55, 60, 65
    grey = clip.frames.float().mean((1, 2, 3))
    torch.testing.assert_close(grey - grey[0], torch.tensor([0.0, 5, 10, 15]), atol=1.5, rtol=0)
    assert abs(len(clip.audio) - 8000) < 200  # half a second at 16 kHz
    assert (image.kind, sound.kind, len(sound.audio)) == ("image", "audio", 16_000)


def test_a_clip_is_stored_once_however_many_questions_it_has(packed, write):
    rows = [problem(1), problem(2, "clips/b.mp4"), problem("3.x", "./clips/a.mp4"), problem(4)]  # not side by side
    _, found = packed(write(rows, "train.json"))
    assert found.keys == ["clips/a/1", "clips/a/3_x", "clips/a/4", "2"]
    with tarfile.open(found.folder / "00000.tar") as tar:
        members = tar.getnames()
    assert sorted(members) == [
        "2.json", "2.mp4", "clips/a.1.json", "clips/a.3_x.json", "clips/a.4.json", "clips/a.mp4"
    ]  # fmt: skip
    assert found.record("clips/a/3_x").metadata == {"source_key": "3.x"}
    assert found.record("2").metadata == {}  # its key is what the source calls it
    counts = found.manifest["counts"]
    assert (counts["in_source"], counts["records"], counts["samples"], counts["media"]) == (4, 4, 2, {"video": 2})


def test_keys_of_one_clip_that_share_a_folder_stay_as_they_are(packed, write):
    keys = ["clip-1/q0", "clip-2/q0", "clip-1/q1"]
    rows = [question(f"clips/{c}.mp4", key=key) for c, key in zip("aba", keys, strict=True)]
    _, found = packed(write(rows))
    assert sorted(found.keys) == sorted(keys)
    assert all("source_key" not in found.record(key).metadata for key in keys)


def test_records_without_a_key_are_called_by_their_line(packed, write):
    _, found = packed(write([question("clips/a.mp4"), question("clips/b.mp4")], "my train.set.jsonl"))
    assert found.keys == ["my_train-000001", "my_train-000002"]


def test_several_files_of_a_kind_are_numbered_in_their_sample(packed, write, folder):
    shutil.copy(folder / "clips/b.mp4", folder / "clips/b.MOV")  # an MP4 may be called so
    row = question(key="k")
    row["media"] = [
        {"video": "clips/a.mp4"}, {"video": "clips/b.MOV", "start": 0.5}, {"video": "clips/a.mp4", "end": 0.5},
        {"image": "pictures/red.png"},
    ]  # fmt: skip
    _, found = packed(write([row]))
    assert [m.name for m in found.record("k").media] == ["v0.mp4", "v1.mov", "v0.mp4", "i0.png"]
    assert found.payloads("k")[1] == (folder / "clips/b.mp4").read_bytes()
    assert [clip.kind for clip in found.clips("k")] == ["video", "video", "video", "image"]


def test_the_sound_of_a_video_may_be_shown_alone_and_beside_it(packed, write):
    row = question(key="k")
    row["media"] = [{"video": "clips/a.mp4"}, {"audio": "clips/a.mp4"}, {"audio": "clips/b.mp4"}]
    _, found = packed(write([row]))
    assert [m.name for m in found.record("k").media] == ["v0.mp4", "v0.mp4", "a0.mp4"]
    assert [clip.kind for clip in found.clips("k")] == ["video", "audio", "audio"]


def test_a_clip_with_several_crops_is_stored_once(packed, write):
    rows = [question(key=f"k{i}", media=[{"audio": "sounds/beep.wav", "end": (50 + i) / 100}]) for i in range(20)]
    _, found = packed(write(rows))
    assert (found.manifest["counts"]["records"], found.manifest["counts"]["samples"]) == (20, 1)
    assert found.record("sounds/beep/k7").media[0].end == 0.57


def test_a_wrong_extension_is_put_right(packed, write, folder):
    (folder / "clips/x.avi").write_bytes((folder / "clips/a.mp4").read_bytes())
    _, found = packed(write([question("clips/x.avi", key="k")]))
    assert found.record("k").media[0].name == "mp4"


def test_a_question_about_nothing_is_packed_too(packed, write):
    _, found = packed(write([question(key="k", media=[]), question(key="l", media=[])]))
    assert found.keys == ["k", "l"]
    assert found.manifest["streams"] == {}


# -- sound -------------------------------------------------------------------------------------------------------------

PAIR = ["<video><video>both?", "<video>silent?", "<video>loud?"]


def chats(folder, **fields):
    videos = [["clips/a.mp4", "clips/silent.mp4"], ["clips/silent.mp4"], ["clips/a.mp4"]]
    return [
        {"id": f"k{i}", "messages": [{"role": "user", "content": text}], "videos": shown, "answer": "2", **fields}
        for i, (text, shown) in enumerate(zip(PAIR, videos, strict=True))
    ]


def heard(found):
    return {key: found.record(key).use_audio_in_video for key in sorted(found.keys)}


def test_what_does_not_say_is_heard_where_every_video_has_sound(packed, write, folder):
    _, found = packed(write(chats(folder)))
    assert heard(found) == {"k0": False, "k1": False, "k2": True}
    assert found.manifest["counts"]["sound"] == {"mixed": 1, "with": 1, "without": 1}
    assert found.manifest["streams"] == {"picture": 2, "picture and sound": 2}


def test_what_says_so_itself_is_believed(packed, write, folder):
    _, found = packed(write([*chats(folder, use_audio_in_video=False)]))
    assert heard(found) == {"k0": False, "k1": False, "k2": False}


def test_sound_that_must_be_heard_and_is_not_there_is_no_silence(packed, write, folder):
    _, found = packed(write(chats(folder)), use_audio="true")
    assert heard(found) == {"k2": True}
    assert found.manifest["quarantined"] == {"no sound": 2}
    _, deaf = packed(write(chats(folder), "other.jsonl"), "deaf", use_audio="false")
    assert heard(deaf) == {"k0": False, "k1": False, "k2": False}


def test_our_own_records_are_silent_where_they_do_not_say(packed, write):
    rows = [question(key="k"), question("clips/b.mp4", key="l", use_audio_in_video=True)]
    _, found = packed(write(rows))
    assert heard(found) == {"k": False, "l": True}
    _, auto = packed(write(rows), "auto", use_audio="auto")
    assert heard(auto) == {"k": True, "l": True}


# -- quarantine --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_packed_is_listed_with_its_reason_and_the_rest_goes_on(packed, write, folder):
    (folder / "clips/cut.mp4").write_bytes((folder / "clips/a.mp4").read_bytes()[:3000])
    (folder / "clips/text.mp4").write_text("no film\n" * 100)
    source = write([
        question("clips/a.mp4", key="good"),
        question("clips/none.mp4", key="none"),
        question("clips/cut.mp4", key="cut"),
        question("clips/text.mp4", key="text"),
        question("clips/b.mp4", key="good"),
        question("clips/b.mp4", key="far", media=[{"video": "clips/b.mp4", "start": 5}]),
        question("clips/b.mp4", key="near"),
        question("clips/c.mp4", key="deaf", answer="many"),
        question("sounds/beep.wav", key="blind"),
        question("clips/silent.mp4", key="mute", use_audio_in_video=True),
    ])  # fmt: skip
    with source.open("a") as file:
        file.write("no json\n")
    status, found = packed(source)
    assert (status, found.keys) == (0, ["good", "clips/b/near"])  # of one clip "near" stays where "far" cannot
    assert found.payloads("good") == [(folder / "clips/a.mp4").read_bytes()]
    assert found.causes == {
        "train.jsonl:2": "missing media",
        "train.jsonl:3": "cut short",
        "train.jsonl:4": "cannot be decoded",
        "train.jsonl:5": "duplicate key",
        "train.jsonl:6": "no picture",
        "train.jsonl:8": "broken record",
        "train.jsonl:9": "no picture",
        "train.jsonl:10": "no sound",
        "train.jsonl:11": "broken record",
    }
    counts = found.manifest["counts"]
    assert (counts["in_source"], counts["records"], counts["quarantined"]) == (11, 2, 9)
    assert sum(found.manifest["quarantined"].values()) == 9
    missing = next(entry for entry in found.quarantine if entry["key"] == "none")
    assert missing["media"] == ["clips/none.mp4"]
    assert "cannot be opened below the media root" in missing["reason"]
    assert not any(str(folder) in entry["reason"] for entry in found.quarantine)


def test_the_exit_status_says_if_too_much_is_missing(packed, write):
    source = write([question(key="a"), question("clips/none.mp4", key="b")])
    assert packed(source, "half", max_failed_share=0.5)[0] == 0
    assert packed(source, "less", max_failed_share=0.4)[0] == 1
    assert packed(source, "less", max_failed_share=0.4)[0] == 1  # and again where it is done already
    nothing = write([question("clips/none.mp4", key="b")], "nothing.jsonl")
    status, found = packed(nothing, "nothing")
    assert (status, len(found.quarantine), list(found.shards)) == (1, 1, [])


def test_a_pack_with_nothing_in_it_is_tried_again(packed, write, folder):
    source = write([question("clips/new.mp4", key="a")])
    assert packed(source)[0] == 1
    shutil.copy(folder / "clips/a.mp4", folder / "clips/new.mp4")
    assert packed(source)[0] == 0


def test_only_the_problem_types_that_are_asked_for_are_packed(packed, write):
    rows = [question(key="n"), question(key="e", problem_type="exact"), question(key="f", problem_type="free")]
    _, found = packed(write(rows), problem_types=["exact", "free"])
    assert sorted(key.rpartition("/")[2] for key in found.keys) == ["e", "f"]
    assert (found.manifest["counts"]["left_out"], found.manifest["counts"]["quarantined"]) == (1, 0)


# -- shards and manifest -----------------------------------------------------------------------------------------------


@pytest.fixture
def many(write, folder):
    """24 records, two a clip, of 12 clips that are large for tests: 300 KB, with bytes behind their last box."""
    for i in range(12):
        raw = (folder / "clips/a.mp4").read_bytes()
        pad = (300_000).to_bytes(4, "big") + b"free" + bytes(299_992)
        (folder / f"clips/{i}.mp4").write_bytes(raw + pad)
    return write([question(f"clips/{i % 12}.mp4", key=f"r{i}") for i in range(24)])


def test_shards_are_bounded_and_hold_all_in_order(packed, many):
    _, found = packed(many, max_shard_mb=1)
    assert len(found.shards) == 4  # three clips of 0.3 MB and their records fit into 1 MiB
    assert all(len(raw) <= 2**20 for raw in found.shards.values())
    index = ShardIndex(found.folder)
    by_name = [sorted((f"r{i}", f"r{i + 12}")) for i in range(12)]  # within a sample the index goes by names
    assert list(index.keys()) == [f"clips/{i}/{name}" for i in range(12) for name in by_name[i]]


def test_a_sample_that_is_larger_than_a_shard_has_one_of_its_own(packed, many, folder):
    (folder / "clips/3.mp4").write_bytes((folder / "clips/3.mp4").read_bytes() + b"\0\x20\0\0free" + bytes(2**21 - 8))
    _, found = packed(many, max_shard_mb=1)
    sizes = [len(raw) for raw in found.shards.values()]
    assert sum(size > 2**20 for size in sizes) == 1
    large = next(name for name, raw in found.shards.items() if len(raw) > 2**20)
    assert next(s for s in found.manifest["shards"] if s["name"] == large)["samples"] == 1


def test_the_manifest_tells_what_is_there(packed, many, tmp_path):
    import hashlib

    _, found = packed(many, max_shard_mb=1)
    manifest = found.manifest
    assert {s["name"]: (s["bytes"], s["sha256"]) for s in manifest["shards"]} == {
        name: (len(raw), hashlib.sha256(raw).hexdigest()) for name, raw in found.shards.items()
    }
    assert sum(s["records"] for s in manifest["shards"]) == 24
    assert sum(s["seconds"] for s in manifest["shards"]) == pytest.approx(12, abs=0.5)  # of one second each
    assert manifest["hours"]["picture"] == pytest.approx(12 / 3600, rel=0.05)
    assert (manifest["format"], manifest["source"]) == ("jsonl", "train.jsonl")
    assert str(tmp_path) not in json.dumps(manifest)
    for name, raw in found.shards.items():  # the index beside each shard is that of its members
        index = json.loads((found.folder / f"{name.removesuffix('.tar')}.index.json").read_text())
        with tarfile.open(found.folder / name) as tar:
            assert index["members"] == [[m.name, m.offset_data, m.size] for m in tar]
        assert index["size"] == len(raw)
    assert sorted(p.name for p in found.folder.iterdir()) == sorted(
        [
            *found.shards,
            *(f"{n.removesuffix('.tar')}.index.json" for n in found.shards),
            "manifest.json",
            "quarantine.jsonl",
        ]
    )


def test_the_bytes_do_not_depend_on_the_number_of_workers_or_the_hour(packed, many):
    first = packed(many, "one", max_shard_mb=1, jobs=1)[1]
    second = packed(many, "two", max_shard_mb=1, jobs=2)[1]
    assert first.shards == second.shards
    assert first.manifest == second.manifest


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_finished_pack_is_left_alone(packed, write, capsys):
    source = write([question(key="a")])
    _, found = packed(source)
    before = {path: path.stat().st_mtime_ns for path in found.folder.iterdir()}
    status, _ = packed(source)
    assert status == 0
    assert "holds this pack already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in found.folder.iterdir()} == before


def test_another_source_or_other_options_do_not_replace_it_unasked(packed, write, tmp_path):
    source = write([question(key="a")])
    packed(source)
    write([question(key="b")])
    with pytest.raises(ConfigError, match=r"a pack of another source, or with other options.*--overwrite true"):
        packed(source)
    write([question(key="a")])
    with pytest.raises(ConfigError, match="a pack of another source"):
        packed(source, use_audio="true")
    _, found = packed(source, use_audio="false", overwrite=True)
    assert (found.manifest["options"]["use_audio"], found.keys) == ("false", ["a"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]  # nothing is left behind


def test_a_folder_of_something_else_is_refused(packed, write, tmp_path):
    (tmp_path / "out").mkdir()
    packed(write([question(key="a")]))  # empty: taken
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("...")
    with pytest.raises(ConfigError, match="holds something else"):
        packed(write([question(key="a")]), "mine")
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial/thesis.tex").write_text("...")
    with pytest.raises(ConfigError, match=r"new\.partial holds something else"):
        packed(write([question(key="a")]), "new")
    assert (tmp_path / "mine/thesis.tex").exists()
    assert (tmp_path / "new.partial/thesis.tex").exists()


def test_a_shard_that_is_gone_since_is_missed(packed, write):
    source = write([question(key="a")])
    _, found = packed(source)
    (found.folder / "00000.tar").unlink()
    with pytest.raises(ConfigError, match=r"00000\.tar is not as it was packed.*--overwrite true"):
        packed(source)
    assert packed(source, overwrite=True)[1].keys == ["a"]


def test_a_run_that_ended_before_its_first_shard_leaves_nothing_to_go_on_with(packed, write, folder):
    (folder / "train.json").write_text(json.dumps([problem(i) for i in range(3)])[:-20])
    with pytest.raises(DataError, match="not JSON at or behind its record 3"):
        packed(folder / "train.json")
    assert packed(write([problem(i) for i in range(3)], "train.json"))[0] == 0


def test_the_source_cannot_be_its_own_target(write, folder, tmp_path):
    source = write([question(key="a")])
    for out in (folder, tmp_path):
        with pytest.raises(ConfigError, match="holds the source"):
            pack(str(source), out=str(out), overwrite=True)
    with pytest.raises(ConfigError, match="is a file"):
        pack(str(source), out=str(folder / "clips/a.mp4"), overwrite=True)
    with pytest.raises(ConfigError, match="holds the media"):
        pack(str(source), out=str(folder / "clips"), media_root=str(folder / "clips"), overwrite=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_shard_mb": 0}, "max_shard_mb must be at least 1"),
        ({"problem_types": ["dance"]}, "'dance' is none of"),
        ({"media_root": "nowhere"}, "--media_root nowhere: no such folder"),
        ({"format": "jsonlines"}, "Did you mean 'jsonl'"),
        ({"time_limit": 0.0}, "time_limit must be above 0"),
    ],
)
def test_wrong_options_are_named_before_anything_is_written(write, tmp_path, options, said):
    source = write([question(key="a")])
    with pytest.raises(ConfigError, match=said):
        pack(str(source), out=str(tmp_path / "out"), **options)
    assert not (tmp_path / "out.partial").exists()


def test_media_may_lie_elsewhere_below_their_root(packed, write, folder, tmp_path):
    shutil.move(folder / "clips", tmp_path / "videos")
    rows = [question("a.mp4", key="k"), question(str(tmp_path / "videos/b.mp4"), key="l")]  # absolute, but below it
    _, found = packed(write(rows), media_root=str(tmp_path / "videos"))
    assert found.keys == ["k", "l"]
