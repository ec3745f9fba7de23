import gc
import io
import re
import time
import wave
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests_work import prepare_or_die

from avatar.data.dataset import PromptDataset, start_decoders
from avatar.data.index import Entry
from avatar.data.media import decode_medium
from avatar.data.micro import RULE
from avatar.data.prepare import clip_key, prepare
from avatar.data.prompts import PromptStyle, to_prompt
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record
from avatar.data.shards import write_shards
from avatar.data.skipped import Failure
from avatar.data.sources import Span, find_shards
from avatar.data.workers import WorkerPool
from avatar.errors import DataError
from avatar.types import Prompt

pytestmark = pytest.mark.timeout(120)
WAY_OUT = re.compile(
    r"\b(set|write|copy|re-?encode|convert|replace|remove|check|put|give|rename|repair)\b", re.IGNORECASE
)
VIDEO = Medium("video", "mp4")


class Watched(WorkerPool):
    """The real workers, with a list of what they were asked, what they decoded, and how many results are awaited."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.asked, self.decoded, self.most = [], [], 0
        self._awaited = set()

    def submit(self, task):
        ticket = super().submit(task)
        self.asked.append(task.entry.key)
        self._awaited.add(ticket)
        self.most = max(self.most, len(self._awaited))
        return ticket

    def collect(self, ticket):
        self._awaited.discard(ticket)
        prompt = super().collect(ticket)
        self.decoded += [clip.key for clip in prompt.clips if clip.frames is not None or clip.audio is not None]
        return prompt

    def forget(self, ticket):
        self._awaited.discard(ticket)
        super().forget(ticket)


@pytest.fixture(scope="session")
def decoders():
    """Two decoders for all datasets of these tests."""
    pool = start_decoders(2, RULE)
    yield pool
    pool.close()


@pytest.fixture
def dataset_of(decoders):
    def make(*folders, style=PromptStyle(), rule=RULE, **options):  # noqa: B008
        return PromptDataset(folders, style, rule, **{"decoders": decoders} | options)

    return make


@pytest.fixture
def watched():
    """Decoders of one's own, watched."""
    with closing(Watched(prepare, 2, 30.0)) as pool:
        yield pool


def same_clip(a, b):
    pairs = [(a.frames, b.frames), (a.audio, b.audio), (a.times, b.times)]
    same = all(x is y is None or torch.equal(x, y) for x, y in pairs)
    return same and (a.fps, a.kind, a.key) == (b.fps, b.kind, b.key)


def same_prompt(a, b):
    plain = all(getattr(a, name) == getattr(b, name) for name in a.__dataclass_fields__ if name != "clips")
    return plain and all(same_clip(x, y) for x, y in zip(a.clips, b.clips, strict=True))


def entry_of(folder, key, members=("mp4",)):
    """As it lies in ``folder``, which has one shard; where in it does not matter to the key of a clip."""
    span = Span(find_shards(folder)[0], 0, 0)
    return Entry(key, key.partition("/")[0], span, dict.fromkeys(members, span))


@pytest.fixture(scope="session")
def decoded(samples):
    """The five clips, decoded without any dataset."""
    return [decode_medium(mp4, VIDEO, True, RULE, key, key) for key, mp4, _ in samples]


