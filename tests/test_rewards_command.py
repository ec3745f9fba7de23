import json
import math
import os

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar import cli
from avatar.commands.rewards.figures import distribution, percentiles, rank_correlation, zero_spread
from avatar.commands.rewards.score_tables import bars, middle_cut

MIX = "rewards:\n  - {class_path: Format, init_args: {weight: 0.5}}\n  - {class_path: Accuracy}\n"


def row(text, prompt="p", gold="4", step=1, **more):
    return {"step": step, "prompt": prompt, "gold": gold, "problem_type": "number", "completion": text, **more}


def good(answer):
    return f"<think>so</think><answer>{answer}</answer>"


def write(path, rows):
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def run(tmp_path, rows, *args, mix=MIX):
    (tmp_path / "mix.yaml").write_text(mix)
    source = write(tmp_path / "completions.jsonl", rows)
    figures, config = tmp_path / "figures.json", str(tmp_path / "mix.yaml")
    code = cli.main(["rewards", "score", source, "--config", config, "--json", str(figures), *args])
    return code, json.loads(figures.read_text()) if figures.exists() else None


ROWS = [
    row(good(4), **{"reward/format": 1.0, "reward/accuracy": 1.0, "reward": 1.5}),
    row(good(5), **{"reward/format": 1.0, "reward/accuracy": 0.0, "reward": 0.5}),
    row("4", **{"reward/format": 1.0, "reward/accuracy": 1.0, "reward": 1.5}),  # written by a mix that took this
    row("no idea", **{"reward/format": 0.0, "reward/accuracy": 0.0, "reward": 0.0}),
    row(good(7), "q", "7"),
    row(good(7), "q", "7"),
]  # format 1 1 0 0 1 1, accuracy 1 0 1 0 1 1, reward 1.5 0.5 1 0 1.5 1.5


# -- score: the figures ------------------------------------------------------------------------------------------------


def test_the_distribution_of_each_reward_is_that_computed_by_hand(tmp_path):
    code, figures = run(tmp_path, ROWS)
    assert code == 0
    assert (figures["completions"], figures["groups"], figures["mix"]) == (6, 2, "0.5 format + 1 accuracy")
    total = figures["rewards"]["reward"]
    # 0 0.5 1 1.5 1.5 1.5: sum 6; squares of the deviations 1 + 0.25 + 0 + 3 * 0.25 = 2, over 5
    assert [total[key] for key in ("valid", "mean", "min", "median", "max")] == [6, 1.0, 0.0, 1.25, 1.5]
    assert total["sd"] == pytest.approx(math.sqrt(2 / 5))
    assert (total["q25"], total["q75"]) == (0.625, 1.5)  # 1.25 and 3.75 steps along the sorted values
    assert (total["share_0"], total["share_1"]) == (pytest.approx(1 / 6), pytest.approx(1 / 6))
    # eight bins of 0.1875: 0 in the first, 0.5 in the third, 1 in the sixth, 1.5 in the last
    assert total["histogram"] == {"low": 0.0, "high": 1.5, "counts": [1, 0, 1, 0, 0, 1, 0, 3]}
    assert figures["rewards"]["accuracy"]["mean"] == pytest.approx(4 / 6)


def test_a_group_whose_rewards_are_all_equal_teaches_nothing(tmp_path):
    _, figures = run(tmp_path, ROWS)
    assert figures["zero_spread_groups"] == 1  # q: 1.5 and 1.5


def test_two_rewards_disagree_where_one_is_high_and_the_other_low(tmp_path):
    _, figures = run(tmp_path, ROWS)
    (pair,) = figures["pairs"]
    # Both have four ones and two zeros, so ranks are 4.5 and 1.5: one completion has format alone, one accuracy alone.
    # phi = (both 3 * neither 1 - 1 * 1) / sqrt(4 * 2 * 4 * 2) = 2 / 8
    assert pair["rank_correlation"] == pytest.approx(0.25)
    assert (pair["one_high_other_low"], pair["one_low_other_high"]) == (1, 1)


