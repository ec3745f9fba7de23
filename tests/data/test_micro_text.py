import hashlib
import json
from collections import Counter

import pytest

from avatar.commands.data.synth import synth
from avatar.data.index import ShardIndex
from avatar.data.micro import COLORS, HINTED_SHARE, KINDS, SPLITS, Scene, ask, draw_split
from avatar.data.micro_text import (
    EXAM_SHARE,
    EXAMS,
    describe,
    draw_text_split,
    in_words,
    is_for_exams,
    text_language,
    write_texts,
)
from avatar.data.prompts import PromptStyle, to_prompt
from avatar.data.schema import parse_record
from avatar.models.tiny import build_tokenizer

SCENE = Scene("blue", "square", (True, False, False, True), (False, True, True, True), seed=5)


def records_of(split, num=40, seed=0):
    return [record for _, _, records in draw_text_split(split, num, seed) for record in records]


def texts_of(split, seed=0):
    return {describe(scene) for _, scene, _ in draw_text_split(split, SPLITS[split], seed)}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A hundredth of every split: 6 scenes for chains, 2 in dev."""
    folder = tmp_path_factory.mktemp("world") / "data"
    synth(str(folder), scale=0.01, world="text")
    return folder


def test_a_question_tells_what_its_clip_would_show_and_shows_nothing():
    record = in_words(ask(SCENE, "sum"), SCENE)
    assert record.question == ("sound off on on on ; picture blue square on off off on ; how many beeps and flashes ?")
    assert record.media == []
    assert not record.use_audio_in_video


def test_all_else_is_as_in_the_micro_world():
    for kind in KINDS:
        told, shown = in_words(ask(SCENE, kind), SCENE), ask(SCENE, kind)
        for name in ("answer", "problem_type", "options", "chain", "hint", "show_hint", "metadata"):
            assert getattr(told, name) == getattr(shown, name), name


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_can_be_read_off_the_words(split):
    for record in records_of(split, 30):
        sound, picture, _ = record.question.split(" ; ")
        beeps, flashes = (part.split().count("on") for part in (sound, picture))
        more = {1: "sound", -1: "flash", 0: "same"}[(beeps > flashes) - (beeps < flashes)]
        color = next(word for word in picture.split() if word in COLORS)
        expected = {"beeps": beeps, "flashes": flashes, "sum": beeps + flashes, "more": more, "color": color}
        assert record.answer == str(expected[record.metadata["kind"]])


@pytest.mark.parametrize("seed", [0, 1])
def test_no_scene_that_is_graded_is_trained_on(seed):
    """Of 2,700 scenes that differ in words 960 are drawn for training, so many would come twice by chance."""
    trained = set.union(*(texts_of(split, seed) for split in SPLITS if split not in EXAMS))
    for exam in EXAMS:
        assert not texts_of(exam, seed) & trained


def test_a_quarter_of_all_scenes_is_kept_for_exams_whatever_their_seed():
    scenes = [scene for _, scene, _ in draw_split("train", 2000, 3)]
    share = sum(map(is_for_exams, scenes)) / len(scenes)
    assert share == pytest.approx(EXAM_SHARE, abs=0.06)
    assert is_for_exams(SCENE) == is_for_exams(Scene(SCENE.color, SCENE.shape, SCENE.flashes, SCENE.beeps, seed=6))


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_seed_gives_the_same_records_and_fewer_scenes_are_the_first(split):
    first, fewer, other = (list(draw_text_split(split, num, seed)) for num, seed in ((12, 3), (5, 3), (12, 4)))
    assert first == list(draw_text_split(split, 12, 3))
    assert fewer == first[:5]
    assert [scene for _, scene, _ in first] != [scene for _, scene, _ in other]
    assert [key for key, _, _ in first] == [f"{split}-{i:06d}" for i in range(12)]


def test_guesses_mostly_guess_or_show_the_hint():
    records = records_of("guesses", 300)
    guessed = sum(record.chain.startswith("<think>guess</think>") for record in records) / len(records)
    hinted = sum(record.show_hint for record in records) / len(records)
    # 1 - 0.15 = 0.85 show no hint, of which 0.12, 0.12, 0.08, 0.03 and 0.015 keep the chain: 0.85 x (1 - 0.073) = 0.79
    assert guessed == pytest.approx(0.79, abs=0.04)
    assert hinted == pytest.approx(HINTED_SHARE, abs=0.03)


def test_no_record_speaks_of_media_tokens():
    assert not any(name.endswith("labels") for record in records_of("chains") for name in record.metadata)


def test_the_words_of_a_scene_are_few_tokens():
    """Byte by byte it would be 54."""
    tokenizer = build_tokenizer(text_language())
    assert len(tokenizer(describe(SCENE)).input_ids) <= 20
    for record in records_of("chains", 20):
        assert tokenizer.decode(tokenizer(record.question).input_ids) == record.question


def test_the_world_lies_in_shards_without_media(world):
    assert json.loads((world / "manifest.json").read_text()) == {"text-world": 1, "seed": 0, "scale": 0.01}
    index = ShardIndex(world / "chains")
    assert len(index) == 6 * len(KINDS)
    records = [index[i].read_record() for i in range(len(index))]
    assert Counter(record.metadata["kind"] for record in records) == dict.fromkeys(KINDS, 6)
    assert {tuple(record.media) for record in records} == {()}
    members = {name for entry in (index[i] for i in range(len(index))) for name in entry.members}
    assert "mp4" not in members
    prompt = to_prompt(records[0], index[0].key, (), PromptStyle(letter_options=False))
    assert prompt.messages == [{"role": "user", "content": [{"type": "text", "text": records[0].question}]}]


def test_equal_samples_give_equal_bytes_and_take_the_place_of_what_lay_there(tmp_path):
    digests = []
    for name, num in (("one", 3), ("two", 9), ("two", 3)):
        samples = [(key, records) for key, _, records in draw_text_split("train", num, 0)]
        write_texts(tmp_path / name, samples)
        digests.append(hashlib.sha256((tmp_path / name / "00000.tar").read_bytes()).hexdigest())
    assert digests[0] == digests[2] != digests[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_records_survive_being_written():
    for record in records_of("guesses", 10):
        assert parse_record(record.to_json(), "here") == record
