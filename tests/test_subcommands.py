"""Groups of commands."""

import pytest

from avatar.cli import main
from avatar.commands.subcommands import run_subcommand
from avatar.errors import ConfigError


def show(name: str, times: int = 1) -> int | None:
    """Say a name."""
    print(" ".join([name] * times))  # noqa: T201
    return None if times < 3 else times


@pytest.mark.parametrize(("arguments", "said", "status"), [(["x"], "x", 0), (["x", "--times", "3"], "x x x", 3)])
def test_a_command_gets_its_arguments_and_gives_its_status(arguments, said, status, capsys):
    assert run_subcommand("group", "A group.", {"show": show}, ["group", "show", *arguments]) == status
    assert capsys.readouterr().out.strip() == said


def test_required_arguments_may_be_options():
    assert run_subcommand("group", "A group.", {"show": show}, ["group", "show", "--name=x"], ["show"]) == 0


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown argument --tims\. Did you mean '--times'"):
        run_subcommand("group", "A group.", {"show": show}, ["group", "show", "x", "--tims=2"])


@pytest.mark.parametrize(
    ("command", "nearest"),
    [("rewards attack --quik true", "--quick"), ("hints write d --endpoit x --model m --endpoint y", "--endpoint"),
     ("data inspect d --nums 3", "--num"), ("data synth --scalee 1", "--scale")],
)  # fmt: skip
def test_every_group_does(command, nearest, capsys):
    assert main(command.split()) == 2
    assert f"Did you mean '{nearest}'" in capsys.readouterr().err
