import json

import pytest
from torchmetrics.functional.text import word_error_rate

from avatar.answers import payloads
from avatar.commands.bench import main
from avatar.commands.bench.rewards import draw_texts
from avatar.errors import ConfigError
from avatar.rewards import Accuracy


def test_it_writes_the_figures_that_it_prints(tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert main(["bench", "rewards", "--completions", "40", "--words", "12", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert (figures["completions"], figures["words"], figures["peer_sample"]) == (40, 12, 40)
    assert len(figures["cpu_seconds"]) == 6
    assert all(seconds > 0 for seconds in figures["cpu_seconds"].values())
    printed = capsys.readouterr().out
    for name in figures["cpu_seconds"]:
        assert name in printed


def test_the_texts_it_scores_are_of_the_length_asked_for_and_neither_all_right_nor_all_wrong():
    prompts, completions, group = draw_texts(50, 100)
    assert len(completions) == len(group) == 50
    assert len(prompts) == 7  # 8 completions a prompt
    assert {len(p.answer.split()) for p in prompts} == {100}
    scores = Accuracy()(prompts, completions, group).rewards
    assert 0.3 < scores.min() <= scores.max() < 0.8
    (said,) = payloads(completions[0].text)
    assert 0.3 < word_error_rate(said, prompts[0].answer) < 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--completions", "7"], "--completions must be at least 8, got 7"),
        (["--words", "0"], "--words must be at least 1, got 0"),
        (["--json", "no/such/folder/figures.json"], "there is no folder no/such/folder"),
    ],
)
def test_what_cannot_be_measured_is_said_first(arguments, message):
    with pytest.raises(ConfigError, match=message):
        main(["bench", "rewards", *arguments])
