import json
from types import SimpleNamespace

import pytest
import torch

from avatar.commands.bench import main, step
from avatar.commands.bench.job import Job, clip_size, filler, reward_of, write_job
from avatar.commands.bench.memory import PeakMemory
from avatar.commands.bench.options import StepOptions
from avatar.commands.bench.step import BenchError, Worker, bench_step, check_tokens, ratios, step_table, summary
from avatar.errors import ConfigError
from avatar.models import load_adapter

TINY = {"prompt_tokens": 96, "num_generations": 4, "completion_tokens": 8, "hidden_size": 64, "num_layers": 1}
TINY |= {"steps": 1, "warmup": 1, "device": "cpu", "threads": 1}
FIGURES = ["name", "step_s", "encode_s", "generate_s", "reference_s", "reward_s", "replay_s", "update_s", "step_cpu_s"]
FIGURES += ["memory_over_baseline_mb", "steps"]


def run(folder, **options):
    """The figures that the command writes."""
    given = TINY | options | {"json": folder / "figures.json"}
    assert main(["bench", "step", *(f"--{name}={value}" for name, value in given.items())]) == 0
    return json.loads((folder / "figures.json").read_text())


def test_ours_alone_takes_steps_of_exactly_the_tokens_asked_for(tmp_path, capsys):
    figures = run(tmp_path, peer="none")
    assert {name: figures[name] for name in TINY} == TINY
    assert list(figures["ours"]) == FIGURES
    assert [figures[name] for name in ("peer", "ratio_time", "ratio_cpu", "ratio_memory")] == [None] * 4
    # Half of 96 are 48: a second of sound has 25, 4 open and close the clip, and 16 of the other 19 make a square.
    tokens = {"prompt": 96, "video": 16, "audio": 25, "completion": 8, "fresh": 4, "replayed": 0}
    assert [answer["tokens"] for answer in figures["ours"]["steps"]] == [tokens]
    parts = ("encode_s", "generate_s", "reference_s", "reward_s", "replay_s", "update_s")
    taken = [figures["ours"][part] for part in parts if figures["ours"][part] is not None]
    assert min(taken) > 0
    assert sum(taken) == pytest.approx(figures["ours"]["step_s"])
    assert f"{figures['ours']['step_s']:.3f}" in capsys.readouterr().out


def test_trl_takes_the_same_steps_and_generates_what_ours_replays(tmp_path):
    pytest.importorskip("trl")
    figures = run(tmp_path, peer="trl", replayed=2)
    assert list(figures["peer"]) == list(figures["ours"]) == FIGURES
    assert figures["peer"]["name"].startswith("trl 1.16")
    assert figures["peer"]["steps"][0]["tokens"] == {"prompt": 96, "completion": 8, "fresh": 4}
    tokens = figures["ours"]["steps"][0]["tokens"]
    assert {name: tokens[name] for name in ("prompt", "completion", "fresh", "replayed")} == {
        "prompt": 96,
        "completion": 8,
        "fresh": 2,
        "replayed": 2,
    }
    assert 0 < figures["peer"]["reference_s"] < figures["peer"]["step_s"]
    assert figures["ratio_time"] == pytest.approx(figures["peer"]["step_s"] / figures["ours"]["step_s"])


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return write_job(StepOptions(**TINY), tmp_path_factory.mktemp("model"))


def test_the_head_has_more_entries_than_the_tokenizer_has_tokens(job):
    adapter = load_adapter(job.folder, "float32", "sdpa", 64)
    assert adapter.model.lm_head.weight.shape == (2048, 64)
    assert len(adapter.processor.tokenizer) < 2048


@pytest.mark.parametrize("num", [64, 97, 211])
def test_both_prompts_have_exactly_so_many_tokens(num, tmp_path):
    job = write_job(StepOptions(**TINY | {"prompt_tokens": num}), tmp_path)
    adapter = load_adapter(job.folder, "float32", "sdpa", 64)
    [prefix] = adapter.encode([job.prompt(step=3)])
    assert len(prefix.ids) == num
    counts = {name: int((prefix.ids == i).sum()) for name, i in adapter.media_token_ids.items()}
    assert counts == {**job.media_tokens, "image": 0}
    assert len(adapter.processor.tokenizer(job.text).input_ids) == num
    assert num // 3 < sum(job.media_tokens.values()) <= num // 2


def test_a_job_survives_the_command_line(job):
    assert Job.from_json(job.to_json()) == job


def test_each_step_shows_a_clip_of_its_own_under_the_same_prompt(job):
    first, second, again = job.prompt(0), job.prompt(1), job.prompt(0)
    assert first.key == second.key
    assert first.clips[0].key != second.clips[0].key
    assert not torch.equal(first.clips[0].frames, second.clips[0].frames)
    assert torch.equal(first.clips[0].audio, again.clips[0].audio)


