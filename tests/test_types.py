import copy
import math
from dataclasses import FrozenInstanceError, fields, replace

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
    experience = stack([completion(3, first_id=10), completion(1, first_id=20), completion(2, first_id=30)])
    assert experience.ids.tolist() == [[10, 11, 12], [20, 0, 0], [30, 31, 0]]
    assert experience.mask.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    assert experience.behaviour_logprobs.tolist() == [[-1, -2, -3], [-1, 0, 0], [-1, -2, 0]]


def test_a_written_token_that_looks_like_padding_is_still_real():
    experience = stack([completion(2, first_id=0), completion(3, first_id=0)])
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


def test_reference_scores_and_prompts_are_kept_as_given():
    scores, prompt = torch.tensor([0.5, torch.nan, 0.25]), torch.tensor([2, 0, 2])
    experience = stack([completion(n) for n in (2, 1, 3)], [0, 0, 1], reference_score=scores, prompt=prompt)
    assert experience.reference_score is scores
    assert experience.prompt is prompt
    assert experience.group.tolist() == [0, 0, 1]


def test_a_completion_follows_the_prompt_of_its_group_unless_told():
    assert stack([completion(2), completion(1), completion(3)], group=[4, 4, 9]).prompt.tolist() == [4, 4, 9]


def test_an_experience_is_as_long_as_it_has_completions():
    assert len(stack([completion(2), completion(0), completion(5)])) == 3


def test_every_field_has_the_kind_of_number_it_promises():
    experience = stack([completion(1), completion(2, hinted=True)])
    for name in ("mask", "valid", "is_replayed", "hinted"):
        assert getattr(experience, name).dtype == torch.bool, name
    for name in ("ids", "group", "prompt", "step"):
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


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_the_mask_gives_every_completion_back(rows):
    completions = [Completion(torch.tensor(r, dtype=torch.long), torch.tensor(r) / -10, "", True) for r in rows]
    experience = stack(completions)
    for row, ids, logprobs, mask in zip(
        rows, experience.ids, experience.behaviour_logprobs, experience.mask, strict=True
    ):
        assert ids[mask].tolist() == row
        torch.testing.assert_close(logprobs[mask], torch.tensor(row) / -10)
        assert (ids[~mask] == 0).all()
        assert (logprobs[~mask] == 0).all()
    assert experience.ids.shape[1] == max(map(len, rows))


# --- Experience.join ------------------------------------------------------------------------------------------------


def two():
    """Two ragged batches that differ in every field; the first is three tokens wide, the second five."""
    first = stack([completion(3, first_id=10, step=1), completion(1, first_id=20, hinted=True)], group=[0, 1])
    second = stack(
        [completion(2, first_id=30, step=7), completion(5, first_id=40), completion(0, hinted=True)],
        group=[1, 0, 1],
        reference_score=torch.tensor([0.5, 0.25, math.nan]),
        prompt=torch.tensor([1, 4, 1]),
    )
    valid = torch.tensor([True, False, True])
    return first, replace(second, is_replayed=torch.ones(3, dtype=torch.bool), valid=valid)


def test_joined_completions_lie_one_after_the_other_padded_to_the_longest():
    first, second = two()
    joined = first.join(second)
    assert joined.ids.tolist() == [
        [10, 11, 12, 0, 0],
        [20, 0, 0, 0, 0],
        [30, 31, 0, 0, 0],
        [40, 41, 42, 43, 44],
        [0, 0, 0, 0, 0],
    ]
    assert joined.mask.sum(-1).tolist() == [3, 1, 2, 5, 0]
    assert joined.behaviour_logprobs[:3].tolist() == [[-1, -2, -3, 0, 0], [-1, 0, 0, 0, 0], [-1, -2, 0, 0, 0]]
    assert joined.group.tolist() == [0, 1, 1, 0, 1]
    assert joined.prompt.tolist() == [0, 1, 1, 4, 1]
    assert joined.rewards.tolist() == [0.0, 0.5, 0.0, 0.5, 1.0]
    assert joined.valid.tolist() == [True, True, True, False, True]
    assert joined.is_replayed.tolist() == [False, False, True, True, True]
    assert joined.hinted.tolist() == [False, True, False, False, True]
    assert joined.step.tolist() == [1, 0, 7, 0, 0]
    torch.testing.assert_close(
        joined.reference_score, torch.tensor([math.nan, math.nan, 0.5, 0.25, math.nan]), equal_nan=True
    )


def test_the_other_way_round_gives_the_same_rows_in_the_other_order():
    first, second = two()
    one, other = first.join(second), second.join(first)
    for f in fields(one):
        torch.testing.assert_close(
            getattr(other, f.name), getattr(one, f.name)[[2, 3, 4, 0, 1]], equal_nan=True, msg=f.name
        )


