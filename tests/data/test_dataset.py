import re
from dataclasses import replace

import pytest
import torch

from avatar.data.dataset import Failure, PromptDataset, PromptStyle
from avatar.data.media import decode_clip
from avatar.data.shards import find_shards, write_shards
from avatar.errors import DataError
from avatar.types import Prompt

WAY_OUT = re.compile(
    r"\b(set|write|copy|re-?encode|convert|replace|remove|check|put|give|rename|repair)\b", re.IGNORECASE
)


def dataset_of(*folders, **options):
    return PromptDataset(folders, PromptStyle(), **options)


def same_clip(a, b):
    return torch.equal(a.frames, b.frames) and torch.equal(a.audio, b.audio) and a.fps == b.fps


@pytest.fixture(scope="session")
def decoded(samples):
    """The five clips, decoded without any dataset."""
    return [decode_clip(mp4, key) for key, mp4, _ in samples]


def test_each_position_gives_its_own_question_with_its_own_clip(shards, samples, decoded):
    dataset = dataset_of(shards)
    assert len(dataset) == 25
    for position in range(25):
        (key, _, records), prompt = samples[position // 5], dataset[position]
        record = records[position % 5]
        assert prompt.key == f"{key}/q{position % 5}"
        assert (prompt.answer, prompt.problem_type, list(prompt.options)) == (
            record.answer,
            record.problem_type,
            record.options,
        )
        assert (prompt.chain, prompt.hint, prompt.metadata) == (record.chain, record.hint, record.metadata)
        assert len(prompt.clips) == 1
        assert same_clip(prompt.clips[0], decoded[position // 5])


def test_a_prompt_is_the_same_by_key_by_position_and_the_second_time(shards):
    dataset = dataset_of(shards)
    first, again, by_key = dataset[7], dataset[7], dataset.by_key("train-000001/q2")
    assert first.key == again.key == by_key.key == "train-000001/q2"
    assert first.messages == again.messages == by_key.messages
    assert same_clip(first.clips[0], again.clips[0])
    assert same_clip(first.clips[0], by_key.clips[0])


def test_questions_about_one_clip_share_its_key_and_other_clips_have_others(shards):
    keys = [item.clips[0].key for item in (dataset_of(shards)[i] for i in range(25))]
    assert [len(set(keys[i : i + 5])) for i in range(0, 25, 5)] == [1] * 5
    assert len(set(keys)) == 5


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_the_size_of_the_cache_changes_nothing_that_is_seen(shards, decoded, cache_mb):
    dataset = dataset_of(shards, cache_mb=cache_mb)
    for position in (0, 24, 5, 0, 24):
        assert same_clip(dataset[position].clips[0], decoded[position // 5])


def test_the_style_reaches_the_prompt(shards):
    prompt = PromptDataset([shards], PromptStyle("be brief", letter_options=False, max_frames=4))[1]  # q1: color
    assert prompt.messages[0] == {"role": "system", "content": "be brief"}
    assert prompt.messages[1]["content"][1]["text"] == "what color ? red / green / blue / yellow"
    assert len(prompt.clips[0].frames) == 4


def test_several_folders_follow_one_another(tmp_path, samples):
    for name, part in (("a", samples[:2]), ("b", samples[2:])):
        write_shards(tmp_path / name, part)
    dataset = dataset_of(tmp_path / "b", tmp_path / "a")
    assert [dataset[i].key[:12] for i in (0, 14, 15, 24)] == [
        "train-000002", "train-000004", "train-000000", "train-000001",
    ]  # fmt: skip
    assert dataset.by_key("train-000001/q0").key == "train-000001/q0"


def test_a_key_that_no_folder_has_is_an_error(shards):
    with pytest.raises(DataError, match="no record 'nobody'"):
        dataset_of(shards).by_key("nobody")


def test_one_folder_may_be_given_twice(shards):
    dataset = dataset_of(shards, shards)
    assert [dataset[i].key for i in range(25)] == [dataset[25 + i].key for i in range(25)]


def test_what_a_position_shows_is_what_its_key_finds(tmp_path, samples):
    # The micro-worlds of two seeds: other clips, the same keys.
    (key, mp4, records), (_, other_mp4, other_records) = samples[:2]
    write_shards(tmp_path / "seed0", [(key, mp4, records)])
    write_shards(tmp_path / "seed1", [(key, other_mp4, other_records)])
    try:
        dataset = dataset_of(tmp_path / "seed0", tmp_path / "seed1")
    except DataError:
        return  # refusing is right too
    mixed_up = [i for i in range(10) if not same_clip(dataset[i].clips[0], dataset.by_key(dataset[i].key).clips[0])]
    assert mixed_up == []


@pytest.mark.timeout(60)
def test_each_broken_record_is_a_failure_and_no_good_one_is(broken):
    folder, bad = broken
    items = [dataset_of(folder)[i] for i in range(8)]
    assert [item.key for item in items if isinstance(item, Failure)] == bad
    assert [item.key for item in items if isinstance(item, Prompt)] == ["0-good", "3-good", "7-good"]


def test_a_good_record_beside_broken_ones_has_both_picture_and_sound(broken):
    folder, _ = broken
    for key in ("0-good", "3-good", "7-good"):
        [clip] = dataset_of(folder).by_key(key).clips
        assert clip.frames.shape == (8, 3, 56, 56)
        assert clip.audio.shape == (16_000,)


BAD = ["1-absent", "2-text", "4-empty", "5-cut", "6-silent"]


def failure_of(folder, key):
    dataset = dataset_of(folder)
    [found] = [item for item in (dataset[i] for i in range(len(dataset))) if item.key == key]
    return found


@pytest.mark.parametrize("key", BAD)
def test_the_reason_of_a_failure_names_the_clip(broken, key):
    assert key in failure_of(broken[0], key).reason
    assert "broken" in failure_of(broken[0], key).reason  # its folder


@pytest.mark.parametrize("key", BAD)
def test_the_reason_of_a_failure_names_the_shard(broken, key):
    assert "00000.tar" in failure_of(broken[0], key).reason  # as the docstring of Failure promises


@pytest.mark.parametrize("key", BAD)
def test_the_reason_of_a_failure_says_what_to_do(broken, key):
    assert WAY_OUT.search(failure_of(broken[0], key).reason)


@pytest.mark.parametrize("key", BAD)
def test_by_key_a_broken_record_raises(broken, key):
    with pytest.raises(DataError, match=key):
        dataset_of(broken[0]).by_key(key)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_mp4_is_a_failure(make_tar, samples, tenths):
    _, mp4, records = samples[0]
    cut = mp4[: len(mp4) * tenths // 10]
    [item] = [dataset_of(make_tar([("clip.mp4", cut), ("clip.json", records[0].to_json())]))[0]]
    assert isinstance(item, Failure)
    assert "clip.mp4" in item.reason


@pytest.mark.parametrize("raw", [b"{}", b"not json", b'{"question": "q", "answer": "a", "colour": 1}'])
def test_a_wrong_record_is_a_failure_that_names_shard_and_key(make_tar, raw):
    item = dataset_of(make_tar([("clip.json", raw)]))[0]
    assert isinstance(item, Failure)
    assert re.search(r"00000\.tar: clip: ", item.reason)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"question": "q", "answer": "A", "problem_type": "choice", "options": [1, 2]}',
        b'{"question": "q", "answer": "a", "media": {"video": ["mp4"]}}',
        b"[" * 100_000,
    ],
)
def test_a_record_of_a_wrong_shape_inside_is_a_failure_and_no_crash(make_tar, raw):
    assert isinstance(dataset_of(make_tar([("clip.json", raw)]))[0], Failure)


def test_a_silent_clip_is_good_for_a_question_without_sound(make_tar, samples, silent_mp4):
    mute = replace(samples[0][2][0], use_audio_in_video=False)
    item = dataset_of(make_tar([("clip.mp4", silent_mp4), ("clip.json", mute.to_json())]))[0]
    assert item.clips[0].audio is None
    assert item.clips[0].frames.shape == (8, 3, 56, 56)


def test_questions_with_and_without_sound_about_one_clip_do_not_share_a_decoded_one(make_tar, samples):
    loud, mute = samples[0][2][0], replace(samples[0][2][0], use_audio_in_video=False)
    members = [("clip.mp4", samples[0][1]), ("clip.q0.json", mute.to_json()), ("clip.q1.json", loud.to_json())]
    dataset = dataset_of(make_tar(members))
    for _ in range(2):
        assert dataset[0].clips[0].audio is None
        assert dataset[1].clips[0].audio.shape == (16_000,)
    assert dataset[0].clips[0].key != dataset[1].clips[0].key


def test_a_question_without_media_needs_no_clip(make_tar, record):
    assert dataset_of(make_tar([("a.json", record.to_json())]))[0].clips == ()


def test_a_shard_that_went_away_after_indexing_makes_failures(tmp_path, samples):
    write_shards(tmp_path / "d", samples[:1])
    dataset = dataset_of(tmp_path / "d")
    find_shards(tmp_path / "d")[0].unlink()
    assert isinstance(dataset[0], Failure)
    assert "00000.tar" in dataset[0].reason


def test_the_clips_of_the_fixtures_differ_in_picture_and_in_sound(decoded):
    for a, b in zip(decoded, decoded[1:] + decoded[:1], strict=True):
        assert not torch.equal(a.frames, b.frames)
        assert not torch.equal(a.audio, b.audio)


@pytest.mark.parametrize("swap", ["audio", "video"])
def test_a_swap_takes_exactly_that_stream_from_the_next_clip(shards, samples, decoded, swap):
    dataset = dataset_of(shards, swap=swap)
    for position in range(25):
        own, other = decoded[position // 5], decoded[(position // 5 + 1) % 5]
        picture, sound = (other, own) if swap == "video" else (own, other)
        [clip] = dataset[position].clips
        assert torch.equal(clip.frames, picture.frames)
        assert torch.equal(clip.audio, sound.audio)
        assert dataset[position].answer == samples[position // 5][2][position % 5].answer


def test_a_swap_stays_in_its_folder(tmp_path, samples, decoded):
    for name, part in (("a", samples[:2]), ("b", samples[2:])):
        write_shards(tmp_path / name, part)
    dataset = dataset_of(tmp_path / "a", tmp_path / "b", swap="audio")
    # Clips 0, 1 | 2, 3, 4: the last of each folder is followed by the first of it.
    for clip, following in ((0, 1), (1, 0), (2, 3), (4, 2)):
        assert torch.equal(dataset[5 * clip].clips[0].audio, decoded[following].audio)


def test_every_mixture_of_streams_has_a_clip_key_of_its_own(shards):
    keys = {item.clips[0].key for swap in (None, "audio", "video") for item in dataset_of(shards, swap=swap)}
    assert len(keys) == 15  # 5 clips as they are, 5 with another sound, 5 with another picture


def test_a_swap_with_a_broken_neighbour_is_a_failure_that_names_the_neighbour(broken):
    item = dataset_of(broken[0], swap="audio")[5]  # 5-cut itself is broken; its neighbour 6-silent too
    assert isinstance(item, Failure)
    item = dataset_of(broken[0], swap="audio")[0]  # 0-good is followed by 1-absent
    assert isinstance(item, Failure)
    assert "1-absent" in item.reason


def test_a_swapped_sound_lasts_no_longer_than_the_picture(make_tar, samples, grey_mp4):
    raw = samples[0][2][0].to_json()
    members = [("a.mp4", grey_mp4(8, 8)), ("a.json", raw), ("b.mp4", grey_mp4(16, 8)), ("b.json", raw)]
    folder = make_tar(members)  # one second, then two
    for swap in ("audio", "video"):
        for item in (dataset_of(folder, swap=swap)[i] for i in range(2)):
            [clip] = item.clips
            assert len(clip.audio) / 16_000 <= len(clip.frames) / clip.fps


def test_a_swapped_sound_is_cut_alike_however_few_frames_are_taken(make_tar, samples, grey_mp4):
    raw = samples[0][2][0].to_json()
    folder = make_tar([("a.mp4", grey_mp4(8, 8)), ("a.json", raw), ("b.mp4", grey_mp4(32, 8)), ("b.json", raw)])
    dataset = PromptDataset([folder], PromptStyle(max_frames=2), swap="audio")
    assert len(dataset[0].clips[0].audio) == 16_000  # the picture lasts a second, the other sound four
