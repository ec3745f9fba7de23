import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.cache import ByteCache, is_sharing, shared, sharing


def filled(max_bytes, **sizes):
    """A cache that was given values ``key.upper()``, in order."""
    cache = ByteCache(max_bytes)
    for key, size in sizes.items():
        cache.put(key, key.upper(), size)
    return cache


def held(cache, keys="abcde"):
    """Which of ``keys`` are held; asking counts as using them, so ask last."""
    return {k for k in keys if cache.get(k) is not None}


def test_a_value_comes_back_under_its_key():
    cache = filled(10, a=3, b=4)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("A", "B", None)
    assert (len(cache), cache.num_bytes) == (2, 7)


def test_values_may_fill_the_bound_to_the_byte():
    assert held(filled(10, a=3, b=7)) == {"a", "b"}


def test_the_value_unused_for_longest_goes_first_and_only_as_many_as_needed():
    cache = filled(10, a=3, b=4, c=3, d=5)  # 3 + 4 + 3 = 10, so d needs 5: out go a (3) and b (4), c stays
    assert held(cache) == {"c", "d"}
    assert cache.num_bytes == 8


def test_a_look_up_keeps_a_value_alive():
    cache = filled(10, a=5, b=5)
    cache.get("a")
    cache.put("c", "C", 5)
    assert held(cache) == {"a", "c"}


def test_a_look_up_that_misses_changes_nothing():
    cache = filled(10, a=5, b=5)
    cache.get("z")
    cache.put("c", "C", 5)
    assert held(cache) == {"b", "c"}


def test_a_value_larger_than_the_bound_is_not_kept_and_pushes_nothing_out():
    cache = filled(10, a=5, b=11)
    assert held(cache) == {"a"}
    assert cache.num_bytes == 5


def test_a_value_of_exactly_the_bound_takes_the_whole_cache():
    cache = filled(10, a=5, b=2, c=10)
    assert held(cache) == {"c"}
    assert cache.num_bytes == 10


def test_a_cache_of_no_bytes_keeps_nothing():
    cache = filled(0, a=1)
    assert (len(cache), cache.num_bytes, cache.get("a")) == (0, 0, None)


def test_putting_a_held_value_again_does_not_count_its_bytes_twice():
    cache = filled(10, a=6)
    cache.put("a", "A", 6)
    assert (len(cache), cache.num_bytes) == (1, 6)


def test_putting_a_held_value_again_is_a_use_of_it():
    cache = filled(10, a=5, b=5)
    cache.put("a", "A", 5)
    cache.put("c", "C", 5)
    assert held(cache) == {"a", "c"}


def test_a_new_value_under_a_held_key_takes_the_place_of_the_old_one():
    cache = filled(10, a=6)
    cache.put("a", "new", 2)
    assert cache.get("a") == "new"
    assert cache.num_bytes == 2


def test_clearing_forgets_values_and_bytes_and_the_cache_can_be_filled_again():
    cache = filled(10, a=5, b=5)
    cache.clear()
    assert (len(cache), cache.num_bytes, cache.get("a")) == (0, 0, None)
    cache.put("a", "A", 10)
    assert cache.get("a") == "A"


@given(st.integers(0, 20), st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 12)), max_size=30))
@settings(max_examples=100, deadline=None)
def test_it_behaves_like_a_list_of_entries_in_order_of_use(max_bytes, requests):
    # Each request is what a caller does: look the key up, and put it if it is not there.
    cache, model = ByteCache(max_bytes), []  # model: [(key, num_bytes)], the one used last at the end
    for key, num_bytes in requests:
        known = [entry for entry in model if entry[0] == key]
        assert cache.get(key) == (key.upper() if known else None)
        if known:
            model.remove(known[0])
            model.append(known[0])
        else:
            cache.put(key, key.upper(), num_bytes)
            if num_bytes <= max_bytes:
                model.append((key, num_bytes))
        while sum(size for _, size in model) > max_bytes:
            del model[0]
        assert cache.num_bytes == sum(size for _, size in model) <= max_bytes
        assert len(cache) == len(model)
    assert held(cache) == {k for k, _ in model}


def made(log, value):
    """A maker that notes when it is called."""

    def make():
        log.append(value)
        return [value]

    return make


def test_without_sharing_everything_is_made_anew():
    log = []
    first, second = (shared("key", made(log, "a")) for _ in range(2))
    assert log == ["a", "a"]
    assert first is not second


def test_what_one_run_has_made_the_next_one_finds():
    store, log = {}, []
    with sharing(store):
        first = shared("key", made(log, "a"))
        assert shared("key", made(log, "b")) is first
    with sharing(store):  # the next run of the same process
        assert shared("key", made(log, "c")) is first
        assert shared("other", made(log, "d")) == ["d"]
    assert log == ["a", "d"]
    assert set(store) == {"key", "other"}


def test_stores_know_nothing_of_each_other():
    log = []
    for _ in range(2):
        with sharing({}):
            shared("key", made(log, "a"))
    assert log == ["a", "a"]


def test_what_is_none_is_made_once_too():
    calls = []
    with sharing({}):
        for _ in range(2):
            assert shared("key", lambda: calls.append(1)) is None
    assert calls == [1]


def test_sharing_ends_with_its_block_however_that_ends():
    assert not is_sharing()
    with sharing({}):
        assert is_sharing()
    assert not is_sharing()
    with pytest.raises(ZeroDivisionError), sharing({}):
        1 / 0  # noqa: B018
    assert not is_sharing()
    assert shared("key", lambda: 1) == 1


def test_a_maker_that_fails_leaves_nothing_behind():
    store = {}

    def fail():
        raise ValueError("no")

    with sharing(store):
        with pytest.raises(ValueError, match="no"):
            shared("key", fail)
        assert shared("key", lambda: 2) == 2
