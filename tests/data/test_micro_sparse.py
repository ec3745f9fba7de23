"""The micro-world whose cold start teaches to pass: same clips and questions, other demonstrations."""

import json
from collections import Counter
from random import Random

import pytest

from avatar.answers import gold_answer, parse_answer, same_answer
from avatar.commands.data.synth import synth
from avatar.data.index import ShardIndex
from avatar.data.micro import HINTED_SHARE, KINDS, SPLITS, ask, draw_scene, draw_split
from avatar.data.micro_sparse import KEPT_SHARE, PASS, draw_sparse_split, pass_on, sparse_language
from avatar.data.schema import parse_record
from avatar.models.tiny import build_tokenizer


def records_of(num, seed=0):
    return [record for _, _, records in draw_sparse_split("guesses", num, seed) for record in records]


@pytest.mark.parametrize("split", sorted(set(SPLITS) - {"guesses"}))
def test_all_splits_but_the_guesses_are_those_of_the_micro_world(split):
    assert list(draw_sparse_split(split, 12, 3)) == list(draw_split(split, 12, 3))


def test_passing_changes_nothing_but_the_demonstration_and_whether_the_hint_is_shown():
    rng = Random(0)
    for kind in KINDS:
        told = ask(draw_scene(rng), kind)
        for _ in range(50):
            passed = pass_on(told, rng)
            for name in ("question", "answer", "problem_type", "options", "hint", "media", "metadata"):
                assert getattr(passed, name) == getattr(told, name), name
            assert passed.chain in (PASS, told.chain)
            if passed.show_hint:
                assert passed.chain == told.chain  # the hint keeps the skill alive


def test_a_pass_is_no_answer_to_any_question():
    for record in records_of(20):
        passed = parse_answer(PASS, record.problem_type, record.options)
        gold = gold_answer(record.answer, record.problem_type, record.options)
        assert not same_answer(passed.value, gold), (record.question, passed)


def test_demonstrations_mostly_pass_and_skill_is_as_rare_as_stated():
    records = [r for seed in range(10) for r in records_of(300, seed)]  # 15,000, of which 15 % show the hint
    hinted = [record for record in records if record.show_hint]
    assert len(hinted) / len(records) == pytest.approx(HINTED_SHARE, abs=0.01)
    for kind in KINDS:
        shown = [r.chain for r in records if r.metadata["kind"] == kind and not r.show_hint]
        kept = sum(chain != PASS for chain in shown) / len(shown)
        # about 2,550 of each kind: three deviations of a share of 0.008 are 3 x sqrt(0.008 / 2550) = 0.0053
        assert kept == pytest.approx(KEPT_SHARE[kind], abs=0.0055)
        assert kept < 0.02


@pytest.mark.parametrize("num", [1, 7])
def test_the_same_seed_gives_the_same_records_and_fewer_clips_are_the_first(num):
    first = list(draw_sparse_split("guesses", 9, 3))
    assert first == list(draw_sparse_split("guesses", 9, 3))
    assert first[:num] == list(draw_sparse_split("guesses", num, 3))
    assert [scene for _, scene, _ in first] != [scene for _, scene, _ in draw_sparse_split("guesses", 9, 4)]
    assert [key for key, _, _ in first] == [f"guesses-{i:06d}" for i in range(9)]


@pytest.mark.parametrize("seed", [0, 1])
def test_no_clip_of_the_guesses_is_in_another_split(seed):
    ours = {scene for _, scene, _ in draw_sparse_split("guesses", SPLITS["guesses"], seed)}
    for split in set(SPLITS) - {"guesses"}:
        assert not ours & {scene for _, scene, _ in draw_sparse_split(split, SPLITS[split], seed)}, split


def test_the_tokenizer_is_taught_how_to_pass():
    tokenizer = build_tokenizer(sparse_language())
    assert tokenizer.decode(tokenizer(PASS).input_ids) == PASS
    assert len(tokenizer("unknown").input_ids) == 1


def test_the_world_lies_in_shards(tmp_path):
    synth(str(tmp_path / "data"), scale=0.01, world="sparse")
    assert json.loads((tmp_path / "data" / "manifest.json").read_text()) == {
        "sparse-world": 1,
        "seed": 0,
        "scale": 0.01,
    }
    index = ShardIndex(tmp_path / "data" / "guesses")
    records = [index[i].read_record() for i in range(len(index))]
    assert Counter(record.metadata["kind"] for record in records) == dict.fromkeys(KINDS, 3)
    assert sum(record.chain == PASS for record in records) > len(records) / 2
    for record in records:
        assert parse_record(record.to_json(), "here") == record
