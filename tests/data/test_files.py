import shutil
import subprocess
from dataclasses import replace

import pytest
import torch
from data.media_files import film, good, greys, mute, picture, tenth, tone, wav

from avatar.data.dataset import PromptDataset, start_decoders
from avatar.data.files import FileIndex, missing
from avatar.data.media import decode_medium
from avatar.data.rules import ClipRule
from avatar.data.schema import Medium, Record
from avatar.data.shards import write_shards
from avatar.data.skipped import Failure
from avatar.errors import DataError

RULE = ClipRule(4, min_pixels=28 * 28, cut_audio=True, silent_videos=True)
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def decoders():
    pool = start_decoders(2, RULE)
    yield pool
    pool.close()


@pytest.fixture
def root(tmp_path):
    """A folder of media, one of them broken."""
    (tmp_path / "a film, été").mkdir()
    files = {
        "a film, été/one 1.mp4": good(),
        "two.mp4": film(greys(24), 8, tone(3)),
        "three.mp4": film(greys(8).flip(0), 8, tone(1) / 2),
        "mute.mp4": mute(),
        "broken.mp4": tenth(good(), 5),
        "a.png": picture(),
        "b.png": picture(size=(84, 56)),
        "a.wav": wav(tone(1)),
        "b.wav": wav(tone(2) / 4),
    }
    for name, payload in files.items():
        (tmp_path / name).write_bytes(payload)
    (tmp_path / "frames").mkdir()
    for i in range(12):  # by name 10 comes before 9
        (tmp_path / f"frames/{i}.png").write_bytes(picture())
    return tmp_path


ONE, TWO, THREE = (Medium("video", name) for name in ("a film, été/one 1.mp4", "two.mp4", "three.mp4"))
MUTE, BROKEN, ABSENT = (Medium("video", name) for name in ("mute.mp4", "broken.mp4", "nowhere/absent.mp4"))
FRAMES = Medium("video", "frames")


def ask(*media, text="how many ?", **fields):
    return Record(text, media=list(media), use_audio_in_video=True, **fields)


@pytest.fixture
def dataset_of(root, decoders):
    """Questions q0, q1 ... of these records."""

    def make(*records, rule=RULE, **options):
        index = FileIndex(root, [(f"q{i}", record) for i, record in enumerate(records)])
        return PromptDataset([index], rule=rule, decoders=decoders, **options)

    return make


def numbers(clip):
    """Of frames that are grey, as greys() makes them."""
    return ((clip.frames.float().mean(dim=(1, 2, 3)) - 16) / 6).round().int().tolist()


# -- the index ---------------------------------------------------------------------------------------------------------


def test_questions_keep_their_order_and_are_found_by_key(root):
    index = FileIndex(root, [("b", ask(ONE)), ("a", ask(TWO)), ("c", ask())])
    assert (len(index), list(index.keys()), [entry.key for entry in index]) == (3, ["b", "a", "c"], ["b", "a", "c"])
    assert index[-1].key == "c"
    assert "a" in index
    assert "z" not in index
    assert index.by_key("a").members["two.mp4"].size == (root / "two.mp4").stat().st_size
    assert index.key_hashes.tolist() == sorted(index.key_hashes.tolist())
    with pytest.raises(IndexError, match="question 3 of 3"):
        index[3]
    with pytest.raises(DataError, match="no question 'z'"):
        index.by_key("z")


def test_a_key_that_comes_twice_is_refused(root):
    with pytest.raises(DataError, match="two questions have the key 'a'") as error:
        FileIndex(root, [("a", ask(ONE)), ("b", ask(ONE)), ("a", ask(TWO))])
    assert error.value.cause == "duplicate key"


def test_a_file_is_looked_up_once_for_all_its_questions(root):
    index = FileIndex(root, [("a", ask(ONE)), ("b", ask(ONE, TWO))])
    first = index[0]
    shutil.rmtree(root / "a film, été")
    assert index[0].members == first.members
    assert index[1].members[ONE.name] is first.members[ONE.name]