def test_a_clip_takes_at_most_its_share_of_the_prompt():
    for tokens in (32, 48, 256, 1024, 4096):
        seconds, side = clip_size(tokens)
        assert 0 < seconds * (25 + (side // 28) ** 2) + 4 <= tokens


def test_rewards_of_different_completions_differ():
    generator = torch.Generator().manual_seed(0)
    rewards = [reward_of(row) for row in torch.randint(2048, (8, 64), generator=generator).tolist()]
    assert len(set(rewards)) == 8
    assert all(0 <= reward <= 1 for reward in rewards)


# -- figures -----------------------------------------------------------------------------------------------------------


def answer(step_s, memory, **tokens):
    parts = {"step_s": step_s, "step_cpu_s": 2 * step_s, "encode_s": 0.1, "generate_s": 0.5, "update_s": step_s - 0.6}
    return parts | {"reward_s": 0.0, "memory_over_baseline_mb": memory, "tokens": tokens}


def test_medians_leave_the_warm_up_out_and_the_peak_does_not():
    worker = SimpleNamespace(name="avatar", answers=[answer(9, 300), answer(2, 100), answer(1, 100), answer(3, 200)])
    figures = summary(worker, warmup=1)
    assert list(figures) == FIGURES
    assert (figures["step_s"], figures["step_cpu_s"], figures["memory_over_baseline_mb"]) == (2, 4, 300)
    assert figures["reference_s"] is None  # beta 0: there is none
    assert len(figures["steps"]) == 3


def test_ratios_say_how_many_times_as_long_it_takes_and_which_share_of_memory():
    ours = {"step_s": 2.0, "step_cpu_s": 3.0, "memory_over_baseline_mb": 100.0}
    peer = {"step_s": 6.0, "step_cpu_s": 6.0, "memory_over_baseline_mb": 400.0}
    assert ratios(ours, peer) == {"ratio_time": 3.0, "ratio_cpu": 2.0, "ratio_memory": 0.25}
    assert ratios(ours, None) == {"ratio_time": None, "ratio_cpu": None, "ratio_memory": None}


def test_the_line_without_trl_says_how_to_get_it(monkeypatch, capsys):
    ours = summary(SimpleNamespace(name="avatar", answers=[answer(2, 100)]), warmup=0)
    figures = TINY | {"size": "small", "dtype": "float32", "replayed": 0, "media_tokens": {"video": 16, "audio": 25}}
    monkeypatch.setattr("avatar.commands.bench.options.trl_is_installed", lambda: False)
    monkeypatch.setattr(step, "measure_step", lambda options, bar: figures | {"ours": ours, "peer": None})
    bench_step(StepOptions(**TINY))
    printed = capsys.readouterr().out
    assert "pip install 'avatar-rl[bench]'" in printed
    assert "times ours" not in printed


def test_the_table_holds_both_sides_and_leaves_out_what_neither_has():
    sides = [summary(SimpleNamespace(name=n, answers=[answer(s, 100)]), 0) for n, s in (("avatar", 2), ("trl", 5))]
    figures = TINY | {"size": "7b", "dtype": "bfloat16", "replayed": 2, "media_tokens": {"video": 16, "audio": 25}}
    table = step_table(figures | {"ours": sides[0], "peer": sides[1]})
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows[0] == ("one step, s", "2.000", "5.000", "2.50x")
    assert not any("reference" in row[0] for row in rows)
    assert "7B, bfloat16" in table.title
    assert "text of the same length" in table.caption


def test_memory_is_the_most_that_was_held_and_not_what_is_left():
    memory = PeakMemory("cpu")
    with memory:
        held = torch.ones(10_000_000)  # 40 MB
        torch.ones(10_000_000).sum()
        del held
    assert 70 < memory.over_baseline_mb < 120


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_tokens": 63}, "--prompt_tokens must be at least 64, .* got 63"),
        ({"vocab_size": 399}, "--vocab_size must be at least 400, .* got 399"),
        ({"hidden_size": 80}, "--hidden_size must be a multiple of 32 .* got 80"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"completion_tokens": 0}, "--completion_tokens must be at least 1, got 0"),
        ({"beta": float("nan")}, "--beta must be at least 0, got nan"),
        ({"num_generations": 4, "replayed": 3}, "--replayed 3 of --num_generations 4 leaves 1 to generate"),
        ({"num_generations": 4, "replayed": 2, "warmup": 0}, "--warmup 0 must be at least 1"),
        ({"json": "no/such/folder/figures.json"}, "there is no folder no/such/folder"),
    ],
)
def test_what_cannot_be_measured_is_said_first(options, message):
    with pytest.raises(ConfigError, match=message):
        StepOptions(**options)


def test_trl_that_is_asked_for_and_not_there_is_named(monkeypatch):
    monkeypatch.setattr("avatar.commands.bench.options.trl_is_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'avatar-rl\[bench\]'"):
        StepOptions(peer="trl")
    assert not StepOptions(peer="auto").with_peer


def test_a_worker_that_dies_is_shown_with_its_last_words(tmp_path):
    job = Job(StepOptions(**TINY), str(tmp_path / "nowhere"), "", "", 1, 28)
    with pytest.raises(BenchError, match=r"(?s)the worker of ours ended with status 1 after 0 steps:.*no model at"):
        Worker("ours", job).__enter__()


def test_figures_of_other_token_counts_are_refused(job):
    tokens = {"prompt": 96, "completion": 8, "fresh": 4}
    worker = SimpleNamespace(name="trl 1.16.0", answers=[{"tokens": {}}, {"tokens": tokens}])
    check_tokens(worker, job)
    worker.answers.append({"tokens": tokens | {"completion": 7.5}})
    with pytest.raises(BenchError, match=r"should have had .*'completion': 8.* and had .*'completion': 7.5"):
        check_tokens(worker, job)


def test_filler_is_counted_in_tokens_and_not_in_words():
    from avatar.data.micro import language
    from avatar.models.tiny import build_tokenizer

    tokenizer = build_tokenizer(language())
    for num in (0, 1, 500):
        assert len(tokenizer(filler(tokenizer, num)).input_ids) == num
