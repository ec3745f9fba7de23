"""The health panel: what it counts, what it warns of, what it writes and shows, and that it survives a resume."""

import io
import json
import warnings
from bisect import bisect_right
from itertools import pairwise

import pytest
import torch
from rich.console import Console
from tests_replay import KeepSteps, SaveAt, Sometimes, Sum, fit, module_of, run, sgd

from avatar.advantages import AVATAR, Mixed
from avatar.modules.callbacks import ResumeLogs
from avatar.modules.health import ADVANTAGE_EDGES, STALENESS_EDGES, HealthPanel, health_panel, warnings_of
from avatar.replay import Replay
from avatar.rewards import Scored


def lines(folder):
    return [json.loads(line) for line in (folder / "health.jsonl").read_text().splitlines()]


def text_of(report, step=7):
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(health_panel(report, step))
    return console.export_text()


# -- what is counted ---------------------------------------------------------------------------------------------------


def counted(values, edges):
    """How many of the values lie below the first edge, between the first and the second, ..., from the last on."""
    bounds = [-float("inf"), *edges, float("inf")]
    return [sum(low <= v < high for v in values) for low, high in pairwise(bounds)]


def test_every_completion_is_counted_once_fresh_or_replayed(micro, tmp_path):
    common = {"replay": Replay(minimum=1, scope="any"), "hints": Sometimes(), "optimizer": sgd(0.1)}
    panel = HealthPanel(every_n_steps=3, show=False)
    _, keep = run(micro, tmp_path, 8, callbacks=[panel], advantage=AVATAR(), **common)
    written = lines(tmp_path)
    assert [line["step"] for line in written] == [3, 6]
    for line, window in zip(written, (range(3), range(3, 6)), strict=True):
        estimates = [keep.rollouts[i].estimates.tolist() for i in window]
        num = [len(keep.rollouts[i].completions) for i in window]
        fresh = [a for row, n in zip(estimates, num, strict=True) for a in row[:n]]
        replayed = [a for row, n in zip(estimates, num, strict=True) for a in row[n:]]
        ages = [keep.rollouts[i].step - e.step for i in window for e in keep.rollouts[i].entries]
        assert line["histogram/fresh"] == counted(fresh, ADVANTAGE_EDGES)
        assert line["histogram/replayed"] == counted(replayed, ADVANTAGE_EDGES)
        assert line["histogram/staleness"] == counted(ages, STALENESS_EDGES)
        assert sum(line["histogram/fresh"]) == 3 * 8
        assert sum(line["histogram/replayed"]) == sum(line["histogram/staleness"]) == len(ages) > 0
        for name in ("advantage/zero_spread_share", "ess/replayed", "replay/hit_rate", "hint/share"):
            here = [keep.metrics[i][name] for i in window if name in keep.metrics[i]]
            assert line[name] == pytest.approx(sum(here) / len(here), abs=1e-6)
    assert sum(stored for stored, _, _ in written[-1]["tiers"].values()) == 6 * 8
    assert sum(panel.state_dict()["fresh"]) == 2 * 8  # of the two steps since


def test_a_vanished_advantage_has_a_place_of_its_own():
    places = [bisect_right(ADVANTAGE_EDGES, value) for value in (-3.0, -0.2, 0.0, 0.2, 3.0)]
    assert places == [0, 4, 5, 6, 10]


def test_with_several_updates_a_rollout_is_counted_once(micro, tmp_path):
    panel = HealthPanel(every_n_steps=3, show=False)
    run(micro, tmp_path, 8, callbacks=[panel], updates_per_rollout=2)
    assert [line["step"] for line in lines(tmp_path)] == [4, 6]  # the first batches at or after 3 and 6
    assert [sum(line["histogram/fresh"]) for line in lines(tmp_path)] == [2 * 8, 8]


def test_never_is_never(micro, tmp_path):
    run(micro, tmp_path, 3, callbacks=[HealthPanel(every_n_steps=0)])
    assert not (tmp_path / "health.jsonl").exists()


# -- what is warned of -------------------------------------------------------------------------------------------------


def report_of(hard=(5, 40, 5), medium=(5, 35, 5), easy=(5, 25, 5), alive=True, **more):
    tiers = {"hard": list(hard), "medium": list(medium), "easy": list(easy)}
    return {"tiers": tiers, "replay/alive": alive, "replay/hit_rate": 0.5, "ess/replayed": 0.5} | more


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (report_of((0, 40, 0), (0, 35, 0), (0, 25, 0), alive=False), "nothing is stored"),
        (report_of(**{"replay/hit_rate": 0.0}), "nothing was found to replay"),
        (report_of(easy=(0, 25, 0)), "the easy tier is empty"),
        (report_of(easy=(0, 25, 0), medium=(0, 35, 0), hard=(10, 40, 10)), "the medium and easy tier is empty"),
        (report_of(**{"ess/replayed": 0.04}), "worth 4% of the replayed tokens"),
    ],
)
def test_what_is_wrong_is_said_in_words_and_nothing_else(report, words):
    (said,) = warnings_of(report)
    assert words in said