def test_frames_stand_in_the_order_of_their_numbers_and_nothing_else_is_one(root):
    for other in (".0.png", "notes.txt", "._1.png"):
        (root / "frames" / other).write_bytes(b"")
    (root / "frames/sub.png").mkdir()
    [entry] = FileIndex(root, [("a", ask(FRAMES))])
    assert [span.shard for span in entry.frames["frames"]] == [str(root / f"frames/{i}.png") for i in range(12)]


def test_missing_names_what_is_neither_a_file_nor_a_folder_of_frames(root):
    (root / "empty").mkdir()
    (root / "text").mkdir()
    (root / "text/a.txt").touch()
    (root / "link.mp4").symlink_to(root / "two.mp4")
    (root / "dangling.mp4").symlink_to(root / "gone.mp4")
    there = [ONE.name, "two.mp4", "frames", "frames/", "frames/3.png", "link.mp4", "./two.mp4"]
    absent = ["nowhere/absent.mp4", "empty", "text", "dangling.mp4", "two.mp4/x", "a film, été/two.mp4"]
    assert missing(root, [*there, *absent, *there]) == absent
    index = FileIndex(root, [(name, ask(Medium("video", name))) for name in there + absent])
    assert [bool(entry.members or entry.frames) for entry in index] == [True] * len(there) + [False] * len(absent)


def test_several_indexes_of_one_folder_may_be_asked_together_but_share_no_key(root, decoders, samples, tmp_path):
    first, second = FileIndex(root, [("a", ask(ONE))]), FileIndex(root, [("b", ask(TWO))])
    write_shards(tmp_path / "shards", samples[:1])
    dataset = PromptDataset([first, tmp_path / "shards", second], rule=RULE, decoders=decoders)
    assert [dataset[i].key for i in (0, 1, 6, -1)] == ["a", "train-000000/q0", "b", "b"]
    assert [numbers(dataset.by_key(key).clips[0])[-1] for key in ("a", "b")] == [15, 23]
    with pytest.raises(DataError, match="key 'a' is both in"):
        PromptDataset([first, FileIndex(root, [("a", ask(TWO))])], rule=RULE, decoders=decoders)


# -- the right prompt --------------------------------------------------------------------------------------------------


def test_each_question_is_asked_with_what_its_files_show(root, dataset_of):
    records = [ask(ONE), ask(Medium("image", "a.png"), Medium("audio", "a.wav")), ask(), ask(TWO, FRAMES)]
    for prompt, record in zip(dataset_of(*records).stream(range(4)), records, strict=True):
        assert [part["type"] for part in prompt.messages[0]["content"]] == [*(m.kind for m in record.media), "text"]
        for clip, medium in zip(prompt.clips, record.media, strict=True):
            if medium is not FRAMES:
                same = decode_medium((root / medium.name).read_bytes(), medium, True, RULE, "", clip.key)
                for name in ("frames", "audio", "times"):
                    mine, theirs = getattr(clip, name), getattr(same, name)
                    assert mine is theirs is None or torch.equal(mine, theirs)
        assert prompt.answer == ""


def test_a_crop_shows_its_part(dataset_of):
    [clip] = dataset_of(ask(replace(TWO, start=1.0, end=2.0)))[0].clips
    assert numbers(clip) == [8, 10, 13, 15]  # a second of 8 frames from the 8th on, four of them
    assert len(clip.audio) == 16_000


def test_a_folder_of_frames_opens_the_picked_ones_alone(root, dataset_of):
    for i in (1, 2, 5, 10):
        (root / f"frames/{i}.png").write_bytes(b"broken")
    [clip] = dataset_of(ask(FRAMES))[0].clips  # four of twelve: 0, 4, 7, 11
    assert len(clip.frames) == 4
    (root / "frames/7.png").write_bytes(b"broken")
    assert dataset_of(ask(Medium("audio", "frames")))[0].clips == ()  # nothing to hear, so none is opened
    failure = dataset_of(ask(FRAMES))[0]
    assert failure.reason == f"{root}/frames/7.png: it is no image of the formats JPEG, PNG, WEBP, BMP, GIF, TIFF"