def test_what_the_file_held_is_compared_with_what_is_given_now(tmp_path):
    _, figures = run(tmp_path, ROWS)
    changes = {change["reward"]: change for change in figures["stored"]}
    assert {name: (c["stored"], c["changed"]) for name, c in changes.items()} == {
        "reward": (4, 1),
        "format": (4, 1),
        "accuracy": (4, 0),
    }
    assert (changes["reward"]["before"], changes["reward"]["now"], changes["reward"]["case"]["line"]) == (1.5, 1.0, 3)


def test_the_worst_cases_are_what_is_paid_wrongly_and_what_is_not_paid_though_right(tmp_path):
    _, figures = run(tmp_path, ROWS, "--num", "2")
    lines = {name: [case["line"] for case in cases] for name, cases in figures["worst"].items()}
    assert lines["highest reward with accuracy 0"] == [2, 4]  # 0.5, then 0
    assert lines["lowest reward with accuracy 1"] == [3, 1]  # 1, then 1.5; lines 5 and 6 come later and are the same
    assert lines["rewards most at odds"] == [2, 3]  # 4.5 against 1.5 of 6 ranks, a gap of a half: at the border


def test_completions_are_grouped_by_step_prompt_and_hint(tmp_path):
    mix = "rewards: [{class_path: SelfConsistency}]"
    rows = [row(good(1)), row(good(1)), row(good(2), hinted=True), row(good(1), step=2), row(good(2), step=2)]
    _, figures = run(tmp_path, rows, "--out", str(tmp_path / "out.jsonl"), mix=mix)
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["reward"] for r in scored] == [1, 1, 0, 0, 0]  # two agree; one alone; two that differ
    assert figures["groups"] == 3
    for r in rows:
        del r["step"]
    _, figures = run(tmp_path, rows, "--out", str(tmp_path / "out.jsonl"), mix=mix)
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["reward"] for r in scored] == [1, 1, 0, 1, 0]  # without a step 1, 1, 1, 2 are a group
    assert figures["groups"] == 2


def test_groups_that_lie_apart_in_a_long_file_are_scored_whole(tmp_path):
    mix = "rewards: [{class_path: SelfConsistency}]"
    rows = [row(good(i % 2 if lap else 1), f"p{i}") for lap in range(3) for i in range(400)]
    for r in rows:
        del r["step"]
    _, figures = run(tmp_path, rows, mix=mix)
    # p0, p2 ...: 1, 0, 0, two are paid; p1, p3 ...: all say 1. Batches of 256 would cut groups of three apart.
    assert figures["rewards"]["selfconsistency"]["mean"] == pytest.approx((2 / 3 + 1) / 2)
    assert (figures["groups"], figures["zero_spread_groups"]) == (400, 200)


def test_what_was_cut_off_at_the_length_limit_is_not_well_formed(tmp_path):
    _, figures = run(tmp_path, [row(good(4), finished=False), row(good(4), finished=True), row(good(4))])
    assert figures["rewards"]["format"]["mean"] == pytest.approx(2 / 3)


def test_a_reward_that_is_not_valid_is_left_out_and_written_as_null(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    mix = "rewards: [{class_path: tests_bad_rewards.Strict}]"
    twice = row(good(5) + "<answer>4</answer>")
    _, figures = run(tmp_path, [row(good(4)), row(good(5)), twice], "--out", str(tmp_path / "out.jsonl"), mix=mix)
    assert figures["rewards"]["reward"]["valid"] == 2
    assert figures["rewards"]["reward"]["mean"] == 0.5
    last = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[-1])
    assert (last["reward"], last["reward/strict"]) == (None, None)


# -- score: bad lines, lost lines --------------------------------------------------------------------------------------


def test_bad_lines_are_named_by_number_and_nothing_else_is_lost(tmp_path, capsys):
    rows = [
        row(good(4)),
        "{broken",
        "",
        json.dumps([1]),
        {**row(good(4)), "gold": None},
        {**row(good(4)), "step": "3"},
        row(good(4), gold="many"),
        row(good(9), gold="9"),
        row(good(4), length=10**15),
        {**row(good(4)), "mine": "kept", "reward/old": 1.0, "advantage": 2.0},
    ]
    code, figures = run(tmp_path, rows, "--out", str(tmp_path / "out.jsonl"))
    assert code == 1
    said, shown = {bad["line"]: bad["reason"] for bad in figures["bad_lines"]}, capsys.readouterr().err
    assert list(said) == [2, 4, 5, 6, 7, 8, 9]
    for number, part in {
        2: "it is not JSON",
        4: "must be a JSON object, got list",
        5: "'gold' is missing or no text, got None",
        6: "'step' must be int, got '3'",
        7: "gold answer 'many' is no number answer",
        8: "others than in line 1 of the same group",
        9: "'length' must be from 0 to 10000000 tokens",
    }.items():
        assert part in said[number]
        assert f"line {number}: " in shown
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert len(lines) == 10
    assert lines[1] == "{broken"
    assert lines[2] == ""
    last = json.loads(lines[9])
    assert (last["mine"], last["advantage"], last["reward"], "reward/old" in last) == ("kept", 2.0, 1.5, False)


