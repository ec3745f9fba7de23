"""Axes as they are written on a command line, what tables call their values, and the grid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.commands.sweep.axes import Axis, check_axes, grid, labels_of, matches, name_of, parse_axis, split_outside
from avatar.errors import ConfigError

AVATAR = "{class_path: AVATAR, init_args: {strength: 0.3, normalize: false}}"


def test_an_axis_is_a_key_and_its_values():
    assert parse_axis("model.advantage=GRPO,TAS,AVATAR") == Axis(
        "advantage", "model.advantage", ("GRPO", "TAS", "AVATAR"), ("GRPO", "TAS", "AVATAR")
    )


@pytest.mark.parametrize(
    ("text", "name", "key"),
    [
        ("seed_everything=0,1", "seed", "seed_everything"),
        ("model.optimizer.lr=1e-4,2e-4", "lr", "model.optimizer.lr"),
        ("rate:model.optimizer.lr=1e-4,2e-4", "rate", "model.optimizer.lr"),
        ("--model.optimizer.lr=1e-4,2e-4", "lr", "model.optimizer.lr"),
        ("rate:--model.optimizer.lr=1e-4,2e-4", "rate", "model.optimizer.lr"),
        ("config=a.yaml,b.yaml", "config", "config"),
        (" rate : model.optimizer.lr = 1e-4 , 2e-4 ", "rate", "model.optimizer.lr"),
    ],
)
def test_a_name_goes_before_the_key_or_is_its_last_word(text, name, key):
    axis = parse_axis(text)
    assert (axis.name, axis.key) == (name, key)


def test_a_value_may_hold_an_equals_sign_and_a_colon():
    axis = parse_axis("judge:model.judge=http://one:80/?a=b,http://two:80")
    assert axis.values == ("http://one:80/?a=b", "http://two:80")
    assert parse_axis("model.judge=http://one:80,http://two:80").key == "model.judge"


def test_commas_in_brackets_divide_nothing():
    axis = parse_axis(f"model.advantage=GRPO,{AVATAR},[1,[2,3]],f(a,b)")
    assert axis.values == ("GRPO", AVATAR, "[1,[2,3]]", "f(a,b)")
    assert axis.labels == ("GRPO", "class_path-AVATAR-init_args-strength-0.3-normalize-false", "1-2-3", "f-a-b")


def test_an_argument_is_what_avatar_fit_takes():
    axis = parse_axis("config=arms/grpo.yaml,arms/avatar.yaml")
    assert axis.value("avatar") == "arms/avatar.yaml"
    assert axis.argument("avatar") == "--config=arms/avatar.yaml"


@given(st.lists(st.text("ab[]{}(), ", max_size=8), min_size=1, max_size=4))
def test_splitting_loses_nothing(parts):
    text = ",".join(parts)
    assert ",".join(split_outside(text)) == text


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (("configs/arms/grpo8.yaml", "configs/arms/avatar.yaml"), ("grpo8", "avatar")),
        (("runs/starts/demo0/model", "runs/starts/demo1/model"), ("demo0", "demo1")),  # what all end with goes, too
        (("a/one/x/model", "a/two/y/model"), ("one-x", "two-y")),
        (("base.yaml", "other.yml"), ("base", "other")),
        (("configs/arms/grpo8.yaml",), ("grpo8",)),
        (("a/b", "a/b/c"), ("b", "c")),
        (("1e-4", "2e-4"), ("1e-4", "2e-4")),
        (("0.1", "1"), ("0.1", "1")),
        (("true", "null"), ("true", "null")),
        (("[]", "[0]"), ("none", "0")),
        (("GRPO", "arms/x.yaml"), ("GRPO", "arms-x.yaml")),  # not all are paths, so none is cut
        (("Qwen/Qwen2.5-Omni-3B", "Qwen/Qwen2.5-Omni-7B"), ("Qwen2.5-Omni-3B", "Qwen2.5-Omni-7B")),
        (("runs/lr0.1/model", "runs/lr0.2/model"), ("lr0.1", "lr0.2")),
        (("runs/lr0.1", "runs/lr0.2"), ("lr0.1", "lr0.2")),
        (("-1", "1"), ("-1", "1")),
    ],
)
def test_labels_say_in_what_values_differ(values, labels):
    assert labels_of(values) == labels


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4))
def test_a_label_is_fit_for_a_folder(values):
    for label in labels_of(values):
        assert label
        assert "/" not in label
        assert " " not in label
        assert label.isascii()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.advantage", "wanted KEY=VALUE,VALUE"),
        ("model.advantage=", "wanted KEY=VALUE,VALUE"),
        ("=GRPO", "wanted KEY=VALUE,VALUE"),
        ("model.advantage=GRPO,,TAS", "wanted KEY=VALUE,VALUE"),
        ("the arm:model.advantage=GRPO", "'the arm' is no name"),
        ("model.rewards[0]=a,b", "is no name; give one of letters and digits, as in arm:model.rewards"),
        ("model.advantage=GRPO,TAS,GRPO", "'GRPO' comes twice"),
        ("a:b=[1 2],[1-2]", "'1-2' comes twice"),  # other values, one label
    ],
)
def test_what_is_no_axis_is_refused_with_what_was_wanted(text, message):
    with pytest.raises(ConfigError, match="--axis") as error:
        parse_axis(text)
    assert message in str(error.value)


def test_axes_that_cannot_be_told_apart_are_refused():
    one, same_name, same_key = (parse_axis(t) for t in ("lr:a.b=1,2", "lr:c.d=1,2", "rate:a.b=3,4"))
    for axes, message in (([], "nothing to vary"), ([one, same_name], "the name 'lr'"), ([one, same_key], "the key")):
        with pytest.raises(ConfigError, match=message):
            check_axes(axes)
    check_axes([parse_axis("arm:config=a.yaml,b.yaml"), parse_axis("regime:config=c.yaml,d.yaml")])  # files may pile up


def test_the_grid_has_every_combination_the_last_axis_fastest():
    axes = [parse_axis("arm:a=x,y"), parse_axis("seed_everything=0,1")]
    assert list(grid(axes)) == [
        {"arm": "x", "seed": "0"},
        {"arm": "x", "seed": "1"},
        {"arm": "y", "seed": "0"},
        {"arm": "y", "seed": "1"},
    ]
    assert name_of({"arm": "x", "seed": "1"}) == "x-1"


def test_a_point_matches_labels_that_it_has():
    point = {"arm": "x", "seed": "1"}
    assert matches(point, {})
    assert matches(point, {"arm": "x"})
    assert not matches(point, {"arm": "y"})
    assert not matches(point, {"lr": "1"})
