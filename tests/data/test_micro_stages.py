from collections import Counter

import pytest
import torch

from avatar.answers import gold_answer, parse_answer, same_answer
from avatar.commands.data.synth import synth
from avatar.data.dataset import PromptDataset
from avatar.data.media import decode_medium
from avatar.data.micro import COLORS, HINTED_SHARE, KINDS, RULE, SPLITS, draw_split
from avatar.data.micro_pair import HALVES, NUM_VIDEO_CLASSES, RIGHT_GROUND, PairScene, locate_answer
from avatar.data.micro_stages import (
    GUESS_WORDS,
    STAGE_CHAIN_SHARE,
    STAGE_SPLITS,
    ask_stage,
    draw_stage_split,
    render_stage_mp4,
    stage_language,
)
from avatar.data.prompts import PromptStyle
from avatar.data.schema import Medium, parse_record
from avatar.data.shards import write_shards

GROUPS = {"vision": ("color", "flashes"), "audio_visual": ("beeps", "more", "sum"), "localise": ("locate",)}


def kinds_of(split, num=40):
    return {r.metadata["kind"] for _, _, records in draw_stage_split(split, num, 0) for r in records}


def is_guess(record):
    return record.chain.startswith(f"<think>{GUESS_WORDS[record.metadata['kind']]}</think>")


@pytest.mark.parametrize("group", GROUPS)
def test_a_stage_is_trained_validated_and_tested_on_its_own_kinds_of_questions(group):
    assert all(kinds_of(split) == set(GROUPS[group]) for split in (group, f"dev_{group}", f"test_{group}"))


@pytest.mark.parametrize("split", ["chains", "guesses", "dev"])
def test_the_cold_start_sees_every_kind(split):
    assert kinds_of(split) == {*KINDS, "locate"}


@pytest.mark.parametrize("split", STAGE_SPLITS)
def test_a_split_has_as_many_clips_pairs_and_questions_as_it_says(split):
    made = STAGE_SPLITS[split]
    drawn = list(draw_stage_split(split, made.clips, 0))
    assert len(drawn) == made.clips
    assert sum(isinstance(scene, PairScene) for _, scene, _ in drawn) == int(made.clips * made.pair_share)
    assert sum(len(records) for _, _, records in drawn) == made.num_questions


def test_every_test_split_holds_at_least_three_hundred_questions():
    assert all(STAGE_SPLITS[f"test_{group}"].num_questions >= 300 for group in GROUPS)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_scene_is_in_two_splits_nor_twice_in_one_nor_in_the_demos_world(seed):
    drawn = [s for split, made in STAGE_SPLITS.items() for _, s, _ in draw_stage_split(split, made.clips, seed)]
    demo = [s for split, num in SPLITS.items() for _, s, _ in draw_split(split, num, seed)]
    assert len(drawn) == sum(made.clips for made in STAGE_SPLITS.values())
    assert len(set(drawn)) == len(drawn)
    # Noise, motion and pitch hang on the seed alone.
    assert len({s.seed for s in [*drawn, *demo]}) == len(drawn) + len(demo)


@pytest.mark.parametrize("split", STAGE_SPLITS)
def test_the_same_seed_gives_the_same_records_and_fewer_clips_are_the_first(split):
    first, fewer, other = (list(draw_stage_split(split, num, seed)) for num, seed in ((20, 3), (8, 3), (20, 4)))
    assert first == list(draw_stage_split(split, 20, 3))
    assert fewer == first[:8]
    assert [scene for _, scene, _ in first] != [scene for _, scene, _ in other]


def test_every_record_is_valid_and_every_right_chain_ends_in_its_answer():
    for split in STAGE_SPLITS:
        for _, _, records in draw_stage_split(split, 30, 1):
            for record in records:
                assert parse_record(record.to_json(), "here") == record
                read = parse_answer(record.chain, record.problem_type, record.options)
                assert read.how == "strict"
                gold = gold_answer(record.answer, record.problem_type, record.options)
                assert split == "guesses" or same_answer(read.value, gold)


def test_guesses_and_hints_come_in_the_cold_starts_second_part_alone_and_labels_in_its_first():
    for split in STAGE_SPLITS:
        records = [r for _, _, rs in draw_stage_split(split, 60, 0) for r in rs]
        assert any(is_guess(r) for r in records) == (split == "guesses")
        assert any(r.show_hint for r in records) == (split == "guesses")
        assert {"video_labels" in r.metadata for r in records} == {split == "chains"}
        assert {"audio_labels" in r.metadata for r in records} == {split == "chains"}


@pytest.mark.parametrize("kind", STAGE_CHAIN_SHARE)
def test_full_chains_are_as_rare_among_guesses_as_stated(kind):
    records = [r for _, _, rs in draw_stage_split("guesses", 8000, 0) for r in rs if r.metadata["kind"] == kind]
    hinted = sum(r.show_hint for r in records) / len(records)
    plain = [r for r in records if not r.show_hint]
    full = sum(not is_guess(r) for r in plain) / len(plain)
    share = STAGE_CHAIN_SHARE[kind]
    # Four deviations: 4 * sqrt(p (1 - p) / n).
    assert abs(hinted - HINTED_SHARE) < 4 * (HINTED_SHARE * (1 - HINTED_SHARE) / len(records)) ** 0.5
    assert abs(full - share) < 4 * (share * (1 - share) / len(plain)) ** 0.5


