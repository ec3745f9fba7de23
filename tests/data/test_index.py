import os
import tarfile
from dataclasses import replace

import pytest

from avatar.data.dataset import PromptDataset, PromptStyle
from avatar.data.index import ShardIndex, Span
from avatar.data.schema import parse_record
from avatar.data.shards import find_shards, stream_samples, write_shards
from avatar.errors import DataError


def indexed(folder):
    """[(sample, mp4, record)] by the index."""
    return [
        (e.sample, e.members["mp4"].read() if "mp4" in e.members else b"", parse_record(e.record.read(), e.key))
        for e in ShardIndex(folder).entries
    ]


def streamed(folder):
    """The same by one pass over the shards."""
    return [(key, mp4, record) for key, mp4, records in stream_samples(folder) for record in records]


def test_the_index_finds_what_the_stream_finds_in_the_same_order(shards, samples):
    assert indexed(shards) == streamed(shards)
    assert len(ShardIndex(shards)) == sum(len(records) for _, _, records in samples) == 25


@pytest.mark.parametrize(
    "prefix",
    ["", "folder/", "./", "v1.0/", "../", "__folder__/"],
    ids=["plain", "folder", "made by tar -C folder .", "folder with a dot", "parent", "folder between underscores"],
)
def test_index_and_stream_agree_on_names_with_folders(make_tar, record, prefix):
    members = [(f"{prefix}{n}.{x}", record.to_json() if x != "mp4" else b"1") for n in "ab" for x in ("mp4", "json")]
    folder = make_tar(members)
    assert indexed(folder) == streamed(folder)
    assert len(indexed(folder)) == 2


def test_index_and_stream_agree_on_the_hidden_files_that_a_mac_adds(make_tar, record):
    raw = record.to_json()
    folder = make_tar([("._a.mp4", b"\0"), ("a.mp4", b"1"), ("._a.json", b"\0"), ("a.json", raw)])
    assert [e.key for e in ShardIndex(folder).entries] == ["a"]
    assert [key for key, _, _ in stream_samples(folder)] == ["a"]


def test_index_and_stream_agree_on_what_a_record_is(make_tar, record):
    raw = record.to_json()
    folder = make_tar([("A.MP4", b"1"), ("A.JSON", raw), ("A.Q2.Json", raw), ("b.metajson", b"{}"), ("README", b"")])
    assert [e.key for e in ShardIndex(folder).entries] == ["A", "A/q2"]
    assert indexed(folder) == streamed(folder)


def test_a_dozen_questions_about_one_clip_keep_their_order(tmp_path, record):
    records = [replace(record, question=f"question {i} ?") for i in range(12)]
    write_shards(tmp_path / "d", [("clip", b"mp4", records)])
    assert [r.question for _, _, r in indexed(tmp_path / "d")] == [r.question for r in records]


def test_index_and_stream_both_take_or_both_refuse_a_compressed_shard(shards, tmp_path):
    raw = find_shards(shards)[0].read_bytes()
    with tarfile.open(find_shards(shards)[0]) as tar, tarfile.open(tmp_path / "00000.tar", "w:gz") as packed:
        for member in tar:
            packed.addfile(member, tar.extractfile(member))
    assert (tmp_path / "00000.tar").read_bytes() != raw

    def refuses(read):
        try:
            read(tmp_path)
        except DataError:
            return True
        return False

    assert refuses(indexed) == refuses(streamed)


