"""The judge against a real server: `transformers serve` with a tiny vision-language model, taught its verdicts."""

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tests_vlm import serve_vlm, write_vlm

from avatar.chat import ChatClient
from avatar.cli import main
from avatar.errors import AvatarError, ConfigError
from avatar.rewards import Judge
from avatar.rewards.judging.request import CRITERIA, judge_messages, media_parts
from avatar.types import Clip, Completion, Prompt

pytestmark = pytest.mark.slow
NUM_FRAMES = 4
HIGH, LOW, BLIND = (0.9, 1.0, 0.9, 0.8), (0.2, 0.1, 0.0, 0.3), (0.9, 0.0, 0.9, 0.8)


def written(answer, reasoning="I look around and listen."):
    text = f"<think>{reasoning}</think><answer>{answer}</answer>"
    return Completion(torch.tensor([1]), torch.zeros(1), text, True)


def painted(name, red, green, blue):
    """A clip of one colour with a sound, and what is asked about it."""
    frames = torch.tensor([red, green, blue], dtype=torch.uint8)[None, :, None, None].expand(8, 3, 56, 56).contiguous()
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Who rings the bell?"}]}]
    clip = Clip(name, frames, 8.0, torch.zeros(8000))
    return Prompt(name, messages, (clip,), "left: cyclist", audio_caption="A bell rings on the left.")


@pytest.fixture(scope="module")
def cases(prompts):
    """(prompt, completion, its four scores): two real clips, a right and a wrong answer each, and two painted ones."""
    real = [replace(p, audio_caption="Short beeps.") for p in prompts[:2]]
    right = [(p, written(p.answer), HIGH) for p in real]
    wrong = {"choice": lambda p: next(o for o in p.options if o != p.answer), "number": lambda p: int(p.answer) + 1}
    pairs = [*right, *((p, written(wrong[p.problem_type](p)), LOW) for p in real)]
    # One completion, two pictures: the red one has the cyclist, in the blue one there is none.
    seen = [(painted("red", 200, 0, 0), HIGH), (painted("blue", 0, 0, 200), BLIND)]
    return [*pairs, *((p, written("Left: cyclist"), scores) for p, scores in seen)]


@pytest.fixture(scope="module")
def folder(cases, tmp_path_factory):
    """The model, taught to answer the very requests that the judge sends."""
    pairs = []
    for prompt, completion, scores in cases:
        messages = judge_messages(prompt, completion.text, media_parts(prompt, NUM_FRAMES, 512))
        pairs.append((messages, json.dumps(dict(zip(CRITERIA, scores, strict=True)))))
    return write_vlm(tmp_path_factory.mktemp("vlm"), pairs)


@pytest.fixture(scope="module")
def server(folder):
    with serve_vlm(folder) as served:
        yield served


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def judge_of(server, cache=None, **kwargs):
    client = ChatClient(
        server.endpoint, server.model, cache=cache and str(cache), attempts=2, backoff=0.1, max_tokens=64
    )
    return Judge(client, num_frames=NUM_FRAMES, **kwargs)


def ask(judge, cases):
    prompts, completions, _ = zip(*cases, strict=True)
    return judge(list(prompts), list(completions), torch.arange(len(cases)))