def test_a_folder_of_frames_is_no_image(dataset_of):
    failure = dataset_of(ask(Medium("image", "frames")))[0]
    assert (type(failure), failure.cause) == (Failure, "no picture")


@pytest.mark.parametrize("ahead", [1, 5])
def test_questions_about_one_film_decode_it_once(dataset_of, ahead):
    prompts = list(dataset_of(*[ask(ONE, text=f"{i} ?") for i in range(3)], ask(TWO), ask(ONE)).stream(range(5), ahead))
    frames = [prompt.clips[0].frames for prompt in prompts]
    assert frames[0] is frames[1] is frames[2] is frames[4]
    assert frames[3] is not frames[0]


def test_a_film_has_one_key_in_whatever_company_it_is_shown(dataset_of):
    alone, other, silent, part = dataset_of(
        ask(ONE), ask(Medium("image", "a.png"), ONE), replace(ask(ONE), use_audio_in_video=False),
        ask(replace(ONE, end=1.0)),
    ).stream(range(4))  # fmt: skip
    assert alone.clips[0].key == other.clips[1].key
    assert len({prompt.clips[-1].key for prompt in (alone, silent, part)}) == 3


def test_the_text_of_a_question_may_not_hold_special_tokens(dataset_of):
    first, second = dataset_of(ask(ONE, text="what <|im_end|> ?"), ask(ONE)).stream(range(2))
    assert isinstance(first, Failure)
    assert "the text holds '<|im_end|>'" in first.reason
    assert len(second.clips) == 1


# -- what fails --------------------------------------------------------------------------------------------------------


def test_a_missing_or_broken_file_fails_its_own_questions_alone(root, dataset_of):
    items = list(
        dataset_of(ask(ONE), ask(ABSENT), ask(TWO), ask(BROKEN), ask(THREE), ask(ONE, ABSENT)).stream(range(6))
    )
    assert {item.key: item.cause for item in items if isinstance(item, Failure)} == {
        "q1": "missing media", "q3": "cut short", "q5": "missing media",
    }  # fmt: skip
    assert items[1].reason == f"{root}: q1: there is no {root}/nowhere/absent.mp4; put it there"
    assert items[3].reason == f"{root}/broken.mp4: the file is cut short. Replace or remove it"


def test_a_file_that_went_away_fails_its_question(root, dataset_of):
    dataset = dataset_of(ask(ONE), ask(TWO))
    assert dataset.indexes[0][1].members
    (root / "two.mp4").unlink()
    assert [type(item) is Failure for item in dataset.stream(range(2))] == [False, True]


# -- silence and length ------------------------------------------------------------------------------------------------


def test_a_silent_film_is_shown_silent_and_noted_each_time(dataset_of):
    dataset = dataset_of(ask(MUTE), ask(MUTE, text="again ?"), ask(ONE))
    for position in (0, 1, 0):
        prompt = dataset[position]
        assert (prompt.clips[0].audio, numbers(prompt.clips[0])) == (None, [0, 5, 10, 15])
        assert prompt.metadata == {"notes": ["no sound track"]}
    assert dataset[2].metadata == {}


def test_the_sound_of_a_silent_film_is_left_out_wherever_it_stands(dataset_of):
    parts = [{"type": "text", "text": "hear"}, {"type": "audio"}, {"type": "text", "text": "see"}, {"type": "image"}]
    sound, image = Medium("audio", "mute.mp4"), Medium("image", "a.png")
    chat = Record(messages=[{"role": "user", "content": parts}], media=[sound, image])
    dataset = dataset_of(chat, ask(sound), ask(Medium("audio", "a.wav"), sound, image))
    for _ in range(2):
        first, second, third = dataset.stream(range(3))
        assert first.messages[0]["content"] == [parts[0], parts[2], parts[3]]
        assert second.messages[0]["content"] == [{"type": "text", "text": "how many ?"}]
        assert [[clip.kind for clip in item.clips] for item in (first, second, third)] == [
            ["image"], [], ["audio", "image"],
        ]  # fmt: skip
        assert first.metadata == second.metadata == third.metadata == {"notes": ["no sound track"]}


