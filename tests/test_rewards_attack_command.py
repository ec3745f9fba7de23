import io
import json
import os

import pytest
from rich.console import Console

from avatar import cli
from avatar.commands.rewards.attack_tables import columns_of, pages, print_trial
from avatar.commands.rewards.config import read_mix
from avatar.errors import ConfigError
from avatar.rewards import Accuracy, Format, SelfConsistency
from avatar.rewards.attacks.items import make_items
from avatar.rewards.attacks.trials import hold_trial

MIX = "rewards:\n  - {class_path: Format, init_args: {weight: 0.5}}\n  - {class_path: Accuracy}\n"


# -- the mix -----------------------------------------------------------------------------------------------------------


def test_the_mix_of_a_training_config_is_that_which_it_trains_with():
    path = os.path.join(os.path.dirname(__file__), "..", "configs", "micro", "grpo.yaml")
    assert [(reward.name, reward.weight) for reward in read_mix(path)] == [("format", 0.5), ("accuracy", 1.0)]


def test_without_a_config_all_rewards_that_need_no_server_are_taken():
    assert [reward.name for reward in read_mix(None)] == ["accuracy", "format", "selfconsistency"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rewards: [{class_path: Acuracy}]", "unknown reward 'Acuracy'. Did you mean 'Accuracy'?"),
        (
            "rewards: [{class_path: Accuracy, init_args: {wieght: 1}}]",
            "unknown argument 'wieght'.* Did you mean 'weight'?",
        ),
        (
            "rewards: [{class_path: Accuracy, init_args: {number: x}}]",
            "rewards.number: expected 'release' or 'paper', got 'x'",
        ),
        ("rewards: [{class_path: Format}, {class_path: Format}]", "two rewards are called 'format'"),
        ("rewards: [{class_path: Judge}]", "rewards.client is missing"),
        ("rewards: []", "rewards is empty"),
        ("model: {}", "there are no rewards: neither a list `rewards` at its top"),
        ("[1, 2]", "there are no rewards"),
        ("rewards: {", "it is no YAML"),
        ('rewards: !!python/object/apply:os.system ["true"]', "it is no YAML .*could not determine a constructor"),
    ],
)
def test_a_mix_that_is_wrong_is_explained_with_the_name_of_its_file(text, message, tmp_path):
    path = tmp_path / "mix.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"mix.yaml: {message}"):
        read_mix(str(path))


# -- attack ------------------------------------------------------------------------------------------------------------


def attack(tmp_path, mix, *args):
    (tmp_path / "mix.yaml").write_text(mix)
    figures = tmp_path / "figures.json"
    code = cli.main(["rewards", "attack", "--config", str(tmp_path / "mix.yaml"), "--json", str(figures), *args])
    return code, json.loads(figures.read_text()) if figures.exists() else None


@pytest.mark.parametrize("width", ["80", "120"])
def test_a_mix_that_stands_ends_with_0_and_fits_the_screen(width, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    code, figures = attack(
        tmp_path, "rewards: [{class_path: Format}, {class_path: SelfConsistency}]", "--quick", "true"
    )
    assert code == 0
    assert (figures["wins"], figures["blind"]) == ([], [])
    shown = capsys.readouterr().out
    assert "attacks earns more than an honest wrong answer." in shown
    assert "empty answer" in shown
    assert max(map(len, shown.splitlines())) <= int(width)


@pytest.mark.parametrize(
    ("name", "cheat"), [("GoldSomewhere", "gold in the reasoning"), ("FirstTag", "right tag first")]
)
def test_a_reward_that_can_be_cheated_ends_with_1_and_names_the_attack(name, cheat, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    code, figures = attack(tmp_path, f"rewards: [{{class_path: tests_bad_rewards.{name}}}]", "--quick", "true")
    assert code == 1
    assert cheat in {win["attack"] for win in figures["wins"]}
    shown = capsys.readouterr().out
    assert f"{cheat}\n  {name.lower()}: number 1.00 (0.00 allowed)" in shown


def test_a_reward_that_pays_any_text_ends_with_1(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    code, figures = attack(tmp_path, "rewards: [{class_path: tests_bad_rewards.NonEmpty}]", "--quick", "true")
    assert code == 1
    assert figures["blind"] == ["nonempty"]
    assert "nonempty pays a right answer no more than a wrong one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--margin", "1.5"], "--margin must be from 0 to less than 1, got 1.5"),
        (["--judge", "obedient"], "there is no Judge among the rewards"),
        (["--json", "no/folder/x.json"], "there is no folder no/folder"),
    ],
)
def test_an_attack_that_cannot_be_made_is_said_first(args, message, tmp_path, capsys):
    (tmp_path / "mix.yaml").write_text(MIX)
    assert cli.main(["rewards", "attack", "--config", str(tmp_path / "mix.yaml"), *args]) == 2
    assert message in capsys.readouterr().err


def test_a_judge_that_cannot_be_reached_is_told_with_the_way_out(tmp_path, capsys):
    client = "{endpoint: 'http://127.0.0.1:9/v1', model: m, attempts: 1}"
    mix = f"rewards: [{{class_path: Judge, init_args: {{client: {client}}}}}]"
    assert attack(tmp_path, mix)[0] == 2
    assert "Without a server: --judge obedient" in capsys.readouterr().err


def test_a_reward_has_a_column_for_each_type_only_where_the_type_makes_a_difference():
    trial = hold_trial([Format(), Accuracy(number="paper")], make_items(), attacks=[])
    titles = [(column.reward, column.title) for column in columns_of(trial)]
    assert titles[0] == ("format", "any")
    assert [title for reward, title in titles if reward == "accuracy"] == trial.types


def test_no_column_is_lost_on_a_narrow_screen():
    mix = [Format(), Accuracy(number="paper"), SelfConsistency()]
    trial = hold_trial(mix, make_items(), attacks=[])
    columns = columns_of(trial)
    for width in (40, 80, 120, 200):
        assert [column for page in pages(columns, width) for column in page] == columns
        console = Console(width=max(width, 40), record=True, file=io.StringIO())
        print_trial(console, trial, ["a note"])
        assert "a note" in console.export_text()
