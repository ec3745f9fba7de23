from collections import Counter
from dataclasses import replace
from itertools import product
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avatar.answers import gold_answer, parse_answer
from avatar.data.media import decode_medium
from avatar.data.micro import COLORS, RULE, SHAPES, SIZE, Thing
from avatar.data.micro_pair import (
    HALVES,
    NUM_VIDEO_CLASSES,
    RIGHT_GROUND,
    PairScene,
    ask_pair,
    class_of,
    draw_pair,
    locate_answer,
    pair_video_labels,
    render_pair_frames,
)
from avatar.data.micro_stages import render_stage_mp4
from avatar.data.schema import Medium, parse_record

pairs = st.integers(0, 2**32).map(lambda seed: draw_pair(Random(seed)))
ANSWERS = [locate_answer(half, color) for half in HALVES for color in COLORS]


@pytest.fixture(scope="module")
def decoded():
    """(scene, decoded clip) of 40 real MP4s."""
    video, rng = Medium("video", "mp4"), Random(7)
    scenes = [draw_pair(rng) for _ in range(40)]
    return [(s, decode_medium(render_stage_mp4(s), video, True, RULE, "k", "k")) for s in scenes]


def bright_slots(frames, half):
    """The slots in which the half holds an object that flashes: 63 pixels a slot (2 x 56 x 28 x 2 %) above 140."""
    columns = slice(0, SIZE // 2 - 3) if half == "left" else slice(SIZE // 2 + 3, SIZE)
    light = frames[..., columns].float().amax(1).reshape(4, -1).quantile(0.98, dim=1)
    return tuple((light > 140).tolist())


def loud_slots(audio):
    return tuple((audio.reshape(4, -1).pow(2).mean(1).sqrt() > 0.05).tolist())


def seen_color(frames, half, flashes):
    columns = slice(0, SIZE // 2 - 3) if half == "left" else slice(SIZE // 2 + 3, SIZE)
    lit = frames[..., columns].float()[torch.tensor(flashes).repeat_interleave(2)].transpose(0, 1).flatten(1)
    mean = lit[:, lit.amax(0) > 150].mean(1)
    near = {name: torch.cosine_similarity(mean, torch.tensor(rgb).float(), dim=0) for name, rgb in COLORS.items()}
    return max(near, key=near.get)


@given(pairs)
def test_exactly_one_object_flashes_with_the_beeps(scene):
    assert [half for half, thing in scene.things.items() if thing.flashes == scene.beeps] == [scene.sounding]


@given(pairs)
def test_the_objects_differ_in_colour_and_in_at_least_one_slot_and_flash_one_to_three_times(scene):
    assert scene.left.color != scene.right.color
    assert scene.left.flashes != scene.right.flashes
    assert {1 <= sum(thing.flashes) <= 3 for thing in scene.things.values()} == {True}


def test_neither_colour_nor_half_nor_the_picture_tells_which_object_sounds():
    rng = Random(0)
    scenes = [draw_pair(rng) for _ in range(6000)]
    # 8 answers, 750 each; deviation sqrt(6000 * 1/8 * 7/8) = 25.6, four of them 103.
    answers = Counter(ask_pair(scene).answer for scene in scenes)
    assert set(answers) == set(ANSWERS)
    assert all(abs(n - 750) < 103 for n in answers.values())
    other = [replace(s, sounding=next(h for h in HALVES if h != s.sounding)) for s in scenes[:20]]
    assert all(
        torch.equal(render_pair_frames(a), render_pair_frames(b)) for a, b in zip(scenes[:20], other, strict=True)
    )


def test_counting_does_not_tell_in_half_of_the_scenes():
    rng = Random(1)
    scenes = [draw_pair(rng) for _ in range(4000)]
    same = sum(sum(s.left.flashes) == sum(s.right.flashes) for s in scenes) / len(scenes)
    assert abs(same - 0.5) < 4 * (0.25 / 4000) ** 0.5  # four deviations
    # Of the pattern that sounds, more flashes are no sign either: as often the larger as the smaller number.
    more = sum(sum(s.beeps) * 2 > sum(s.left.flashes) + sum(s.right.flashes) for s in scenes)
    fewer = sum(sum(s.beeps) * 2 < sum(s.left.flashes) + sum(s.right.flashes) for s in scenes)
    assert abs(more - fewer) < 4 * 2000**0.5
    assert {t.shape for s in scenes for t in s.things.values()} == set(SHAPES)


def test_patterns_and_beeps_are_recovered_from_every_decoded_mp4(decoded):
    for scene, clip in decoded:
        assert {half: bright_slots(clip.frames, half) for half in HALVES} == {
            half: thing.flashes for half, thing in scene.things.items()
        }
        assert loud_slots(clip.audio) == scene.beeps


def test_the_answer_follows_from_what_is_seen_and_heard_in_the_decoded_mp4(decoded):
    for scene, clip in decoded:
        seen = {half: bright_slots(clip.frames, half) for half in HALVES}
        colors = {half: seen_color(clip.frames, half, seen[half]) for half in HALVES}
        sounding = next(half for half in HALVES if seen[half] == loud_slots(clip.audio))
        assert ask_pair(scene).answer == locate_answer(sounding, colors[sounding])


def test_the_right_half_of_the_decoded_ground_is_lighter(decoded):
    for _, clip in decoded:
        left, right = (clip.frames.float()[..., half].median() for half in (slice(0, 28), slice(28, 56)))
        assert abs(left - 24) < 6
        assert abs(right - RIGHT_GROUND) < 6


def test_a_scene_by_hand():
    off_on = (False, True, True, False), (True, True, True, False)
    scene = PairScene(Thing("red", "circle", off_on[0]), Thing("blue", "square", off_on[1]), "left", 3)
    record = ask_pair(scene)
    assert scene.beeps == off_on[0]
    assert record.answer == "Left: red | Right: silent"
    assert ask_pair(replace(scene, sounding="right")).answer == "Left: silent | Right: blue"
    thought = "hear off on on off ; left red off on on off same ; right blue on on on off other"
    assert record.chain == f"<think>{thought}</think><answer>Left: red | Right: silent</answer>"


@given(pairs)
def test_a_record_is_valid_and_its_chain_ends_in_its_answer(scene):
    record = ask_pair(scene)
    assert record.problem_type == "location"
    assert parse_record(record.to_json(), "here") == record
    read = parse_answer(record.chain, "location")
    assert read.how == "strict"
    assert read.value == gold_answer(record.answer, "location")


def test_all_answers_parse_as_locations_and_differ():
    assert len({gold_answer(answer, "location") for answer in ANSWERS}) == 2 * len(COLORS)


def test_video_labels_are_what_is_seen_in_each_slot_and_quadrant_of_the_decoded_mp4(decoded):
    ground = torch.full((SIZE,), 24.0)
    ground[SIZE // 2 :] = RIGHT_GROUND
    for scene, clip in decoded:
        # How far each pixel is from its ground: [4 slots, 2 frames, 2 halves in y, 28, 2 halves in x, 28].
        away = (clip.frames.float() - ground).abs().amax(1).clamp(min=25).sub(25).reshape(4, 2, 2, 28, 2, 28)
        quadrant = away.sum(dim=(1, 3, 5))  # [slot, y, x]
        expected = torch.zeros(4, 2, 2, dtype=torch.long)
        for x, half in enumerate(HALVES):
            flashes = bright_slots(clip.frames, half)
            color = seen_color(clip.frames, half, flashes)
            for slot, bright in enumerate(flashes):
                expected[slot, quadrant[:, :, x].sum(0).argmax(), x] = class_of(color, bright, x)
        assert pair_video_labels(scene) == expected.flatten().tolist()


def test_classes_are_a_number_each_from_1_on():
    classes = [class_of(c, b, half) for half, c, b in product((0, 1), COLORS, (False, True))]
    assert classes == list(range(1, NUM_VIDEO_CLASSES))


def test_rendering_leaves_the_global_random_state_alone_and_the_same_seed_gives_the_same_bytes():
    before = torch.get_rng_state()
    scene = draw_pair(Random(3))
    assert render_stage_mp4(scene) == render_stage_mp4(draw_pair(Random(3)))
    assert torch.equal(torch.get_rng_state(), before)