@pytest.mark.parametrize(
    "report",
    [
        report_of(),
        report_of(**{"ess/replayed": 0.1}),
        report_of(**{"replay/hit_rate": 0.01}),
        report_of(**{"replay/hit_rate": 0.0}, alive=False),  # nothing may be replayed yet
        report_of(easy=(0, 25, 0), hard=(4, 40, 4)),  # nine prompts: too few to tell
        report_of(easy=(0, 0, 0)),  # the tier has no share
        {"tiers": {}},
        {},
    ],
)
def test_a_healthy_run_is_not_warned_of(report):
    assert warnings_of(report) == []


def test_two_things_that_are_wrong_are_two_warnings():
    found = warnings_of(report_of(hard=(0, 40, 0), **{"replay/hit_rate": 0.0, "ess/replayed": 0.01}))
    assert [next(w for w in ("found", "hard tier", "1%") if w in said) for said in found] == [
        "found",
        "hard tier",
        "1%",
    ]


class NoneValid(Sum):
    def __call__(self, prompts, completions, group):
        scored = super().__call__(prompts, completions, group)
        return Scored(scored.rewards, torch.zeros_like(scored.valid))


@pytest.mark.parametrize(
    ("split", "more", "words"),
    [
        ("dev", {"rewards": [NoneValid()]}, "replay at step 4: nothing is stored"),
        ("train", {}, "replay at step 4: nothing was found to replay"),  # no prompt has come back yet
        ("dev", {"optimizer": sgd(0.0), "replay": Replay(minimum=1, scope="any")}, None),
    ],
)
def test_a_run_tells_what_is_wrong_with_its_replay(micro, tmp_path, split, more, words):
    common = {"advantage": Mixed(), "replay": Replay(minimum=1)} | more
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(micro, tmp_path, 5, split=split, callbacks=[HealthPanel(4, show=False)], **common)
    told = [str(w.message) for w in caught if "replay at step" in str(w.message)]
    assert len(told) == (words is not None)
    assert all(message.startswith(words) for message in told)


# -- resume ------------------------------------------------------------------------------------------------------------


def test_a_resumed_run_writes_the_lines_of_an_uninterrupted_one(micro, tmp_path):
    """Saved at step 5, in the middle of the window of steps 4 to 6, and after a line that must not come twice."""
    common = {"advantage": Mixed(), "replay": Replay(minimum=1), "hints": Sometimes(), "optimizer": sgd(0.1)}
    save = SaveAt(5, tmp_path / "five.ckpt")
    run(micro, tmp_path / "whole", 12, callbacks=[HealthPanel(3, show=False), save], **common)
    state = torch.load(tmp_path / "five.ckpt", weights_only=True)
    (window,) = [s for name, s in state["callbacks"].items() if "HealthPanel" in name]
    assert sum(window["fresh"]) == 2 * 8

    callbacks = [HealthPanel(3, show=False), ResumeLogs()]
    run(micro, tmp_path / "halved", 8, callbacks=callbacks, **common)  # as if it had been killed at 8
    callbacks = [KeepSteps(), HealthPanel(3, show=False), ResumeLogs()]
    fit(
        module_of(micro, **common),
        micro,
        tmp_path / "halved",
        12,
        callbacks=callbacks,
        ckpt_path=tmp_path / "five.ckpt",
    )
    assert lines(tmp_path / "halved") == lines(tmp_path / "whole")
    assert [line["step"] for line in lines(tmp_path / "whole")] == [3, 6, 9, 12]


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_the_panel_shows_histograms_tiers_and_shares():
    fresh, replayed = [0] * 11, [0] * 11
    fresh[5], fresh[10], replayed[6] = 3, 1, 2
    text = text_of(
        report_of(**{
            "histogram/fresh": fresh, "histogram/replayed": replayed, "histogram/staleness": [0] * 8 + [2],
            "advantage/zero_spread_share": 0.75,
        })
    )  # fmt: skip
    for words in ("health at step 7", "advantages, fresh", "advantages, replayed", "staleness", "500+", "medium"):
        assert words in text
    for words in ("75%", "25%", "100%", "0.75", "groups without spread", "hit rate of replay", "0.50"):
        assert words in text


def test_without_replay_the_panel_is_about_fresh_advantages_alone(micro, tmp_path, capsys):
    run(micro, tmp_path, 2, callbacks=[HealthPanel(2)])
    (line,) = lines(tmp_path)
    assert "tiers" not in line
    text = text_of(line)
    assert "advantages, fresh" in text
    assert "replayed" not in text
    assert "tier" not in text
    assert "health at step 2" in capsys.readouterr().out
