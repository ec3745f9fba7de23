from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.errors import ConfigError
from avatar.types import Completion, Experience, Prompt, Sampling


def completion(length, first_id=1, **kwargs):
    """``length`` tokens ``first_id``, ``first_id + 1``, ... with log-probs -1, -2, ..."""
    steps = torch.arange(length)
    return Completion(steps + first_id, -(steps + 1.0), text="", finished=True, **kwargs)


def stack(completions, group=None, **kwargs):
    num = len(completions)
    group = torch.zeros(num, dtype=torch.long) if group is None else torch.tensor(group)
    valid = torch.ones(num, dtype=torch.bool)
    return Experience.from_completions(completions, group, torch.arange(num) / 2, valid, **kwargs)


def test_completions_are_padded_at_the_end_to_the_longest():
    experience = stack([completion(3, first_id=10), completion(1, first_id=20), completion(2, first_id=30)], pad_id=7)
    assert experience.ids.tolist() == [[10, 11, 12], [20, 7, 7], [30, 31, 7]]
    assert experience.mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    assert experience.behaviour_logprobs.tolist() == [[-1, -2, -3], [-1, 0, 0], [-1, -2, 0]]


def test_a_written_token_that_looks_like_padding_is_still_real():
    experience = stack([completion(2, first_id=0), completion(3, first_id=0)], pad_id=0)
    assert experience.mask.tolist() == [[True, True, False], [True, True, True]]


def test_a_completion_of_no_tokens_is_all_padding():
    experience = stack([completion(2), completion(0)])
    assert experience.mask.tolist() == [[True, True], [False, False]]
    assert experience.ids.dtype == torch.long


def test_one_completion_of_one_token_makes_one_cell():
    experience = stack([completion(1, first_id=5)])
    assert experience.ids.tolist() == [[5]]
    assert experience.mask.tolist() == [[True]]


def test_group_rewards_and_valid_are_kept_as_given():
    group, rewards = torch.tensor([4, 4, 9]), torch.tensor([0.5, torch.nan, 2.0])
    valid = torch.tensor([True, False, True])
    experience = Experience.from_completions([completion(n) for n in (2, 1, 3)], group, rewards, valid)
    assert experience.group is group
    assert experience.rewards is rewards
    assert experience.valid is valid


def test_hints_and_steps_come_from_the_completions():
    experience = stack([completion(1, hinted=True, step=3), completion(2), completion(1, step=8)], group=[0, 0, 1])
    assert experience.hinted.tolist() == [True, False, False]
    assert experience.step.tolist() == [3, 0, 8]


def test_fresh_completions_are_not_replayed_and_have_no_reference_score():
    experience = stack([completion(1), completion(2)])
    assert experience.is_replayed.tolist() == [False, False]
    assert experience.reference_score.isnan().tolist() == [True, True]


def test_every_field_has_the_kind_of_number_it_promises():
    experience = stack([completion(1), completion(2, hinted=True)])
    for name in ("mask", "valid", "is_replayed", "hinted"):
        assert getattr(experience, name).dtype == torch.bool, name
    for name in ("ids", "group", "step"):
        assert getattr(experience, name).dtype == torch.long, name
    for name in ("behaviour_logprobs", "rewards", "reference_score"):
        assert getattr(experience, name).dtype == torch.float32, name


def test_every_field_lies_where_the_rewards_lie():
    rewards = torch.zeros(2, device="meta")  # a device without memory: no GPU needed to see where things go
    group, valid = torch.zeros_like(rewards, dtype=torch.long), torch.ones_like(rewards, dtype=torch.bool)
    experience = Experience.from_completions([completion(1), completion(2)], group, rewards, valid)
    assert {f.name: getattr(experience, f.name).device.type for f in fields(experience)} == {
        f.name: "meta" for f in fields(experience)
    }


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_the_mask_gives_every_completion_back(rows, pad_id):
    completions = [Completion(torch.tensor(r, dtype=torch.long), torch.tensor(r) / -10, "", True) for r in rows]
    experience = stack(completions, pad_id=pad_id)
    for row, ids, logprobs, mask in zip(
        rows, experience.ids, experience.behaviour_logprobs, experience.mask, strict=True
    ):
        assert ids[mask].tolist() == row
        torch.testing.assert_close(logprobs[mask], torch.tensor(row) / -10)
        assert (ids[~mask] == pad_id).all()
        assert (logprobs[~mask] == 0).all()
    assert experience.ids.shape[1] == max(map(len, rows))


@pytest.mark.parametrize("temperature", [-0.1, -1.0])
def test_a_temperature_below_zero_is_refused(temperature):
    with pytest.raises(ConfigError, match=rf"temperature must be 0 \(greedy\) or more, got {temperature}"):
        Sampling(temperature=temperature)


@pytest.mark.parametrize("max_new_tokens", [0, -5])
def test_a_completion_needs_room_for_one_token(max_new_tokens):
    with pytest.raises(ConfigError, match=f"max_new_tokens must be at least 1, got {max_new_tokens}"):
        Sampling(max_new_tokens=max_new_tokens)


def test_greedy_sampling_of_one_token_is_allowed():
    assert Sampling(temperature=0.0, max_new_tokens=1) == Sampling(0.0, 1)


def test_what_travels_cannot_be_changed_on_the_way():
    with pytest.raises(FrozenInstanceError):
        completion(1).step = 2
    with pytest.raises(FrozenInstanceError):
        stack([completion(1)]).rewards = torch.ones(1)


def test_two_prompts_do_not_share_their_metadata():
    one, other = (Prompt(key, [], (), "1") for key in "ab")
    one.metadata["kind"] = "count"
    assert other.metadata == {}
