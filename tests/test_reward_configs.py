"""Rewards as written in YAML and on the command line: sums in sums, a user's own class, and what is misspelt."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from tests_rewards import Mine

from avatar.cli import main
from avatar.commands.train import AvatarCLI
from avatar.rewards import leaves_of

STAGE_2 = [
    {"class_path": "Format", "init_args": {"weight": 0.2, "penalty": -1.0}},
    {
        "class_path": "Weighted",
        "init_args": {
            "weight": 0.4,
            "rewards": [
                {"class_path": "Accuracy", "init_args": {"number": "paper"}},
                {"class_path": "Weighted", "init_args": {"rewards": [{"class_path": "SelfConsistency"}]}},
                {"class_path": "Accuracy", "init_args": {"weight": 0.0, "label": "release"}},
            ],
        },
    },
    {"class_path": "tests_rewards.Mine", "init_args": {"limit": 8, "weight": 0.5}},
]


@pytest.fixture
def config(micro, tmp_path, monkeypatch):
    """Writes a config of these rewards, its text changed on the way."""
    monkeypatch.chdir(tmp_path)

    def write(rewards=STAGE_2, old="", new=""):
        policy = {"class_path": "Policy", "init_args": {"path": str(micro / "model"), "dtype": "float32"}}
        model = {"policy": policy, "rewards": rewards, "num_generations": 3, "max_new_tokens": 8}
        data = {"train": str(micro / "train"), "val": str(micro / "dev"), "batch_size": 2, "letter_options": False}
        whole = {
            "trainer": {"accelerator": "cpu", "max_steps": 1, "limit_val_batches": 0, "default_root_dir": "run"},
            "model": {"class_path": "RLModule", "init_args": model},
            "data": {"class_path": "ShardData", "init_args": data},
        }
        text = yaml.safe_dump(whole)
        assert old in text
        Path("config.yaml").write_text(text.replace(old, new) if old else text)
        return "config.yaml"

    return write


@pytest.fixture
def parsed(config, monkeypatch):
    """The leaves of the rewards that a command line comes to, by weight and name."""
    monkeypatch.setattr(AvatarCLI, "_run_subcommand", lambda self, subcommand: None)

    def leaves(*more):
        model = AvatarCLI(["fit", "--config", config(), *more]).model
        return leaves_of(model.rewards)

    return leaves


def test_sums_in_sums_are_read_by_short_names_and_a_class_of_ones_own_by_its_path(parsed):
    leaves = parsed()
    assert [(w, r.name) for w, r in leaves] == [
        (0.2, "format"), (0.4, "accuracy"), (0.4, "selfconsistency"), (0.0, "release"), (0.5, "mine"),
    ]  # fmt: skip
    assert (leaves[0][1].penalty, leaves[1][1].number, leaves[3][1].number) == (-1.0, "paper", "release")
    assert isinstance(leaves[4][1], Mine)
    assert leaves[4][1].limit == 8


def test_one_more_reward_is_added_on_the_command_line(parsed):
    more = ["--model.rewards+=SelfConsistency", "--model.rewards.min_votes=3", "--model.rewards.label=strict"]
    *_, (weight, added) = parsed(*more)
    assert (weight, added.name, added.min_votes) == (1.0, "strict", 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("number: paper", "numbr: paper", "unknown argument 'numbr'. Did you mean 'number'?"),
        ("number: paper", "number: dense", "expected 'release' or 'paper', got 'dense'"),
        ("number: paper", "tolerance: -1", "Accuracy.tolerance must be 0 or more, got -1"),
        ("limit: 8", "limits: 8", "unknown argument 'limits'"),
        ("label: release", "label: a/b", "label of a reward must be small letters, digits, '_' and '-', got 'a/b'"),
        ("label: release", "number: paper", "two rewards are called 'accuracy'"),
        ("SelfConsistency", "SelfConsistancy", "unknown reward 'SelfConsistancy'. Did you mean 'SelfConsistency'?"),
        ("tests_rewards.Mine", "tests_rewards.Yours", "module 'tests_rewards' has no attribute 'Yours'. Is its folder"),
        (
            "tests_rewards.Mine",
            "no_such.Acuracy",
            "named 'no_such'. Did you mean 'Accuracy'? Is its folder on PYTHONPATH",
        ),
        ("tests_rewards.Mine", "torch.optim.AdamW", "'torch.optim.AdamW': it is there, but it is no Reward"),
    ],
)
def test_what_is_misspelt_deep_inside_is_told_in_a_line(config, capsys, old, new, message):
    assert main(["fit", "--config", config(old=old, new=new)]) == 2
    assert message in capsys.readouterr().err


def test_every_part_is_logged_and_stored_and_none_where_it_was_not_given(config):
    assert main(["fit", "--config", config()]) == 0
    text = Path("run/completions.jsonl").read_text()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.split("\n")[:-1]]
    assert len(lines) == 6  # two prompts, three completions each
    names = ("format", "accuracy", "selfconsistency", "release", "mine", "mine/length")
    assert [k for k in lines[0] if k.startswith("reward")] == [*(f"reward/{name}" for name in names), "reward"]
    assert [line["reward/mine"] is None for line in lines] == [True] + [False] * 5
    assert [line["reward/mine/length"] for line in lines] == [None, *(float(line["length"]) for line in lines[1:])]
    for line in lines:
        parts = [line[f"reward/{name}"] or 0.0 for name in ("format", "accuracy", "selfconsistency", "mine")]
        wanted = 0.2 * parts[0] + 0.4 * parts[1] + 0.4 * parts[2] + 0.5 * parts[3]
        assert line["reward"] == pytest.approx(wanted, abs=1e-5)
        assert (line["problem_type"] == "choice") == bool(line["options"])
        assert line["question"].endswith("?") or line["options"]
    with Path("run/metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    means = {name: [v for line in lines if (v := line[f"reward/{name}"]) is not None] for name in names}
    for name, values in means.items():
        assert float(row[f"reward/{name}"]) == pytest.approx(sum(values) / len(values), abs=1e-4)
    assert float(row["reward/invalid_share"]) == pytest.approx(1 / 6, abs=1e-4)
