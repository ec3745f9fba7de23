import re
from dataclasses import fields, replace

import pytest

from avatar.benchmarks.recipe import SYSTEMS, Recipe
from avatar.errors import ConfigError

OTHER = {
    "max_frames": 3,
    "fps": 2.0,
    "min_pixels": 800,
    "max_pixels": 40_000,
    "max_audio_seconds": 10.0,
    "max_new_tokens": 7,
    "modalities": "audio",
    "wording": "plain",
    "letter_options": False,
}


def test_the_stamp_tells_any_two_settings_apart():
    assert set(OTHER) == {field.name for field in fields(Recipe)}
    stamps = [Recipe().stamp(), *(Recipe().changed(**{name: value}).stamp() for name, value in OTHER.items())]
    assert len(set(stamps)) == len(OTHER) + 1
    assert all(re.fullmatch("[0-9a-f]{8}", stamp) for stamp in stamps)


def test_the_stamp_hangs_on_what_is_added_and_not_on_its_order():
    recipe = Recipe()
    assert recipe.stamp(a=1, b=2) == recipe.stamp(b=2, a=1) == Recipe().stamp(a=1, b=2)
    assert len({recipe.stamp(), recipe.stamp(a=1), recipe.stamp(a="1"), recipe.stamp(a=None), recipe.stamp(b=1)}) == 5


def test_the_stamp_hangs_on_the_words_of_the_system_message(monkeypatch):
    before = Recipe().stamp()
    monkeypatch.setitem(SYSTEMS, "think", "Think aloud.")
    assert Recipe().stamp() != before


def test_changed_takes_what_is_given_and_leaves_what_is_none():
    assert Recipe(fps=2.0).changed(fps=None, max_frames=4, modalities=None) == Recipe(fps=2.0, max_frames=4)
    assert Recipe().changed(**OTHER) == replace(Recipe(), **OTHER)
    assert Recipe().changed(letter_options=False).letter_options is False  # off is not "as it is"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_frames": 0}, "recipe.max_frames must be at least 1, got 0"),
        ({"min_pixels": 0}, "recipe.min_pixels must be at least 1, got 0"),
        ({"fps": 0.0}, "recipe.fps must be above 0, got 0.0"),
        ({"fps": float("nan")}, "recipe.fps must be above 0, got nan"),
        ({"max_audio_seconds": -1.0}, "recipe.max_audio_seconds must be above 0, got -1.0"),
        ({"max_new_tokens": 0}, "recipe.max_new_tokens must be at least 1, got 0"),
        ({"wording": "loud"}, "recipe.wording must be one of think, direct, plain, got 'loud'"),
        ({"modalities": "smell"}, "modalities must be one of both, video, audio, none, got 'smell'"),
        ({"max_fames": 3}, "unknown setting recipe.max_fames. Did you mean 'max_frames'?"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_as_the_command_line_names_it(values, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        Recipe().changed(**values)


def test_the_limits_of_a_clip_are_those_of_the_recipe():
    rule = Recipe().changed(**OTHER).rule()
    for name in ("max_frames", "fps", "min_pixels", "max_pixels", "max_audio_seconds"):
        assert getattr(rule, name) == OTHER[name]


def test_every_wording_but_plain_has_a_system_message_of_its_own():
    told = [Recipe(wording=wording).system for wording in SYSTEMS]
    assert len(set(told)) == len(SYSTEMS)
    assert Recipe(wording="plain").system is None
    assert "<answer>" in Recipe(wording="think").system
