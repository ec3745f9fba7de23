import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.advantages import ADVANTAGES, Advantage
from avatar.errors import ConfigError
from avatar.registry import Registry, UnknownNameError, did_you_mean
from avatar.rewards import REWARDS, Reward


@pytest.fixture
def shapes():
    registry = Registry("shape", "test-shapes")
    for name in ("Square", "Circle", "Triangle"):
        registry.register()(type(name, (), {}))
    return registry


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package with entry points on the path, as pip would."""

    def write(group, entries, **modules):
        info = tmp_path / "other-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)

    return write


def test_a_class_is_found_under_its_own_name_or_the_one_it_was_given(shapes):
    class Hexagon: ...

    shapes.register()(Hexagon)
    shapes.register("Six")(Hexagon)
    assert shapes["Hexagon"] is shapes["Six"] is Hexagon
    assert "Six" in shapes


def test_registering_leaves_the_class_as_it_was(shapes):
    class Hexagon: ...

    assert shapes.register()(Hexagon) is Hexagon


def test_names_come_sorted_and_counted(shapes):
    assert list(shapes) == ["Circle", "Square", "Triangle"]
    assert len(shapes) == 3


def test_another_class_under_a_taken_name_is_refused_and_the_first_stays(shapes):
    first = shapes["Square"]
    with pytest.raises(ConfigError, match=r"shape 'Square' is registered twice: .*Square.* and .*Square"):
        shapes.register()(type("Square", (), {}))
    assert shapes["Square"] is first


def test_the_same_class_may_come_twice(shapes):
    shapes.register()(shapes["Square"])
    assert len(shapes) == 3


def test_two_registries_do_not_see_each_other(shapes):
    other = Registry("shape", "test-shapes")
    assert "Square" in shapes
    assert "Square" not in other


def test_an_unknown_name_is_refused_with_the_nearest_one_and_all_others(shapes):
    with pytest.raises(UnknownNameError) as caught:
        shapes["Sqare"]
    assert str(caught.value) == "unknown shape 'Sqare'. Did you mean 'Square'? Known: Circle, Square, Triangle"


def test_a_name_like_no_other_gets_no_suggestion(shapes):
    with pytest.raises(UnknownNameError) as caught:
        shapes["xyz"]
    assert str(caught.value) == "unknown shape 'xyz'. Known: Circle, Square, Triangle"


def test_an_empty_registry_says_that_it_knows_none():
    with pytest.raises(UnknownNameError, match=r"unknown shape 'Square'\. Known: none"):
        Registry("shape", "test-shapes")["Square"]


def test_other_capitals_are_another_name_but_the_suggestion_sees_through_them(shapes):
    assert "SQUARE" not in shapes
    with pytest.raises(UnknownNameError, match=r"Did you mean 'Square'\?"):
        shapes["SQUARE"]


def test_an_unknown_name_is_an_error_of_the_user(shapes):
    with pytest.raises(ConfigError):
        shapes["Sqare"]


@given(st.lists(st.text("abcxyzABCXYZ", min_size=3, max_size=8), min_size=1, unique_by=str.lower), st.data())
@settings(max_examples=50, deadline=None)
def test_a_known_name_in_other_capitals_is_always_the_one_suggested(known, data):
    name = data.draw(st.sampled_from(known))
    assert did_you_mean(name.swapcase(), known) == f" Did you mean {name!r}?"


def test_without_known_names_nothing_is_suggested():
    assert did_you_mean("Square", []) == ""


def test_a_class_of_another_package_joins_at_the_first_look_up(install):
    install("avatar.test-joins", {"Ring": "other_ring:Ring"}, other_ring="class Ring: ...")
    registry = Registry("shape", "test-joins")
    assert list(registry) == ["Ring"]
    assert registry["Ring"].__module__ == "other_ring"


@pytest.mark.parametrize(
    "look", [len, list, lambda r: r["Ring"], lambda r: "Ring" in r], ids=["len", "iter", "get", "in"]
)
def test_every_kind_of_look_up_brings_other_packages_in(install, look):
    install("avatar.test-looks", {"Ring": "other_look:Ring"}, other_look="class Ring: ...")
    assert look(Registry("shape", "test-looks"))  # 1, ["Ring"], the class, True


def test_another_package_that_takes_a_known_name_is_refused(install):
    install("avatar.test-twice", {"Square": "other_square:Square"}, other_square="class Square: ...")
    registry = Registry("shape", "test-twice")
    registry.register()(type("Square", (), {}))
    with pytest.raises(ConfigError, match="registered twice"):
        registry["Square"]


def test_an_entry_that_does_not_load_is_an_error_at_each_look_up_and_not_only_the_first(install):
    install("avatar.test-broken", {"Ring": "other_broken:Ring"}, other_broken="import no_such_module_at_all")
    registry = Registry("shape", "test-broken")
    for _ in range(2):
        with pytest.raises(ImportError):
            registry["Ring"]


@pytest.mark.parametrize(
    ("registry", "base"), [(ADVANTAGES, Advantage), (REWARDS, Reward)], ids=["advantages", "rewards"]
)
def test_every_entry_is_a_subclass_under_the_name_that_users_type(registry, base):
    assert len(registry) > 0
    for name in registry:
        assert issubclass(registry[name], base)
        assert registry[name].__name__ == name
        assert re.fullmatch(r"[A-Z]\w+", name)