def test_a_long_sound_is_cut_and_noted_each_time(dataset_of):
    rule = replace(RULE, max_audio_seconds=1.0)
    dataset = dataset_of(ask(TWO), ask(TWO), ask(Medium("audio", "two.mp4", 0.5)), ask(THREE), rule=rule)
    for position in (0, 1, 2, 0):
        prompt = dataset[position]
        assert len(prompt.clips[0].audio) == 16_000
        assert prompt.metadata == {"notes": ["sound cut at 1 s"]}
    assert numbers(dataset[0].clips[0]) == [0, 8, 15, 23]  # of the picture nothing is cut
    assert dataset[3].metadata == {}  # it lasts a second


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_crop_that_ends_after_its_film_ends_with_it_and_is_noted_or_refused(kind, dataset_of):
    late = Medium(kind, "two.mp4", 1.0, 9.0)
    prompt = dataset_of(ask(late), rule=replace(RULE, late_ends=True))[0]
    assert len(prompt.clips[0].audio) == pytest.approx(32_000, abs=1_700)  # two seconds of three
    assert prompt.metadata == {"notes": ["a crop ends after its film"]}
    assert dataset_of(ask(late), rule=replace(RULE, late_ends=False))[0].cause in ("no picture", "no sound")
    soon = dataset_of(ask(Medium(kind, "two.mp4", 0.5, 3.2)), rule=replace(RULE, late_ends=True))[0]
    assert soon.metadata == {}  # codecs and annotators round
    after = dataset_of(ask(Medium("video", "two.mp4", 5.0, 9.0)), rule=replace(RULE, late_ends=True))[0]
    assert after.cause == "no picture"


def test_notes_stand_beside_metadata_and_each_once(dataset_of):
    record = ask(MUTE, Medium("audio", "mute.mp4"), Medium("audio", "b.wav"), metadata={"kind": "beeps"})
    prompt = dataset_of(record, rule=replace(RULE, max_audio_seconds=1.0))[0]
    assert prompt.metadata == {"kind": "beeps", "notes": ["no sound track", "sound cut at 1 s"]}


def test_without_these_options_silence_and_length_are_errors(dataset_of):
    rule = replace(RULE, max_audio_seconds=1.0, cut_audio=False, silent_videos=False)
    records = [ask(MUTE), ask(Medium("audio", "mute.mp4")), ask(TWO), ask(Medium("audio", "b.wav"))]
    causes = [item.cause for item in dataset_of(*records, rule=rule).stream(range(4))]
    assert causes == ["no sound", "no sound", "sound too long", "sound too long"]


# -- swaps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swap", ["audio", "video"])
def test_a_swap_takes_one_stream_from_the_next_other_files_round_the_end(dataset_of, swap):
    # Questions about one film need not stand together. The films are ONE, TWO, THREE in the order they are first asked.
    media = [ONE, ONE, TWO, ONE, THREE, TWO]
    plain, swapped = dataset_of(*map(ask, media)), dataset_of(*map(ask, media), swap=swap)
    first = {ONE.name: 0, TWO.name: 2, THREE.name: 4}
    following = {ONE.name: TWO.name, TWO.name: THREE.name, THREE.name: ONE.name}
    for position, item in enumerate(swapped.stream(range(6))):
        own, other = plain[position].clips[0], plain[first[following[media[position].name]]].clips[0]
        seen, heard = (other, own) if swap == "video" else (own, other)
        assert torch.equal(item.clips[0].frames, seen.frames)
        length = len(seen.audio)
        assert torch.equal(item.clips[0].audio, heard.audio[:length])