def test_joining_keeps_the_kind_of_every_number_and_leaves_both_as_they_were():
    (first, second), before = two(), two()
    joined = first.join(second)
    assert len(joined) == 5
    for f in fields(joined):
        assert getattr(joined, f.name).dtype == getattr(first, f.name).dtype, f.name
        for now, then in zip((first, second), before, strict=True):
            torch.testing.assert_close(getattr(now, f.name), getattr(then, f.name), equal_nan=True, msg=f.name)


@given(*[st.lists(st.integers(0, 6), min_size=1, max_size=4)] * 2)
@settings(max_examples=30, deadline=None)
def test_joining_two_is_stacking_all(lengths, others):
    one, other, both = (stack([completion(n) for n in row]) for row in (lengths, others, lengths + others))
    joined = one.join(other)
    for name in ("ids", "mask", "behaviour_logprobs", "hinted", "step"):
        assert torch.equal(getattr(joined, name), getattr(both, name)), name


# --- Prompt.with_hint -----------------------------------------------------------------------------------------------

QUESTION = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "How many?"}]}


def prompt(*messages, hint="Listen first."):
    return Prompt("clip/3", list(messages), (), "4", "number", ("a", "b"), "<think></think>", hint, {"kind": "sum"})


def test_without_a_system_message_the_hint_becomes_one():
    assert prompt(QUESTION).with_hint().messages == [{"role": "system", "content": "Hint: Listen first."}, QUESTION]


def test_the_hint_is_the_last_line_of_a_system_message():
    told = prompt({"role": "system", "content": "Think, then answer.\nBe brief."}, QUESTION).with_hint()
    text = "Think, then answer.\nBe brief.\nHint: Listen first."
    assert told.messages == [{"role": "system", "content": text}, QUESTION]


def test_an_empty_system_message_makes_no_empty_line():
    told = prompt({"role": "system", "content": ""}, QUESTION).with_hint()
    assert told.messages == [{"role": "system", "content": "Hint: Listen first."}, QUESTION]


def test_the_hint_of_a_chat_of_several_turns_goes_to_its_start():
    answer = {"role": "assistant", "content": "Three."}
    told = prompt(QUESTION, answer, QUESTION).with_hint()
    assert [message["role"] for message in told.messages] == ["system", "user", "assistant", "user"]


def test_a_system_message_of_parts_keeps_its_text():
    told = prompt({"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, QUESTION).with_hint()
    content = told.messages[0]["content"]
    text = "".join(part["text"] for part in content)  # as chat templates do
    assert text == "Be brief.\nHint: Listen first."


@pytest.mark.parametrize("messages", [[QUESTION], [{"role": "system", "content": "Be brief."}, QUESTION], []])
def test_the_prompt_without_its_hint_stays_untouched(messages):
    original = prompt(*messages)
    before = copy.deepcopy(original)
    told = original.with_hint()
    assert original == before
    assert replace(told, messages=original.messages) == original  # all else is the same


@pytest.mark.parametrize("hint", [None, ""])
def test_a_prompt_without_a_hint_says_which_it_is(hint):
    with pytest.raises(ValueError, match="prompt 'clip/3' has no hint"):
        prompt(QUESTION, hint=hint).with_hint()


# --- Sampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [-0.1, -1.0])
def test_a_temperature_below_zero_is_refused(temperature):
    with pytest.raises(ConfigError, match=rf"temperature must be 0 \(greedy\) or more, got {temperature}"):
        Sampling(temperature=temperature)


@pytest.mark.parametrize("max_new_tokens", [0, -5])
def test_a_completion_needs_room_for_one_token(max_new_tokens):
    with pytest.raises(ConfigError, match=f"max_new_tokens must be at least 1, got {max_new_tokens}"):
        Sampling(max_new_tokens=max_new_tokens)


@pytest.mark.parametrize("top_k", [-1, -50])
def test_a_negative_number_of_likeliest_tokens_is_refused(top_k):
    with pytest.raises(ConfigError, match=rf"top_k must be 0 \(all tokens\) or more, got {top_k}"):
        Sampling(top_k=top_k)


@pytest.mark.parametrize("top_k", [0, 1, 50])
def test_drawing_among_all_tokens_or_the_likeliest_is_allowed(top_k):
    assert Sampling(top_k=top_k) == Sampling(1.0, 256, top_k)
    assert Sampling().top_k == 0


def test_greedy_sampling_of_one_token_is_allowed():
    assert Sampling(temperature=0.0, max_new_tokens=1) == Sampling(0.0, 1)


# --- all ------------------------------------------------------------------------------------------------------------


def test_what_travels_cannot_be_changed_on_the_way():
    with pytest.raises(FrozenInstanceError):
        completion(1).step = 2
    with pytest.raises(FrozenInstanceError):
        stack([completion(1)]).rewards = torch.ones(1)


def test_two_prompts_do_not_share_their_metadata():
    one, other = (Prompt(key, [], (), "1") for key in "ab")
    one.metadata["kind"] = "count"
    assert other.metadata == {}