def test_a_guess_of_the_place_is_right_once_in_eight_times():
    guessed = [
        (r.answer, r.chain.split("<answer>")[1].removesuffix("</answer>"))
        for _, _, records in draw_stage_split("guesses", 8000, 0)
        for r in records
        if r.metadata["kind"] == "locate" and is_guess(r)
    ]
    assert {guess for _, guess in guessed} == {locate_answer(half, color) for half in HALVES for color in COLORS}
    right = sum(answer == guess for answer, guess in guessed) / len(guessed)
    assert abs(right - 1 / 8) < 4 * (1 / 8 * 7 / 8 / len(guessed)) ** 0.5


def test_each_stage_has_a_word_for_guessing_that_no_other_stage_and_no_right_chain_uses():
    words = {group: {GUESS_WORDS[kind] for kind in kinds} for group, kinds in GROUPS.items()}
    assert [len(w) for w in words.values()] == [1, 1, 1]
    assert len(set.union(*words.values())) == 3
    chains = " ".join(r.chain for _, _, records in draw_stage_split("chains", 40, 0) for r in records)
    assert not any(word in chains for word in set.union(*words.values()))


def test_labels_fit_the_tokens_and_the_classes_of_the_config():
    seen = Counter()
    for _, scene, records in draw_stage_split("chains", 200, 0):
        for record in records:
            labels = record.metadata["video_labels"]
            assert len(labels) == 16
            assert len(record.metadata["audio_labels"]) == 25
            # One object a slot in each half that has one; classes of the right half lie above those of the left.
            assert sum(c > 0 for c in labels) == 4 * (1 + isinstance(scene, PairScene))
            assert all((c > 8) == (i % 2 == 1) for i, c in enumerate(labels) if c)
            seen.update(labels)
    assert set(seen) == set(range(NUM_VIDEO_CLASSES))


def test_clips_with_one_object_have_the_same_two_grounds_as_those_with_two():
    for _, scene, _ in draw_stage_split("dev", 4, 0):
        frames = decode_medium(render_stage_mp4(scene), Medium("video", "mp4"), True, RULE, "k", "k").frames.float()
        assert abs(frames[..., :28].median() - 24) < 6
        assert abs(frames[..., 28:].median() - RIGHT_GROUND) < 6


def test_the_tokenizer_is_taught_every_word_that_any_split_uses():
    def words(text):
        return text.replace("<", " <").replace(">", "> ").split()

    taught = {word for text in stage_language() for word in words(text)}
    for split in STAGE_SPLITS:
        for _, _, records in draw_stage_split(split, 60, 1):
            for r in records:
                assert set(words(" ".join([r.question, *r.options, r.chain, r.hint]))) <= taught


def test_synth_writes_this_world_and_does_not_take_the_demos_for_it(tmp_path, capsys):
    synth(str(tmp_path / "a"), scale=0.005, world="curriculum")
    synth(str(tmp_path / "b"), scale=0.005, world="curriculum")
    folders = {p.name for p in (tmp_path / "a").iterdir()}
    assert folders == {*STAGE_SPLITS, "model", "manifest.json"}
    for file in (tmp_path / "a").rglob("*.*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes(), file
    synth(str(tmp_path / "a"), scale=0.005, world="curriculum")
    assert "already" in capsys.readouterr().out
    with pytest.raises(Exception, match="holds something else"):
        synth(str(tmp_path / "a"), scale=0.005)
    synth(str(tmp_path / "a"), scale=0.005, overwrite=True)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {*SPLITS, "model", "manifest.json"}


def test_the_questions_are_read_back_as_prompts_with_their_clip(tmp_path):
    drawn = draw_stage_split("dev", 2, 0)
    write_shards(tmp_path / "dev", ((key, render_stage_mp4(scene), records) for key, scene, records in drawn))
    prompts = PromptDataset([tmp_path / "dev"], PromptStyle(letter_options=False), RULE)
    kinds = [prompts[i].metadata["kind"] for i in range(len(prompts))]
    assert set(kinds) == {*KINDS, "locate"}
    locate = prompts[kinds.index("locate")]
    assert (locate.problem_type, locate.hint) == ("location", "listen first , then look left and right")
    assert tuple(locate.clips[0].frames.shape) == (8, 3, 56, 56)
    assert torch.is_tensor(locate.clips[0].audio)


def test_one_object_is_asked_these_kinds_and_two_are_asked_where():
    (_, first, _), (_, second, _) = draw_stage_split("dev", 2, 0)
    single, pair = (first, second) if isinstance(second, PairScene) else (second, first)
    assert [r.metadata["kind"] for r in ask_stage(single, ("sum", "color"))] == ["sum", "color"]
    assert [r.metadata["kind"] for r in ask_stage(pair, ("sum", "color"))] == ["locate"]