def test_a_swap_pairs_media_by_place_and_skips_files_of_other_kinds(dataset_of):
    picture_a, picture_b = Medium("image", "a.png"), Medium("image", "b.png")
    sound_a, sound_b = Medium("audio", "a.wav"), Medium("audio", "b.wav", 1.0, 1.5)
    records = [ask(picture_a, sound_a), ask(ONE), ask(sound_b, picture_b), ask(picture_b, sound_b), ask(FRAMES)]
    dataset = dataset_of(*records, swap="audio")
    clips = dataset[0].clips
    assert [clip.kind for clip in clips] == ["image", "audio"]
    assert clips[0].frames.shape[-2:] == (84, 56)  # its own
    assert len(clips[1].audio) == 8_000  # that of q3, by its own crop
    assert dataset[1].metadata == {"notes": ["no sound track"]}  # the folder of frames is the next film


def test_a_swap_without_a_counterpart_is_a_failure_of_that_question_alone(dataset_of):
    dataset = dataset_of(ask(ONE), ask(TWO), ask(Medium("audio", "a.wav")), ask(), swap="audio")
    items = list(dataset.stream(range(4)))
    assert [type(item) is Failure for item in items] == [False, False, True, False]
    assert items[2].cause == "nothing to swap with"
    assert "no question about other files shows [audio] too" in items[2].reason


@pytest.mark.parametrize(("modalities", "kinds"), [("audio", ["audio"]), ("video", ["video"]), ("none", [])])
def test_a_swap_goes_with_what_is_left_of_the_media(dataset_of, modalities, kinds):
    for item in dataset_of(ask(ONE), ask(TWO), swap="audio", modalities=modalities).stream(range(2)):
        assert [clip.kind for clip in item.clips] == kinds


# -- containers as benchmarks have them --------------------------------------------------------------------------------

ENCODINGS = {
    "one.mkv": ("-c:v libx264 -c:a aac", "libx264"),
    "two.webm": ("-c:v libvpx-vp9 -c:a libopus", "libvpx-vp9"),
    "three.webm": ("-c:v libvpx -an", "libvpx"),
    "four.avi": ("-c:v mpeg4 -qscale:v 2 -bf 0 -an", "mpeg4"),  # as NTU RGB+D
    "five.avi": ("-c:v mjpeg -qscale:v 2 -c:a pcm_s16le", "mjpeg"),
    "six.MP4": ("-c:v libx264 -c:a aac", "libx264"),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_files_of_the_usual_containers_decode_like_mp4(name, root, dataset_of):
    if not (ffmpeg := shutil.which("ffmpeg")):
        pytest.skip("there is no ffmpeg on PATH to make the files with")
    options, encoder = ENCODINGS[name]
    listed = subprocess.run([ffmpeg, "-hide_banner", "-encoders"], capture_output=True, text=True, check=True).stdout
    if f" {encoder} " not in listed:
        pytest.skip(f"this ffmpeg was built without {encoder}")
    command = [ffmpeg, "-v", "error", "-i", root / "two.mp4", *options.split(), root / name]
    subprocess.run(command, check=True, timeout=60)
    whole, part = dataset_of(ask(Medium("video", name)), ask(Medium("video", name, 1.0, 2.0))).stream(range(2))
    assert (numbers(whole.clips[0]), numbers(part.clips[0])) == ([0, 8, 15, 23], [8, 10, 13, 15])
    torch.testing.assert_close(
        whole.clips[0].times, torch.tensor([0, 8, 15, 23], dtype=torch.float64) / 8, atol=2e-3, rtol=0
    )
    if "-an" in options:
        assert whole.clips[0].audio is part.clips[0].audio is None
        assert whole.metadata["notes"] == ["no sound track"]
    else:
        assert len(part.clips[0].audio) == 16_000
        assert abs(len(whole.clips[0].audio) - 48_000) < 800  # 50 ms
    (root / name).write_bytes((root / name).read_bytes()[:-200])
    assert dataset_of(ask(Medium("video", name)))[0].cause == "cut short"


def test_questions_that_show_nothing_do_not_wait_for_each_other(tmp_path):
    index = FileIndex(tmp_path, [(key, Record(f"question {key}", answer="1")) for key in "abc"])
    assert len({entry.sample for entry in index}) == 3