def test_a_file_of_which_nothing_can_be_scored_says_why_and_what_to_do(tmp_path, capsys):
    old = row(good(4))
    del old["problem_type"]
    assert run(tmp_path, [old, old]) == (2, None)
    said = capsys.readouterr().err
    assert "line 1: prompt 'p' has no 'problem_type'" in said
    assert "give --data FOLDER" in said


def test_half_of_an_emoji_and_a_hostile_text_are_shown_and_written(tmp_path, capsys):
    texts = [good("\ud83d"), "\x1b[2J[bold]" + good("[/red]"), good("\u202e4")]
    rows = [{**row(text), "problem_type": "exact"} for text in texts]
    code, _ = run(tmp_path, rows, "--out", str(tmp_path / "out.jsonl"))
    assert code == 0
    assert [json.loads(line)["completion"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == texts
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert "[bold]" in shown


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["no/such.jsonl"], "no/such.jsonl: there is no such file"),
        (["FILE", "--config", "no/such.yaml"], "no/such.yaml: it cannot be read"),
        (["FILE", "--out", "FILE"], "is the file that is read; give another name"),
        (["FILE", "--out", "no/folder/out.jsonl"], "there is no folder no/folder"),
        (["FILE", "--json", "no/folder/figures.json"], "there is no folder no/folder"),
        (["FILE", "--num", "-1"], "--num must be 0 or more, got -1"),
        (["FILE", "--data", "no/folder"], "no/folder"),
    ],
)
def test_what_cannot_be_done_is_said_first(args, message, tmp_path, capsys):
    source = write(tmp_path / "completions.jsonl", ROWS)
    assert cli.main(["rewards", "score", *(source if arg == "FILE" else arg for arg in args)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ("rewards: [{class_path: Accuracy, weight: 3.0}]", "its arguments stand under init_args"),
        ("rewards: [{class_path: Accuracy}]\nrewards: [{class_path: Format}]", "'rewards' stands there twice"),
        ("rewards: [{class_path: Accuracy}]\nfoo: 3", "unknown 'foo' beside rewards"),
    ],
)
def test_a_mix_that_says_something_else_than_it_does_is_refused(mix, message, tmp_path, capsys):
    (tmp_path / "mix.yaml").write_text(mix + "\n")
    source = write(tmp_path / "completions.jsonl", ROWS)
    assert cli.main(["rewards", "score", source, "--config", str(tmp_path / "mix.yaml")]) == 2
    assert message in capsys.readouterr().err


# -- score: with data --------------------------------------------------------------------------------------------------


def test_the_data_says_what_an_old_file_does_not(micro, prompts, tmp_path):
    prompt = prompts[0]
    old = {"step": 1, "prompt": prompt.key, "gold": prompt.answer, "completion": good(prompt.answer)}
    code, figures = run(
        tmp_path,
        [
            old,
            {**old, "completion": good("none of these")},
            {**old, "prompt": "nobody"},
            {**old, "step": 2, "gold": "?"},
        ],
        "--data",
        str(micro / "dev"),
    )
    assert code == 1
    assert figures["rewards"]["accuracy"]["mean"] == 0.5
    said = [bad["reason"] for bad in figures["bad_lines"]]
    assert "there is no record 'nobody'" in said[0]
    assert f"has the gold answer {prompt.answer!r}" in said[1]


def test_a_judge_needs_the_data_for_its_frames(tmp_path, capsys):
    mix = "rewards: [{class_path: Judge, init_args: {client: {endpoint: 'http://127.0.0.1:9/v1', model: m}}}]"
    assert run(tmp_path, ROWS, mix=mix) == (2, None)
    assert "reward 'judge' looks at the clips: give --data FOLDER" in capsys.readouterr().err


