import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from random import Random

import pytest
import torch

from avatar.answers import gold_answer, parse_answer, same_answer
from avatar.data.dataset import PromptDataset
from avatar.data.media import decode_medium
from avatar.data.micro import (
    COLORS,
    FULL_CHAIN_SHARE,
    HINTED_SHARE,
    KINDS,
    RULE,
    SHAPES,
    SPLITS,
    Scene,
    ask,
    audio_labels,
    draw_scene,
    draw_split,
    guess,
    language,
    render_audio,
    render_frames,
    render_mp4,
    video_labels,
)
from avatar.data.schema import Medium, parse_record
from avatar.data.shards import write_shards

MASKS = [m for m in product([False, True], repeat=4) if any(m)]


def brightness(frames):
    """[4] the brightest channel of each slot, without its 63 brightest pixels (1 % of 2 x 56 x 56)."""
    return frames.float().amax(1).reshape(4, -1).quantile(0.99, dim=1)


def loudness(audio):
    """[4] root mean square of each slot."""
    return audio.reshape(4, -1).pow(2).mean(1).sqrt()


def seen_color(frames, flashes):
    """The colour of the pixels that are bright while the object flashes."""
    lit = frames.float()[torch.tensor(flashes).repeat_interleave(2)].transpose(0, 1).flatten(1)  # [3, pixels]
    mean = lit[:, lit.amax(0) > 150].mean(1)
    near = {name: torch.cosine_similarity(mean, torch.tensor(rgb).float(), dim=0) for name, rgb in COLORS.items()}
    return max(near, key=near.get)


@pytest.fixture(scope="module")
def decoded():
    """(scene, decoded clip, records) of 48 real MP4s, from every split."""
    drawn = [item for i, split in enumerate(SPLITS) for item in draw_split(split, 10 if i else 8, seed=11)]
    video = Medium("video", "mp4")
    return [(s, decode_medium(render_mp4(s), video, True, RULE, key, key), records) for key, s, records in drawn]


def test_flashes_are_recovered_from_every_decoded_mp4(decoded):
    assert len(decoded) >= 40
    # At most 0.3 * 240 = 72 in the dark and 210 or more in a flash; 140 is halfway.
    wrong = [s for s, clip, _ in decoded if tuple((brightness(clip.frames) > 140).tolist()) != s.flashes]
    assert wrong == []


def test_beeps_are_recovered_from_every_decoded_mp4(decoded):
    # Noise is 0.004; a tone of amplitude 0.25 for three quarters of a slot is above 0.1.
    wrong = [s for s, clip, _ in decoded if tuple((loudness(clip.audio) > 0.05).tolist()) != s.beeps]
    assert wrong == []


def test_the_thresholds_have_room_on_both_sides(decoded):
    light = torch.stack([brightness(clip.frames) for _, clip, _ in decoded])
    sound = torch.stack([loudness(clip.audio) for _, clip, _ in decoded])
    flashes, beeps = (torch.tensor([getattr(s, name) for s, _, _ in decoded]) for name in ("flashes", "beeps"))
    assert light[flashes].min() > 180
    assert light[~flashes].max() < 110
    assert sound[beeps].min() > 10 * sound[~beeps].max()


def test_the_color_is_recovered_from_every_decoded_mp4(decoded):
    assert [seen_color(clip.frames, scene.flashes) for scene, clip, _ in decoded] == [s.color for s, _, _ in decoded]


def test_every_decoded_clip_is_one_second_of_eight_frames_and_sixteen_thousand_samples(decoded):
    assert {tuple(clip.frames.shape) for _, clip, _ in decoded} == {(8, 3, 56, 56)}
    assert {tuple(clip.audio.shape) for _, clip, _ in decoded} == {(16_000,)}
    assert {clip.fps for _, clip, _ in decoded} == {8.0}
    times = torch.arange(8).double() / 8
    assert all(torch.allclose(clip.times, times, rtol=0, atol=1e-6) for _, clip, _ in decoded)