@pytest.fixture(scope="module")
def verdicts(server, cases, cache):
    """What the live server says, kept in the cache."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*response_format.*")
        return ask(judge_of(server, cache), cases)


def test_right_answers_score_higher_than_wrong_ones_and_each_verdict_is_the_models(verdicts, cases):
    assert verdicts.valid.all()
    assert verdicts.rewards.tolist() == pytest.approx([sum(scores) / 4 for _, _, scores in cases])
    assert min(verdicts.rewards[:2]) == pytest.approx(0.9)  # (0.9 + 1.0 + 0.9 + 0.8) / 4
    assert max(verdicts.rewards[2:4]) == pytest.approx(0.15)  # (0.2 + 0.1 + 0.0 + 0.3) / 4
    for k, name in enumerate(CRITERIA):
        assert verdicts.parts[name].tolist() == pytest.approx([scores[k] for _, _, scores in cases])


def test_the_judge_sees_the_picture(verdicts):
    """The last two requests differ in nothing but their frames."""
    assert verdicts.parts["visual_identification"][-2:].tolist() == [1.0, 0.0]
    assert verdicts.parts["audio_grounding"][-2:].tolist() == pytest.approx([0.9, 0.9])


def test_a_second_run_reaches_no_server(verdicts, server, cases, cache):
    before = server.num_requests
    assert before == len(cases)
    judge = judge_of(server, cache)
    again = ask(judge, cases)
    assert server.num_requests == before
    assert torch.equal(again.rewards, verdicts.rewards)
    assert judge.counts == {"asked": len(cases), "cached": len(cases), "failed": 0, "refused": 0}


def test_check_finds_the_model_and_says_what_is_served_instead(server, cases):
    judge_of(server).check(cases[0][0])
    with pytest.raises(ConfigError, match="tiny/judge"):
        Judge(ChatClient(server.endpoint, "tiny/other", attempts=1)).check(cases[0][0])


def test_a_run_trains_on_what_the_judge_says(server, micro, tmp_path, monkeypatch):
    """A short cold start, so that the policy keeps to the format, then two steps with format and judge."""
    monkeypatch.chdir(tmp_path)
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003}}
    assert fit("sft", "SFTModule", micro / "chains", 60, 8, policy=policy(micro / "model"), optimizer=optimizer) == 0
    client = {"endpoint": server.endpoint, "model": server.model, "cache": "verdicts", "max_tokens": 64}
    judge = {"client": client, "weight": 0.5, "num_frames": NUM_FRAMES, "need_caption": False}
    rewards = [{"class_path": "Format", "init_args": {"weight": 0.5}}, {"class_path": "Judge", "init_args": judge}]
    before = server.num_requests
    rl = {"rewards": rewards, "num_generations": 6, "max_new_tokens": 32, "objective": {"beta": 0.0}}
    assert fit("rl", "RLModule", micro / "train", 2, 2, policy=policy("sft/model"), **rl) == 0

    lines = [json.loads(line) for line in Path("rl/completions.jsonl").read_text().splitlines()]
    asked = {(line["prompt"], line["completion"]) for line in lines if line["reward/judge/refused"] == 0}
    assert asked, "the policy wrote nothing that could be judged"
    # Once each at most (what differs in blanks alone is one request), and again where a verdict was none.
    assert 0 < server.num_requests - before <= 2 * len(asked)
    for line in lines:
        if line["reward/judge"] is not None:
            parts = [line[f"reward/judge/{name}"] for name in CRITERIA]
            assert line["reward/judge"] == pytest.approx(sum(parts) / 4, abs=1e-6)
            assert line["reward"] == pytest.approx(0.5 * line["reward/format"] + 0.5 * line["reward/judge"], abs=1e-6)
    assert any(line["reward/judge"] for line in lines)
    rows = list(csv.DictReader(Path("rl/metrics.csv").read_text().splitlines()))
    assert any(float(row["reward/judge"] or 0) > 0 for row in rows)
    assert any(float(row["grad_norm"] or 0) > 0 for row in rows)


def policy(path):
    return {"class_path": "Policy", "init_args": {"path": str(path), "dtype": "float32"}}


def fit(name, module, train, steps, batch_size, **model):
    data = {"train": str(train), "val": str(train), "batch_size": batch_size, "letter_options": False, "num_workers": 1}
    data |= {"min_pixels": 784, "max_pixels": 3136}  # frames as they are, as the judge was taught
    trainer = {"accelerator": "cpu", "max_steps": steps, "limit_val_batches": 0, "default_root_dir": name}
    whole = {
        "seed_everything": 0,
        "trainer": {**trainer, "log_every_n_steps": 1},
        "model": {"class_path": module, "init_args": model},
        "data": {"class_path": "ShardData", "init_args": data},
    }
    Path(f"{name}.yaml").write_text(yaml.safe_dump(whole))
    return main(["fit", "--config", f"{name}.yaml"])


# -- and with the server killed ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(server, verdicts):
    server.stop()
    return server


def test_what_was_judged_before_is_known_without_a_server(killed, verdicts, cases, cache):
    judge = judge_of(killed, cache, on_failure="stop")
    again = ask(judge, cases)
    assert torch.equal(again.rewards, verdicts.rewards)
    assert judge.counts["cached"] == len(cases)


def test_skip_leaves_out_only_what_is_new(killed, cases, cache):
    prompt = cases[0][0]
    scored = ask(judge_of(killed, cache), [cases[0], (prompt, written(prompt.answer, "I look again."), HIGH)])
    assert scored.valid.tolist() == [True, False]
    with pytest.warns(UserWarning, match=r"no verdict on 6 of 6 completions \(6 down\)"):
        assert not ask(judge_of(killed), cases).valid.any()


def test_zero_counts_zero_and_says_so(killed, cases):
    with pytest.warns(UserWarning, match="count as 0"):
        scored = ask(judge_of(killed, on_failure="zero"), cases)
    assert scored.valid.all()
    assert not scored.rewards.any()


def test_stop_ends_the_run(killed, cases):
    with pytest.raises(AvatarError, match=rf"'tiny/judge' at {killed.endpoint} gave no verdict .*6 down"):
        ask(judge_of(killed, on_failure="stop"), cases)


def test_a_run_does_not_begin_without_its_judge(killed, cases):
    with pytest.raises(ConfigError, match=killed.endpoint):
        judge_of(killed).check(cases[0][0])