def test_a_judge_sees_the_decoded_frames_of_the_data(micro, prompts, tmp_path):
    from avatar.commands.rewards.obedient import MODEL, obedient_judge

    prompt = prompts[0]
    asked = {"step": 1, "prompt": prompt.key, "gold": prompt.answer, "completion": good(prompt.answer)}
    with obedient_judge() as endpoint:
        client = {"endpoint": endpoint, "model": MODEL, "api_key_env": ""}
        init = {"client": client, "need_caption": False}
        mix = yaml.safe_dump({"rewards": [{"class_path": "Judge", "init_args": init}]})
        code, figures = run(tmp_path, [asked], "--data", str(micro / "dev"), mix=mix)
    assert code == 0
    assert figures["rewards"]["judge"]["mean"] == 1.0
    assert figures["rewards"]["judge/audio_grounding"]["valid"] == 1
    assert figures["worst"]["lowest reward with accuracy 1"][0]["parts"]["accuracy"] == 1.0  # graded beside the mix


def test_the_rewards_of_a_run_are_those_that_its_own_config_gives_offline(micro, tmp_path, monkeypatch):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    run_folder, figures = tmp_path / "run", tmp_path / "figures.json"
    data = ["--data.train", str(micro / "train"), "--data.val", str(micro / "dev"), "--data.batch_size", "2"]
    short = ["--trainer.max_steps", "2", "--trainer.num_sanity_val_steps", "0", "--trainer.limit_val_batches", "0"]
    model = ["--model.policy.path", str(micro / "model"), "--model.num_generations", "3", "--model.max_new_tokens", "8"]
    config = ["--config", f"{root}/configs/micro/grpo.yaml", "--trainer.default_root_dir", str(run_folder)]
    assert cli.main(["fit", *config, *data, *short, *model, "--model.rewards+=SelfConsistency"]) == 0
    written, config = str(run_folder / "completions.jsonl"), str(run_folder / "config.yaml")
    assert cli.main(["rewards", "score", written, "--config", config, "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())
    assert found["mix"] == "0.5 format + 1 accuracy + 1 selfconsistency"
    assert {c["reward"]: (c["stored"], c["changed"]) for c in found["stored"]} == {
        name: (12, 0) for name in ("reward", "format", "accuracy", "selfconsistency")
    }  # two steps of two prompts with three completions each


# -- pure figures ------------------------------------------------------------------------------------------------------

values = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, float("nan")]), min_size=1, max_size=30)


@given(values)
def test_percentiles_average_a_half_and_follow_the_order(given_values):
    array = np.array(given_values)
    places, valid = percentiles(array), ~np.isnan(array)
    assert np.isnan(places[~valid]).all()
    if valid.any():
        assert places[valid].mean() == pytest.approx(0.5)
        assert (np.sign(places[valid][:, None] - places[valid]) == np.sign(array[valid][:, None] - array[valid])).all()


@settings(deadline=None)  # the first call imports
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_the_rank_correlation_is_spearmans(pairs):
    from torchmetrics.functional import spearman_corrcoef

    a, b = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    ours = rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(float(spearman_corrcoef(torch.tensor(a), torch.tensor(b))), abs=1e-4)


@given(values)
def test_a_histogram_counts_every_valid_value_once(given_values):
    figures = distribution(np.array(given_values))
    assert sum(figures.get("histogram", {"counts": []})["counts"]) == figures["valid"]


def test_a_group_of_which_one_is_valid_has_no_spread():
    total, group = np.array([0.0, np.nan, 1.0, 2.0, np.nan]), np.array([5, 5, 7, 7, 9])
    assert zero_spread(total, group) == (2, 3)


def test_what_is_not_empty_is_seen_in_the_bars():
    assert bars([1000, 1, 0, 500]) == "█▁ ▄"


def test_of_a_long_text_the_beginning_and_the_end_are_shown():
    assert middle_cut("a\n  b") == "a b"
    cut = middle_cut("a" * 500 + "<answer>4</answer>")
    assert cut.startswith("aaa")
    assert " ... " in cut
    assert cut.endswith("<answer>4</answer>")