def test_a_question_is_found_by_its_key_and_by_its_position(shards, samples):
    index = ShardIndex(shards)
    keys = [f"{key}/q{i}" for key, _, records in samples for i in range(len(records))]
    assert [index[i].key for i in range(len(index))] == keys
    for position in (24, 0, 13, 7):
        entry = index.by_key(keys[position])
        assert entry is index[position]
        assert parse_record(entry.record.read(), "") == samples[position // 5][2][position % 5]
        assert entry.members["mp4"].read() == samples[position // 5][1]


def test_a_key_that_is_not_there_is_an_error_and_not_in(shards):
    index = ShardIndex(shards)
    assert "train-000000/q0" in index
    assert "train-000000" not in index
    with pytest.raises(DataError, match="no record 'train-000000'"):
        index.by_key("train-000000")


def test_the_next_sample_is_another_clip_and_the_last_is_followed_by_the_first(shards):
    index = ShardIndex(shards)
    following = [index.next_sample(entry).key for entry in index.entries]
    # 5 clips of 5 questions: questions 0-4 are followed by clip 1, ..., 20-24 by clip 0.
    assert following == [f"train-{(i // 5 + 1) % 5:06d}/q0" for i in range(25)]


def test_a_clip_alone_is_followed_by_itself(make_tar, record):
    index = ShardIndex(make_tar([("a.q0.json", record.to_json()), ("a.q1.json", record.to_json())]))
    assert index.next_sample(index[1]).sample == "a"


def test_a_key_that_comes_twice_in_a_folder_is_refused(make_tar, record):
    make_tar([("a.json", record.to_json())], name="00000.tar")
    folder = make_tar([("b.json", record.to_json()), ("a.json", record.to_json())], name="00001.tar")
    with pytest.raises(DataError, match=r"00001\.tar: key 'a' comes twice"):
        ShardIndex(folder)


@pytest.mark.parametrize("between", [[], ["b.json"]])
def test_a_record_that_comes_twice_in_a_shard_is_refused(make_tar, record, between):
    first, second = (replace(record, question=q).to_json() for q in ("first ?", "second ?"))
    folder = make_tar([("a.json", first), *((name, first) for name in between), ("a.json", second)])
    with pytest.raises(DataError, match=r"00000\.tar"):
        ShardIndex(folder)


def test_two_shards_with_clips_of_one_name_never_mix_them_up(make_tar, samples):
    # Two tools numbered their clips from 0 and their questions apart: "0" is another clip in each shard.
    (_, first, [one, *_]), (_, second, [other, *_]) = samples[:2]
    make_tar([("0.mp4", first), ("0.q0.json", one.to_json())], name="00000.tar")
    folder = make_tar([("0.mp4", second), ("0.q1.json", other.to_json())], name="00001.tar")
    try:
        dataset = PromptDataset([folder], PromptStyle())
    except DataError:
        return  # refusing is right too
    assert (dataset[0].clips[0].frames != dataset[1].clips[0].frames).any()


@pytest.mark.parametrize("members", [[], [("a.mp4", b"1")], [("notes.txt", b"no record")]])
def test_a_shard_without_a_record_is_refused(make_tar, members):
    with pytest.raises(DataError, match=r"00000\.tar: the shard is empty"):
        ShardIndex(make_tar(members))


def test_one_empty_shard_among_good_ones_is_named(make_tar, record):
    make_tar([("a.json", record.to_json())], name="00000.tar")
    with pytest.raises(DataError, match=r"00001\.tar: the shard is empty"):
        ShardIndex(make_tar([], name="00001.tar"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_only_plain_files_are_members(make_tar, record, kind):
    folder = make_tar([("a.json", record.to_json())])
    with tarfile.open(folder / "00000.tar", "a") as tar:
        for name in ("a.mp4", "b.json"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/hostname"
            tar.addfile(info)
    [entry] = ShardIndex(folder).entries
    assert (entry.key, list(entry.members)) == ("a", ["json"])


def test_a_missing_folder_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such shard folder.*avatar data synth --out"):
        ShardIndex(tmp_path / "nowhere")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_shard_cut_inside_its_last_clip_is_named(tmp_path, samples, share):
    write_shards(tmp_path / "d", samples, clips_per_shard=2)
    last = find_shards(tmp_path / "d")[-1]
    with tarfile.open(last) as tar:
        member = tar.getmember("train-000004.mp4")
    os.truncate(last, member.offset_data + round(member.size * share))
    with pytest.raises(DataError, match=r"00002\.tar: .*(truncated|unexpected end|empty)"):
        ShardIndex(tmp_path / "d")


@pytest.mark.parametrize("left", [0, 1, 511, 512, 513, 1023])
def test_a_shard_cut_in_its_first_kilobyte_is_named(tmp_path, samples, left):
    [shard] = write_shards(tmp_path / "d", samples[:1])
    os.truncate(shard, left)
    with pytest.raises(DataError, match=r"00000\.tar: .+"):
        ShardIndex(tmp_path / "d")


def test_wherever_a_shard_is_cut_the_index_is_refused_or_whole(tmp_path, record):
    [shard] = write_shards(tmp_path / "d", [(f"c{i}", bytes(700), [record, record]) for i in range(3)])
    whole, silently_shorter = shard.read_bytes(), []
    for end in range(0, len(whole), 256):  # each block of 512 bytes: at its start and in its middle
        shard.write_bytes(whole[:end])
        try:
            found = len(ShardIndex(tmp_path / "d"))
        except DataError:
            continue
        if found != 6:
            silently_shorter.append((end, found))
    assert silently_shorter == []


def test_a_garbled_header_in_the_middle_of_a_shard_is_refused(tmp_path, samples):
    [shard] = write_shards(tmp_path / "d", samples)
    with tarfile.open(shard) as tar:
        at = tar.getmember("train-000002.mp4").offset
    garbled = bytearray(shard.read_bytes())
    garbled[at + 148 : at + 156] = b"99999999"  # its checksum
    shard.write_bytes(garbled)
    with pytest.raises(DataError, match=r"00000\.tar"):
        ShardIndex(tmp_path / "d")


def test_records_behind_an_end_marker_are_not_lost_in_silence(tmp_path, samples):
    [shard] = write_shards(tmp_path / "d", samples)
    whole = shard.read_bytes()
    with tarfile.open(shard) as tar:
        at = tar.getmember("train-000002.mp4").offset
    for damaged in (whole + whole, whole[:at] + bytes(512) + whole[at + 512 :]):  # cat a.tar b.tar; a header zeroed
        shard.write_bytes(damaged)
        for read in (indexed, streamed):
            with pytest.raises(DataError, match=r"00000\.tar: .*no end marker"):
                read(tmp_path / "d")


def test_a_span_whose_shard_shrank_or_went_away_says_so(tmp_path):
    path = tmp_path / "00000.tar"
    path.write_bytes(bytes(100))
    assert Span(path, 90, 10).read() == bytes(10)
    with pytest.raises(DataError, match=r"00000\.tar: truncated at byte 100"):
        Span(path, 90, 11).read()
    path.unlink()
    with pytest.raises(DataError, match=r"00000\.tar: No such file"):
        Span(path, 90, 10).read()