@pytest.fixture(scope="session")
def png():
    buffer = io.BytesIO()
    Image.new("RGB", (112, 56), (200, 30, 60)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def wav():
    buffer, t = io.BytesIO(), torch.arange(16_000) / 16_000
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((10_000 * torch.sin(2 * torch.pi * 440 * t)).to(torch.int16).numpy().tobytes())
    return buffer.getvalue()


# -- the right prompt --------------------------------------------------------------------------------------------------


def test_each_position_gives_its_own_question_with_its_own_clip(shards, samples, dataset_of):
    dataset, style = dataset_of(shards), PromptStyle()
    assert len(dataset) == 25
    for position in range(25):
        (key, mp4, records), prompt = samples[position // 5], dataset[position]
        clip = decode_medium(mp4, VIDEO, True, RULE, "", prompt.clips[0].key)
        assert same_prompt(prompt, to_prompt(records[position % 5], f"{key}/q{position % 5}", (clip,), style))
        assert clip.audio is not None
        assert len(clip.frames) == 8


def test_positions_may_count_from_the_end_and_none_lies_beyond(shards, dataset_of):
    dataset = dataset_of(shards)
    assert dataset[-1].key == dataset[24].key == "train-000004/q4"
    assert dataset[-25].key == dataset[0].key
    for position in (25, -26, 10**9):
        with pytest.raises(IndexError, match=f"position {position} of 25"):
            dataset[position]


def test_a_prompt_is_the_same_by_key_by_position_in_a_stream_and_the_second_time(shards, dataset_of):
    dataset = dataset_of(shards)
    [streamed] = dataset.stream([7])
    assert dataset[7].key == "train-000001/q2"
    for again in (dataset[7], streamed, dataset.by_key("train-000001/q2"), dataset_of(shards, cache_mb=0)[7]):
        assert same_prompt(again, dataset[7])


def test_a_stream_gives_what_becomes_of_each_position_in_order(broken, dataset_of):
    dataset = dataset_of(broken[0])
    positions = [3, 0, 0, 5, 7, 1, 3, 6, 2, 4]
    for ahead in (0, 1, 3, 100):
        assert [item.key for item in dataset.stream(positions, ahead)] == [dataset[i].key for i in positions]
    assert list(dataset.stream([], 4)) == []


def test_a_record_may_show_any_mixture_of_media_in_any_order(make_tar, samples, png, wav, dataset_of):
    mp4 = samples[0][1]
    media = [
        Medium("audio", "wav"), Medium("image", "png"), Medium("video", "mp4", 0.25, 0.75), Medium("video", "mp4"),
        Medium("audio", "mp4", 0.5),
    ]  # fmt: skip
    record = Record("q ?", "2", "number", media, use_audio_in_video=True)
    payloads = {"wav": wav, "png": png, "mp4": mp4}
    folder = make_tar([*((f"a.{name}", payload) for name, payload in payloads.items()), ("a.json", record.to_json())])
    for cache_mb in (0, 64):
        dataset = dataset_of(folder, cache_mb=cache_mb)
        for _ in range(2):
            prompt = dataset[0]
            assert [clip.kind for clip in prompt.clips] == ["audio", "image", "video", "video", "audio"]
            assert [part["type"] for part in prompt.messages[0]["content"][:5]] == [m.kind for m in media]
            assert len({clip.key for clip in prompt.clips}) == 5
            for clip, medium in zip(prompt.clips, media, strict=True):
                assert same_clip(clip, decode_medium(payloads[medium.name], medium, True, RULE, "", clip.key))


def test_questions_about_one_clip_share_its_key_and_other_clips_have_others(shards, dataset_of):
    keys = [item.clips[0].key for item in map(dataset_of(shards).__getitem__, range(25))]
    assert [len(set(keys[i : i + 5])) for i in range(0, 25, 5)] == [1] * 5
    assert len(set(keys)) == 5


def test_a_clip_of_the_same_name_in_another_folder_has_another_key(tmp_path, samples, dataset_of):
    for name in ("a", "b"):
        write_shards(tmp_path / name, samples[:1])
    assert dataset_of(tmp_path / "a")[0].clips[0].key != dataset_of(tmp_path / "b")[0].clips[0].key


RULES = [
    RULE, replace(RULE, max_frames=4), replace(RULE, fps=2.0), replace(RULE, legacy_fps=True),
    replace(RULE, max_pixels=28 * 28), replace(RULE, min_pixels=112 * 112, max_pixels=112 * 112),
]  # fmt: skip


def test_a_clip_decoded_by_another_rule_has_another_key(shards, dataset_of):
    clips = [dataset_of(shards, rule=rule)[0].clips[0] for rule in RULES]
    assert len({clip.key for clip in clips}) == len(RULES)
    assert [tuple(clip.frames.shape) for clip in clips] == [
        (8, 3, 56, 56), (4, 3, 56, 56), (2, 3, 56, 56), (8, 3, 56, 56), (8, 3, 28, 28), (8, 3, 112, 112),
    ]  # fmt: skip


@pytest.mark.parametrize("side", ["start", "end"])
def test_crops_a_millisecond_apart_have_keys_of_their_own(side, tmp_path):
    (tmp_path / "00000.tar").touch()
    entry = entry_of(tmp_path, "a")
    media = [Medium("video", "mp4", **{"start": 1000.0, "end": 5000.0, side: 3600 + i / 1000}) for i in range(50)]
    assert len({clip_key(entry, medium, True, RULE) for medium in media}) == 50


def test_every_way_to_show_a_member_has_a_key_of_its_own(tmp_path):
    (tmp_path / "00000.tar").touch()
    entry, seconds = entry_of(tmp_path, "a", ("mp4", "mp4 video")), (None, 0.0, 0.5, 1.0, 10.0)
    crops = [(s, e) for s in seconds for e in seconds if e is None or e > (s or 0)]
    keys = {
        clip_key(entry, Medium(kind, name, start, end), use_audio or kind == "audio", RULE)
        for kind in ("video", "audio")
        for name in ("mp4", "mp4 video")
        for start, end in crops
        for use_audio in (True, False)
    } | {clip_key(entry, Medium("image", "mp4"), True, RULE)}
    # From the beginning on is the same with a start of 0 and without one, where there is an end or neither has one.
    distinct = {(s or 0.0, e) for s, e in crops}
    assert len(keys) >= (2 + 1) * 2 * len(distinct) + 1


def test_the_style_reaches_the_prompt(shards, dataset_of):
    prompt = dataset_of(shards, style=PromptStyle("be brief", letter_options=False))[1]  # q1: color
    assert prompt.messages[0] == {"role": "system", "content": "be brief"}
    assert prompt.messages[1]["content"][1]["text"] == "what color ? red / green / blue / yellow"


def test_several_folders_follow_one_another(tmp_path, samples, dataset_of):
    for name, part in (("a", samples[:2]), ("b", samples[2:])):
        write_shards(tmp_path / name, part)
    dataset = dataset_of(tmp_path / "b", tmp_path / "a")
    assert [dataset[i].key[:12] for i in (0, 14, 15, 24, -1, -11)] == [
        "train-000002", "train-000004", "train-000000", "train-000001", "train-000001", "train-000004",
    ]  # fmt: skip
    assert dataset.by_key("train-000001/q0").key == "train-000001/q0"


def test_a_key_that_no_folder_has_is_an_error(shards, dataset_of):
    with pytest.raises(DataError, match="no record 'nobody'"):
        dataset_of(shards).by_key("nobody")


@pytest.mark.parametrize("other", [str, lambda p: f"{p}/", lambda p: f"{p.parent}/../{p.parent.name}/{p.name}"])
def test_one_folder_may_be_given_twice_and_by_another_name(shards, dataset_of, other):
    dataset = dataset_of(shards, other(shards))
    assert [dataset[i].key for i in range(25)] == [dataset[25 + i].key for i in range(25)]


def test_two_folders_with_a_key_in_common_are_refused_by_name(tmp_path, samples, dataset_of):
    # The micro-worlds of two seeds: other clips, the same keys.
    (key, mp4, records), (_, other_mp4, _) = samples[:2]
    write_shards(tmp_path / "seed0", [(key, mp4, records)])
    write_shards(tmp_path / "seed1", [(key, other_mp4, records[:1]), samples[2]])
    with pytest.raises(DataError, match=rf"'{key}/q0' is both in .*seed0 and in .*seed1; rename") as error:
        dataset_of(tmp_path / "seed0", tmp_path / "seed1")
    assert error.value.cause == "duplicate key"


def test_a_question_without_media_needs_no_clip(make_tar, record, dataset_of):
    assert dataset_of(make_tar([("a.json", record.to_json())]))[0].clips == ()


def test_messages_are_asked_with_their_clips(make_tar, samples, dataset_of):
    parts = [{"type": "text", "text": "look:"}, {"type": "video"}]
    record = Record(messages=[{"role": "user", "content": parts}], answer="2", media=[VIDEO])
    prompt = dataset_of(make_tar([("a.mp4", samples[0][1]), ("a.json", record.to_json())]))[0]
    assert prompt.messages == [{"role": "user", "content": parts}]
    assert prompt.clips[0].audio is None  # nobody asked for it
    assert len(prompt.clips[0].frames) == 8


# -- sound and no sound ------------------------------------------------------------------------------------------------


def test_a_silent_clip_is_good_for_a_question_without_sound(make_tar, samples, silent_mp4, dataset_of):
    mute = replace(samples[0][2][0], use_audio_in_video=False)
    item = dataset_of(make_tar([("clip.mp4", silent_mp4), ("clip.json", mute.to_json())]))[0]
    assert item.clips[0].audio is None
    assert item.clips[0].frames.shape == (8, 3, 56, 56)


def test_a_silent_clip_is_a_failure_for_a_question_with_sound(make_tar, samples, silent_mp4, dataset_of):
    item = dataset_of(make_tar([("clip.mp4", silent_mp4), ("clip.json", samples[0][2][0].to_json())]))[0]
    assert (type(item), item.cause) == (Failure, "no sound")
    item = dataset_of(
        make_tar([("clip.mp4", silent_mp4), ("clip.json", Record("q", "a", media=[Medium("audio", "mp4")]).to_json())])
    )[0]
    assert (type(item), item.cause) == (Failure, "no sound")


def test_questions_with_and_without_sound_about_one_clip_do_not_share_a_decoded_one(make_tar, samples, dataset_of):
    loud, mute = samples[0][2][0], replace(samples[0][2][0], use_audio_in_video=False)
    members = [("clip.mp4", samples[0][1]), ("clip.q0.json", mute.to_json()), ("clip.q1.json", loud.to_json())]
    dataset = dataset_of(make_tar(members))
    for _ in range(2):
        assert dataset[0].clips[0].audio is None
        assert dataset[1].clips[0].audio.shape == (16_000,)
    assert dataset[0].clips[0].key != dataset[1].clips[0].key


def test_a_sound_alone_is_the_same_clip_whatever_is_done_with_the_sound_of_videos(make_tar, samples, dataset_of):
    media = [Medium("audio", "mp4")]
    raws = [Record("q", "a", media=media, use_audio_in_video=flag).to_json() for flag in (True, False)]
    dataset = dataset_of(make_tar([("a.mp4", samples[0][1]), *((f"a.q{i}.json", raw) for i, raw in enumerate(raws))]))
    first, second = dataset[0].clips[0], dataset[1].clips[0]
    assert first.key == second.key
    assert torch.equal(first.audio, second.audio)


# -- the store of decoded clips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_the_size_of_the_store_changes_nothing_that_is_seen(shards, decoded, dataset_of, cache_mb):
    dataset = dataset_of(shards, cache_mb=cache_mb)
    for position in (0, 24, 5, 0, 24):
        clip = dataset[position].clips[0]
        assert same_clip(clip, replace(decoded[position // 5], key=clip.key))


@pytest.mark.parametrize("ahead", [1, 4, 25])
def test_questions_about_one_clip_decode_it_once(shards, dataset_of, watched, ahead):
    dataset = dataset_of(shards, decoders=watched)
    prompts = list(dataset.stream(range(25), ahead))
    assert len(watched.asked) == 25
    assert len(watched.decoded) == len(set(watched.decoded)) == 5
    assert len({prompt.clips[0].frames.data_ptr() for prompt in prompts}) == 5  # and they share its memory
    list(dataset.stream(range(24, -1, -1), ahead))
    dataset.by_key("train-000002/q2")
    assert len(watched.decoded) == 5


def test_without_a_store_every_question_decodes_its_clip(shards, dataset_of, watched):
    prompts = list(dataset_of(shards, decoders=watched, cache_mb=0).stream(range(10), 10))
    assert len(watched.decoded) == 10
    assert len({id(prompt.clips[0].frames) for prompt in prompts}) == 10


def test_the_store_forgets_what_was_used_longest_ago(make_tar, record, dataset_of, watched, grey_mp4):
    # 16 frames of 3 x 56 x 56 and 2 seconds of float sound: 150,528 + 128,000 bytes and 128 of times; three in 1 MB.
    raw = replace(record, media=[VIDEO], use_audio_in_video=True).to_json()
    folder = make_tar([m for k in "abcd" for m in ((f"{k}.mp4", grey_mp4(16, 8)), (f"{k}.json", raw))])
    dataset = dataset_of(folder, decoders=watched, cache_mb=1)
    for position, num_decoded in [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (0, 4), (2, 4), (1, 5), (3, 6)]:
        dataset[position]
        assert len(watched.decoded) == num_decoded, f"at position {position}"


def test_media_of_one_question_are_each_decoded_once_for_all_questions(make_tar, samples, png, dataset_of, watched):
    both, one = [VIDEO, Medium("image", "png")], [Medium("image", "png")]
    questions = [Record("q ?", "2", media=media, use_audio_in_video=True) for media in (both, one, [VIDEO], both)]
    members = [(f"a.q{i}.json", question.to_json()) for i, question in enumerate(questions)]
    dataset = dataset_of(make_tar([("a.mp4", samples[0][1]), ("a.png", png), *members]), decoders=watched)
    kinds = [[clip.kind for clip in prompt.clips] for prompt in dataset.stream(range(4), 4)]
    assert kinds == [["video", "image"], ["image"], ["video"], ["video", "image"]]
    assert len(watched.decoded) == 2


def test_what_is_held_can_be_lost_while_a_question_about_it_is_on_its_way(shards, decoded, dataset_of):
    dataset = dataset_of(shards, cache_mb=1)
    dataset[0]
    pending = dataset.submit(1)  # told that the clip is held
    dataset._clips.clear()
    clip = dataset.collect(pending).clips[0]
    assert same_clip(clip, replace(decoded[0], key=clip.key))


# -- ahead -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [1, 3, 7])
def test_no_more_than_so_many_are_ever_on_their_way(shards, dataset_of, watched, ahead):
    stream = dataset_of(shards, decoders=watched, cache_mb=0).stream(range(25), ahead)
    for taken in range(1, 26):
        next(stream)
        assert len(watched.asked) <= taken + ahead
    assert watched.most <= ahead
    assert next(stream, None) is None


def test_clips_are_decoded_before_they_are_asked_for(make_tar, samples, dataset_of):
    with closing(Watched(prepare_or_die, 1, 30.0)) as pool:
        raw = samples[0][2][0].to_json()
        folder = make_tar(
            [m for i in range(5) for m in ((f"c{i}-sleep.mp4", samples[0][1]), (f"c{i}-sleep.json", raw))]
        )
        stream = dataset_of(folder, decoders=pool).stream(range(5), 4)
        next(stream)
        time.sleep(1.5)  # four more of 0.2 seconds each
        start = time.monotonic()
        assert len(list(stream)) == 4
        assert time.monotonic() - start < 0.4


def test_the_next_question_about_a_clip_is_sent_as_soon_as_the_one_before_it_is_there(make_tar, samples, dataset_of):
    raw = samples[0][2][0].to_json()
    folder = make_tar([("a.mp4", samples[0][1]), *((f"a.q{i}-sleep.json", raw) for i in range(2))])
    with closing(Watched(prepare_or_die, 1, 30.0)) as pool:
        stream = dataset_of(folder, decoders=pool).stream(range(2), 2)
        assert next(stream).key == "a/q0-sleep"
        assert len(pool.asked) == 2
        time.sleep(1.0)
        start = time.monotonic()
        assert next(stream).key == "a/q1-sleep"
        assert time.monotonic() - start < 0.15  # it takes 0.2 seconds


def test_positions_are_drawn_no_earlier_than_they_are_sent(shards, dataset_of):
    drawn = []

    def positions():
        for i in range(25):
            drawn.append(i)
            yield i

    stream = dataset_of(shards).stream(positions(), 3)
    assert drawn == []
    next(stream)
    assert drawn == [0, 1, 2, 3]


def test_a_stream_left_in_the_middle_leaves_nothing_behind(shards, dataset_of, watched):
    dataset = dataset_of(shards, decoders=watched)
    stream = dataset.stream(range(25), 12)
    assert [p.key for p in islice(stream, 3)] == [f"train-000000/q{i}" for i in range(3)]
    stream.close()
    assert watched._awaited == set()
    assert dataset._ahead == {}
    assert [p.key for p in dataset.stream(range(25), 12)] == [dataset[i].key for i in range(25)]
    assert watched._replies == watched._tasks == {}
    del stream, dataset
    gc.collect()
    assert Path("/proc/self/maps").read_text().count("avatar-clip") == 0


def test_a_stream_that_is_never_begun_asks_for_nothing(shards, dataset_of, watched):
    dataset_of(shards, decoders=watched).stream(range(25), 12).close()
    assert watched.asked == []


def test_by_key_while_the_same_clip_is_on_its_way_gives_the_right_prompt_and_disturbs_nobody(
    shards, dataset_of, watched
):
    dataset, alone = dataset_of(shards, decoders=watched), dataset_of(shards)
    stream, found = dataset.stream(range(25), 12), []
    for prompt in stream:
        found.append(prompt)
        position = (len(found) * 7 + 3) % 25  # of a clip on its way, of one long since done, of one not yet begun
        assert same_prompt(dataset.by_key(alone[position].key), alone[position])
    assert len(found) == 25
    assert all(same_prompt(prompt, alone[i]) for i, prompt in enumerate(found))
    assert dataset._ahead == {}


def test_two_streams_of_one_dataset_do_not_disturb_each_other(shards, dataset_of, watched):
    dataset = dataset_of(shards, decoders=watched)
    pairs = zip(dataset.stream(range(25), 9), dataset.stream(range(24, -1, -1), 6), strict=True)
    assert [(a.key, b.key) for a, b in pairs] == [(dataset[i].key, dataset[24 - i].key) for i in range(25)]
    assert dataset._ahead == {}


def test_two_datasets_may_share_their_decoders(shards, broken, dataset_of, watched):
    one, other = dataset_of(shards, decoders=watched), dataset_of(broken[0], decoders=watched)
    pairs = list(zip(one.stream(range(8), 5), other.stream(range(8), 5), strict=True))
    assert [a.key for a, _ in pairs] == [one[i].key for i in range(8)]
    assert [b.key for _, b in pairs if isinstance(b, Failure)] == broken[1]


def test_pending_ones_may_be_collected_in_any_order_or_forgotten(shards, dataset_of, watched):
    dataset = dataset_of(shards, decoders=watched)
    pending = [dataset.submit(i) for i in range(10)]
    for i in (4, 9, 2):
        assert dataset.collect(pending[i]).key == dataset[i].key
    for i in (0, 5, 1):
        dataset.forget(pending[i])
    for i in (8, 3, 7, 6):
        assert dataset.collect(pending[i]).key == dataset[i].key
    assert dataset._ahead == {}
    assert watched._awaited == set()


def test_a_dataset_starts_decoders_of_its_own_where_it_is_given_none(shards):
    dataset = PromptDataset([shards], rule=RULE)
    assert dataset.decoders.pids == []
    assert dataset[3].key == "train-000000/q3"
    assert len(dataset.decoders.pids) == 1
    dataset.decoders.close()


# -- what fails --------------------------------------------------------------------------------------------------------

BAD = {
    "1-absent": "missing media",
    "2-text": "cannot be decoded",
    "4-empty": "cut short",
    "5-cut": "cut short",
    "6-silent": "no sound",
}


def test_each_broken_record_is_a_failure_with_its_cause_and_no_good_one_is(broken, dataset_of):
    folder, bad = broken
    items = [dataset_of(folder)[i] for i in range(8)]
    assert {item.key: item.cause for item in items if isinstance(item, Failure)} == BAD
    assert list(BAD) == bad
    assert [item.key for item in items if isinstance(item, Prompt)] == ["0-good", "3-good", "7-good"]


def test_a_good_record_beside_broken_ones_has_both_picture_and_sound(broken, dataset_of):
    for key in ("0-good", "3-good", "7-good"):
        [clip] = dataset_of(broken[0]).by_key(key).clips
        assert clip.frames.shape == (8, 3, 56, 56)
        assert clip.audio.shape == (16_000,)


@pytest.mark.parametrize("key", BAD)
def test_the_reason_of_a_failure_begins_with_the_shard_names_the_clip_and_says_what_to_do(broken, dataset_of, key):
    [failure] = [item for item in dataset_of(broken[0]).stream(range(8)) if item.key == key]
    assert failure.reason.startswith(f"{broken[0]}/00000.tar: {key}")
    assert failure.reason.count("00000.tar") == 1
    assert WAY_OUT.search(failure.reason)


@pytest.mark.parametrize("key", BAD)
def test_by_key_a_broken_record_raises_with_its_cause(broken, dataset_of, key):
    with pytest.raises(DataError, match=key) as error:
        dataset_of(broken[0]).by_key(key)
    assert error.value.cause == BAD[key]


@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_mp4_is_a_failure(make_tar, samples, dataset_of, tenths):
    _, mp4, records = samples[0]
    cut = mp4[: len(mp4) * tenths // 10]
    item = dataset_of(make_tar([("clip.mp4", cut), ("clip.json", records[0].to_json())]))[0]
    assert isinstance(item, Failure)
    assert "clip.mp4" in item.reason


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b"not json",
        b'{"question": "q", "answer": "a", "colour": 1}',
        b'{"question": "q", "answer": "A", "problem_type": "choice", "options": [1, 2]}',
        b'{"question": "q", "answer": "a", "media": [{"video": ["mp4"]}]}',
        b'{"question": "q", "answer": "a", "media": [{"video": "mp4", "start": 1' + b"0" * 400 + b"}]}",
        b'{"question": "q", "answer": "a", "key": "other"}',
        b'{"question": "\\ud83c", "answer": "a"}',
        b"[" * 100_000,
    ],
    ids=range(9),
)
def test_a_wrong_record_is_a_failure_that_names_shard_and_key(make_tar, dataset_of, raw):
    item = dataset_of(make_tar([("clip.json", raw)]))[0]
    assert isinstance(item, Failure)
    assert item.cause == "broken record"
    assert re.search(r"00000\.tar: clip: ", item.reason)


def test_a_record_may_say_its_own_key(make_tar, record, dataset_of):
    named = replace(record, key="a/q0")
    assert dataset_of(make_tar([("a.q0.json", named.to_json())]))[0].key == "a/q0"


def test_metadata_nested_deeper_than_can_be_sent_makes_a_failure(make_tar, dataset_of):
    raw = b'{"question": "q", "answer": "a", "metadata": {"x": ' + b"[" * 900 + b"]" * 900 + b"}}"
    dataset = dataset_of(make_tar([("a.json", raw), ("b.json", b'{"question": "q", "answer": "a"}')]))
    assert [type(item) for item in dataset.stream(range(2))] in ([Failure, Prompt], [Prompt, Prompt])


def test_a_shard_that_went_away_after_indexing_makes_failures(tmp_path, samples, dataset_of):
    write_shards(tmp_path / "d", samples[:1])
    dataset = dataset_of(tmp_path / "d")
    Path(find_shards(tmp_path / "d")[0]).unlink()
    assert (type(dataset[0]), dataset[0].cause) == (Failure, "broken shard")
    assert "00000.tar" in dataset[0].reason


def test_what_its_decoder_dies_of_is_the_failure_of_that_record_alone(make_tar, samples, dataset_of):
    names = ["a", "b-segfault", "c", "d-spin", "e", "f-segfault", "g", "h-spin"]
    raw = samples[0][2][0].to_json()
    folder = make_tar([m for n in names for m in ((f"{n}.mp4", samples[0][1]), (f"{n}.json", raw))])
    wanted = {"segfault": "decoder crashed", "spin": "time limit"}
    with closing(WorkerPool(prepare_or_die, 2, 1.0)) as pool:
        items = list(dataset_of(folder, decoders=pool).stream(range(8), 5))
    assert [item.key for item in items] == names
    for item in items:
        name = item.key.partition("-")[2]
        assert isinstance(item, Failure if name else Prompt)
        if name:
            assert item.cause == wanted[name]
            assert item.reason.startswith(f"{folder}/00000.tar: {item.key}: ")


def test_a_clip_that_kills_its_decoder_does_so_for_each_of_its_questions_and_the_rest_is_whole(
    make_tar, samples, dataset_of
):
    raw = samples[0][2][0].to_json()
    members = [("x.mp4", samples[0][1]), *((f"x.q{i}-segfault.json", raw) for i in range(3)), ("x.q9.json", raw)]
    with closing(WorkerPool(prepare_or_die, 1, 5.0)) as pool:
        items = list(dataset_of(make_tar(members), decoders=pool).stream(range(4), 4))
    assert [type(item) for item in items] == [Failure] * 3 + [Prompt]


def test_an_error_of_ours_is_no_failure_of_the_record_and_later_records_are_fine(make_tar, samples, dataset_of):
    raw = samples[0][2][0].to_json()
    members = [("a.mp4", samples[0][1]), ("a.q0-error.json", raw), ("a.q1.json", raw)]
    with closing(WorkerPool(prepare_or_die, 1, 5.0)) as pool:
        dataset = dataset_of(make_tar(members), decoders=pool)
        with pytest.raises(RuntimeError, match="all wrong"):
            list(dataset.stream(range(2), 2))
        assert dataset._ahead == {}
        assert dataset[1].key == "a/q1"


def test_a_limit_in_time_is_kept_and_named(shards):
    rule = replace(RULE, time_limit=0.0005)
    with closing(start_decoders(1, rule)) as pool:
        item = PromptDataset([shards], rule=rule, decoders=pool)[0]
    assert isinstance(item, Failure)
    assert item.cause == "time limit"
    assert re.search(r"00000\.tar: train-000000/q0: decoding took longer than data\.time_limit", item.reason)


def test_a_limit_in_memory_is_kept_and_named(make_tar, record, grey_mp4):
    # 64 frames of 3 x 2240 x 2240: 963 MB
    rule = ClipRule(max_frames=64, min_pixels=2240 * 2240, max_pixels=2240 * 2240, max_decoded_mb=200)
    raw = replace(record, media=[VIDEO]).to_json()
    with closing(start_decoders(1, rule)) as pool:
        dataset = PromptDataset([make_tar([("a.mp4", grey_mp4(64, 8)), ("a.json", raw)])], rule=rule, decoders=pool)
        assert (type(dataset[0]), dataset[0].cause) == (Failure, "too large")


# -- swaps -------------------------------------------------------------------------------------------------------------


def test_the_clips_of_the_fixtures_differ_in_picture_and_in_sound(decoded):
    for a, b in zip(decoded, decoded[1:] + decoded[:1], strict=True):
        assert not torch.equal(a.frames, b.frames)
        assert not torch.equal(a.audio, b.audio)


@pytest.mark.parametrize("cache_mb", [0, 64])
@pytest.mark.parametrize("swap", ["audio", "video"])
def test_a_swap_takes_exactly_that_stream_from_the_next_clip(shards, samples, decoded, dataset_of, swap, cache_mb):
    for position, prompt in enumerate(dataset_of(shards, swap=swap, cache_mb=cache_mb).stream(range(25), 9)):
        own, other = decoded[position // 5], decoded[(position // 5 + 1) % 5]
        picture, sound = (other, own) if swap == "video" else (own, other)
        [clip] = prompt.clips
        assert torch.equal(clip.frames, picture.frames)
        assert torch.equal(clip.times, picture.times)
        assert clip.fps == picture.fps
        assert torch.equal(clip.audio, sound.audio)
        assert prompt.answer == samples[position // 5][2][position % 5].answer


def test_a_swap_stays_in_its_folder(tmp_path, samples, decoded, dataset_of):
    for name, part in (("a", samples[:2]), ("b", samples[2:])):
        write_shards(tmp_path / name, part)
    dataset = dataset_of(tmp_path / "a", tmp_path / "b", swap="audio")
    # Clips 0, 1 | 2, 3, 4: the last of each folder is followed by the first of it.
    for clip, following in ((0, 1), (1, 0), (2, 3), (4, 2)):
        assert torch.equal(dataset[5 * clip].clips[0].audio, decoded[following].audio)


def test_every_mixture_of_streams_has_a_clip_key_of_its_own(shards, dataset_of):
    keys = {p.clips[0].key for s in (None, "audio", "video") for p in dataset_of(shards, swap=s).stream(range(25))}
    assert len(keys) == 15  # 5 clips as they are, 5 with another sound, 5 with another picture


def test_swapped_clips_are_put_together_once(shards, dataset_of, watched):
    list(dataset_of(shards, swap="audio", decoders=watched).stream(range(25), 25))
    assert len(watched.decoded) == 5


def test_a_swap_with_a_broken_neighbour_is_a_failure_that_names_the_neighbour(broken, dataset_of):
    item = dataset_of(broken[0], swap="audio")[5]  # 5-cut itself is broken; its neighbour 6-silent too
    assert isinstance(item, Failure)
    item = dataset_of(broken[0], swap="audio")[0]  # 0-good is followed by 1-absent
    assert isinstance(item, Failure)
    assert "1-absent" in item.reason


def test_a_swapped_sound_lasts_no_longer_than_the_picture(make_tar, samples, grey_mp4, dataset_of):
    raw = samples[0][2][0].to_json()
    members = [("a.mp4", grey_mp4(8, 8)), ("a.json", raw), ("b.mp4", grey_mp4(16, 8)), ("b.json", raw)]
    folder = make_tar(members)  # one second, then two
    for swap in ("audio", "video"):
        for item in (dataset_of(folder, swap=swap)[i] for i in range(2)):
            [clip] = item.clips
            assert len(clip.audio) / 16_000 <= len(clip.frames) / clip.fps


def test_a_swapped_sound_is_cut_alike_however_few_frames_are_taken(make_tar, samples, grey_mp4, dataset_of):
    raw = samples[0][2][0].to_json()
    folder = make_tar([("a.mp4", grey_mp4(8, 8)), ("a.json", raw), ("b.mp4", grey_mp4(32, 8)), ("b.json", raw)])
    dataset = dataset_of(folder, rule=replace(RULE, max_frames=2), swap="audio")
    assert len(dataset[0].clips[0].audio) == 16_000  # the picture lasts a second, the other sound four


@pytest.mark.parametrize("swap", ["audio", "video"])
def test_sound_alone_and_images_are_swapped_where_they_are_what_is_swapped(make_tar, record, png, dataset_of, swap):
    other_png = io.BytesIO()
    Image.new("RGB", (56, 56), (0, 0, 0)).save(other_png, "PNG")
    raw = replace(record, media=[Medium("image", "png")]).to_json()
    folder = make_tar([("a.png", png), ("a.json", raw), ("b.png", other_png.getvalue()), ("b.json", raw)])
    plain, swapped = dataset_of(folder), dataset_of(folder, swap=swap)
    for own, following in ((0, 1), (1, 0)):
        source = plain[following if swap == "video" else own].clips[0]
        assert torch.equal(swapped[own].clips[0].frames, source.frames)
        assert swapped[own].clips[0].image


def test_the_only_clip_of_a_folder_is_swapped_for_itself(make_tar, samples, decoded, dataset_of):
    folder = make_tar([("a.mp4", samples[0][1]), ("a.json", samples[0][2][0].to_json())])
    [clip] = dataset_of(folder, swap="audio")[0].clips
    assert torch.equal(clip.frames, decoded[0].frames)
    assert torch.equal(clip.audio, decoded[0].audio)