def test_answers_follow_from_what_is_seen_and_heard_in_the_decoded_mp4(decoded):
    for scene, clip, records in decoded:
        flashes, beeps = int((brightness(clip.frames) > 140).sum()), int((loudness(clip.audio) > 0.05).sum())
        more = {1: "sound", -1: "flash", 0: "same"}[(beeps > flashes) - (beeps < flashes)]
        expected = {"beeps": beeps, "flashes": flashes, "sum": beeps + flashes, "more": more, "color": scene.color}
        assert {r.metadata["kind"]: r.answer for r in records} == {kind: str(v) for kind, v in expected.items()}


@pytest.mark.parametrize(("beeps", "flashes"), [(1, 1), (1, 4), (4, 1), (4, 4), (2, 3), (3, 2)])
def test_answers_by_hand(beeps, flashes):
    scene = Scene(
        "blue", "square", (True,) * flashes + (False,) * (4 - flashes), (False,) * (4 - beeps) + (True,) * beeps, 5
    )
    answers = {kind: ask(scene, kind).answer for kind in KINDS}
    more = (
        "sound" if (beeps, flashes) in [(4, 1), (3, 2)] else "flash" if (beeps, flashes) in [(1, 4), (2, 3)] else "same"
    )
    assert answers == {
        "beeps": str(beeps),
        "flashes": str(flashes),
        "sum": str(beeps + flashes),
        "more": more,
        "color": "blue",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_for_every_scene_the_chain_of_a_question_ends_in_its_gold_answer(kind):
    for color, flashes, beeps in product(COLORS, MASKS, MASKS):  # 4 * 15 * 15 = 900 scenes
        record = ask(Scene(color, "circle", flashes, beeps, 0), kind)
        assert parse_record(record.to_json(), "here") == record
        gold = gold_answer(record.answer, record.problem_type, record.options)
        read = parse_answer(record.chain, record.problem_type, record.options)
        assert read.how == "strict"
        assert same_answer(read.value, gold)


def test_every_question_plays_the_sound_of_its_video_and_carries_a_hint():
    records = [ask(draw_scene(Random(0)), kind) for kind in KINDS]
    assert [(r.media, r.use_audio_in_video, r.show_hint) for r in records] == [
        ([Medium("video", "mp4")], True, False)
    ] * 5
    assert all(record.hint for record in records)
    assert len({record.question for record in records}) == 5


def fingerprints(scene):
    """Of the picture and of the sound."""
    return [hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in (render_frames(scene), render_audio(scene))]


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_seed_gives_the_same_records_and_another_seed_others(split):
    first, again, other = (list(draw_split(split, 20, seed)) for seed in (3, 3, 4))
    assert first == again
    assert [scene for _, scene, _ in first] != [scene for _, scene, _ in other]
    assert [records for _, _, records in first] != [records for _, _, records in other]


def test_fewer_clips_of_a_split_are_its_first():
    assert list(draw_split("guesses", 5, 0)) == list(draw_split("guesses", 30, 0))[:5]


def test_the_same_seed_gives_the_same_shard_bytes_and_decoded_clips_on_any_number_of_threads(tmp_path):
    def render(item):
        key, scene, records = item
        return key, render_mp4(scene), records

    write_shards(tmp_path / "one", map(render, draw_split("chains", 6, 5)))
    with ThreadPoolExecutor(4) as pool:
        write_shards(tmp_path / "four", pool.map(render, draw_split("chains", 6, 5)))
    assert (tmp_path / "one" / "00000.tar").read_bytes() == (tmp_path / "four" / "00000.tar").read_bytes()
    one, four = (PromptDataset([tmp_path / name], rule=RULE) for name in ("one", "four"))
    for i in range(0, 30, 5):
        assert torch.equal(one[i].clips[0].frames, four[i].clips[0].frames)
        assert torch.equal(one[i].clips[0].audio, four[i].clips[0].audio)


def test_drawing_and_rendering_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    render_mp4(next(draw_split("train", 1, 0))[1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_scene_is_in_two_splits_nor_twice_in_one(seed):
    drawn = [scene for split, num in SPLITS.items() for _, scene, _ in draw_split(split, num, seed)]
    assert len(drawn) == sum(SPLITS.values())
    assert len(set(drawn)) == len(drawn)
    # Noise, motion and pitch hang on the seed alone: two scenes of one seed would look and sound akin.
    assert len({scene.seed for scene in drawn}) == len(drawn)


def test_no_two_clips_of_any_splits_look_the_same_or_sound_the_same():
    drawn = [scene for split in SPLITS for _, scene, _ in draw_split(split, 30, 0)]
    pictures, sounds = zip(*map(fingerprints, drawn), strict=True)
    assert len(set(pictures)) == len(set(sounds)) == len(drawn) == 30 * len(SPLITS)
    assert fingerprints(drawn[0]) == [pictures[0], sounds[0]]


def test_the_seed_of_a_scene_alone_makes_another_picture_and_another_sound():
    scene = draw_scene(Random(0))
    other = replace(scene, seed=scene.seed + 1)
    assert not set(fingerprints(scene)) & set(fingerprints(other))


def test_keys_name_their_split_and_are_unique():
    keys = [key for split, num in SPLITS.items() for key, _, _ in draw_split(split, num, 0)]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(split) for split in SPLITS for key, _, _ in draw_split(split, 2, 0))


def test_counts_of_flashes_and_beeps_are_even_and_independent():
    rng = Random(0)
    scenes = [draw_scene(rng) for _ in range(8000)]
    pairs = Counter((sum(s.flashes), sum(s.beeps)) for s in scenes)
    assert set(pairs) == set(product(range(1, 5), repeat=2))
    # 16 pairs: 500 each, deviation sqrt(8000 * 1/16 * 15/16) = 21.7; 4 deviations are 87.
    assert all(abs(n - 500) < 87 for n in pairs.values())
    assert set(Counter(s.color for s in scenes)) == set(COLORS)
    assert set(Counter(s.shape for s in scenes)) == set(SHAPES)


def test_sound_tells_nothing_about_the_picture_and_the_reverse():
    scene = draw_scene(Random(1))
    other_sound = replace(scene, beeps=tuple(not b for b in scene.beeps))
    other_picture = replace(
        scene, color="red" if scene.color != "red" else "blue", flashes=tuple(not f for f in scene.flashes)
    )
    assert torch.equal(render_frames(scene), render_frames(other_sound))
    assert torch.equal(render_audio(scene), render_audio(other_picture))
    assert not torch.equal(render_audio(scene), render_audio(other_sound))
    assert not torch.equal(render_frames(scene), render_frames(other_picture))


@pytest.mark.parametrize("kind", KINDS)
def test_a_guess_keeps_the_question_and_changes_at_most_chain_and_hint(kind):
    rng, record = Random(0), ask(draw_scene(Random(2)), kind)
    for _ in range(200):
        guessed = guess(record, rng)
        assert replace(guessed, chain=record.chain, show_hint=record.show_hint) == record
        if guessed.show_hint:
            assert guessed.chain == record.chain


@pytest.mark.parametrize("kind", KINDS)
def test_a_guessed_answer_is_one_that_the_question_allows_and_all_of_them_come(kind):
    rng, record = Random(0), ask(draw_scene(Random(2)), kind)
    chains = {guess(record, rng).chain for _ in range(600)} - {record.chain}
    allowed = {
        "beeps": "1 2 3 4",
        "flashes": "1 2 3 4",
        "sum": "2 3 4 5 6 7 8",
        "color": "red green blue yellow",
        "more": "sound flash same",
    }[kind]
    assert chains == {f"<think>guess</think><answer>{answer}</answer>" for answer in allowed.split()}


@pytest.mark.parametrize("kind", KINDS)
def test_hints_and_full_chains_come_as_rarely_as_stated(kind):
    rng, record, num = Random(0), ask(draw_scene(Random(2)), kind), 5000
    guesses = [guess(record, rng) for _ in range(num)]
    hinted = sum(g.show_hint for g in guesses) / num
    plain = [g for g in guesses if not g.show_hint]
    full = sum(g.chain == record.chain for g in plain) / len(plain)
    share = FULL_CHAIN_SHARE[kind]
    # Four deviations: 4 * sqrt(p (1 - p) / n).
    assert abs(hinted - HINTED_SHARE) < 4 * (HINTED_SHARE * (1 - HINTED_SHARE) / num) ** 0.5
    assert abs(full - share) < 4 * (share * (1 - share) / len(plain)) ** 0.5


def test_only_the_guesses_split_guesses_and_only_chains_carry_labels():
    for split in SPLITS:
        records = [r for _, _, rs in draw_split(split, 40, 0) for r in rs]
        assert any("guess" in r.chain for r in records) == (split == "guesses")
        assert any(r.show_hint for r in records) == (split == "guesses")
        assert {"video_labels" in r.metadata for r in records} == {split == "chains"}
        assert {"audio_labels" in r.metadata for r in records} == {split == "chains"}


def test_labels_of_the_chains_split_are_those_of_its_scenes():
    for _, scene, records in draw_split("chains", 5, 0):
        for record in records:
            assert record.metadata["video_labels"] == video_labels(scene)
            assert record.metadata["audio_labels"] == audio_labels(scene)


def test_video_labels_are_what_is_seen_in_each_slot_and_quadrant_of_the_decoded_mp4(decoded):
    for scene, clip, _ in decoded:
        # [4 slots, 2 frames, 2 halves in y, 28, 2 halves in x, 28], the brightest channel over the grey ground of 24
        light = (clip.frames.float().amax(1) - 40).clamp(min=0).reshape(4, 2, 2, 28, 2, 28)
        quadrant = light.sum(dim=(1, 3, 5)).reshape(4, 4)  # [slot, upper left / upper right / lower left / lower right]
        expected = [0] * 16
        color = list(COLORS).index(seen_color(clip.frames, scene.flashes))
        for slot, bright in enumerate((brightness(clip.frames) > 140).tolist()):
            expected[4 * slot + int(quadrant[slot].argmax())] = 1 + 2 * color + bright
        assert video_labels(scene) == expected


def test_audio_labels_mark_the_slot_that_each_token_of_40_ms_lies_in():
    # Slots end at 250, 500, 750, 1000 ms, tokens have their middle at 20, 60, ...: 6 up to 220, 6 up to 460, 7 from
    # 500 to 740, 6 from 780.
    for beeps in MASKS:
        scene = Scene("red", "circle", (True,) * 4, beeps, 1)
        assert audio_labels(scene) == [int(b) for b, n in zip(beeps, (6, 6, 7, 6), strict=True) for _ in range(n)]
        assert len(audio_labels(scene)) == 25


def test_every_loud_audio_token_of_a_decoded_mp4_is_labelled_and_no_label_lies_in_a_silent_slot(decoded):
    for scene, clip, _ in decoded:
        loud = clip.audio.reshape(25, 640).pow(2).mean(1).sqrt() > 0.05
        labels = torch.tensor(audio_labels(scene)).bool()
        assert not (loud & ~labels).any()
        # A beep lasts from 30 to 220 ms of its slot: 190 ms hold at least 3 whole tokens.
        assert int(loud.sum()) >= 3 * sum(scene.beeps)


def test_there_are_sixteen_video_labels_with_one_object_a_slot():
    for split in SPLITS:
        for _, scene, _ in draw_split(split, 20, 0):
            slots = torch.tensor(video_labels(scene)).reshape(4, 4)
            assert (slots > 0).sum(1).tolist() == [1, 1, 1, 1]
            assert len({int(slot.argmax()) for slot in slots}) == 1  # the object stays in its quadrant
            assert ((slots.amax(1) - 1) % 2).bool().tolist() == list(scene.flashes)


def test_the_tokenizer_is_taught_every_word_that_any_split_uses():
    taught = {word for text in language() for word in text.replace("<", " <").replace(">", "> ").split()}
    for split in SPLITS:
        for _, _, records in draw_split(split, 60, 1):
            for r in records:
                text = " ".join([r.question, *r.options, r.chain, r.hint]).replace("<", " <").replace(">", "> ")
                assert set(text.split()) <= taught
