import json

import pytest

from avatar.commands.bar import LateBar
from avatar.commands.bench import main
from avatar.commands.bench.replay import fill
from avatar.errors import ConfigError

SMALL = ["bench", "replay", "--capacity", "200", "--tokens", "8"]
TIMES = ["add_us", "refile_us", "draw_any_us", "draw_prompt_us"]


def test_it_writes_the_figures_that_it_prints(tmp_path, capsys):
    assert main([*SMALL, "--prompts", "50", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    sizes = ["capacity", "tokens", "prompts", "completions"]
    assert list(figures) == [*sizes, "memory_mb", *TIMES, "checkpoint_mb", "save_ms", "load_ms", "targets"]
    assert [figures[name] for name in sizes] == [200, 8, 50, 200]
    assert all(0 < figures[name]["median"] <= figures[name]["p99"] for name in TIMES)
    assert all(figures[name] > 0 for name in ("checkpoint_mb", "save_ms", "load_ms"))
    assert figures["targets"] == {"memory_mb": 64, "add_us": 200, "draw_any_us": 200, "draw_prompt_us": 200}
    printed = capsys.readouterr().out
    assert "200 completions of 8 tokens, 50 prompts" in printed
    assert f"{figures['add_us']['median']:.1f}" in printed


@pytest.mark.parametrize(("capacity", "prompts"), [(200, 4), (200, 50), (201, 300)])
def test_the_buffer_it_measures_is_full_however_few_prompts_it_is_of(capacity, prompts):
    filled = fill(capacity, 8, prompts)
    assert len(filled.traffic.buffer) == capacity
    assert {len(e.ids) for e in filled.traffic.buffer} == {8}
    # As many adds are timed as fit, in whole visits of four: 200 in 50 visits, 201 in 51.
    assert len(filled.add_ns) == 4 * len(filled.refile_ns) == 4 * -(-capacity // 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts", "3"], "--prompts must be at least 4, .* got 3"),
        (["--tokens", "0"], "--tokens must be at least 1, got 0"),
        (["--capacity", "0"], "capacity must be at least 1 .* got 0"),
        (["--json", "no/such/folder/figures.json"], "there is no folder no/such/folder"),
    ],
)
def test_what_cannot_be_measured_is_said_first(arguments, message):
    with pytest.raises(ConfigError, match=message):
        main([*SMALL, *arguments])


def test_the_bar_shows_only_when_the_work_takes_its_time(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("avatar.commands.bar.time.monotonic", lambda: now[0])
    with LateBar("work", 3) as bar:
        now[0] = 1.9
        bar.advance()
        assert not bar._bar.live.is_started
        now[0] = 2.0
        bar.advance()
        assert bar._bar.live.is_started
        assert bar._bar.tasks[0].completed == 2
    assert not bar._bar.live.is_started
