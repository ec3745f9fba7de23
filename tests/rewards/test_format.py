import re
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.rewards import REWARDS, Format, is_well_formed
from avatar.types import Completion, Prompt

GOOD = "<think>one, two</think><answer>2</answer>"
HUGE = 100_000  # characters
quick = settings(max_examples=100, deadline=None)


def written(text, finished=True):
    return Completion(torch.tensor([1]), torch.zeros(1), text, finished)


def rewards_of(completions, reward=None):
    prompts = [Prompt(k, [], (), "2") for k in "ab"]
    group = torch.tensor([i % 2 for i in range(len(completions))])
    return (reward or Format())(prompts, completions, group)


def is_well_formed_by_pieces(text):
    """Cut the text at its tags and compare the pieces with what they must be: no pattern over the whole."""
    pieces = re.split(r"(</?(?:think|answer)>)", text)
    if pieces[1::2] != ["<think>", "</think>", "<answer>", "</answer>"]:
        return False
    before, thought, between, answer, after = pieces[::2]
    return bool(thought.strip() and answer.strip()) and not (before + between + after).strip()


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "\n<think>\none\ntwo\n</think>\n\n<answer>\n2\n</answer>\n",
        "<think>is 1 < 2 > 0? <b>yes</b></think><answer>1 < 2</answer>",
        "<think>\u6570\u4e00\u6570</think><answer>\u4e8c</answer>",
    ],
)
def test_one_thought_and_one_answer_in_order_are_well_formed(text):
    assert is_well_formed(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "<answer>2</answer>",
        "<think>one</think>",
        "<answer>2</answer><think>one</think>",
        "<think></think><answer>2</answer>",
        "<think>one</think><answer></answer>",
        "so " + GOOD,
        GOOD + " done",
        "<think>one</think> so <answer>2</answer>",
        GOOD + GOOD,
        GOOD + "<answer>2</answer>",
        "<think>one<think>two</think><answer>2</answer>",
        "<think>one</think></think><answer>2</answer>",
        "<think>one <answer>1</answer></think><answer>2</answer>",
        "<think>one</think><answer><answer>2</answer></answer>",
        "<think>one</think><answer>2",
        "<think>one<answer>2</answer>",
        "one</think><answer>2</answer>",
        "<think>one</think><answer>2<answer>",
        "<THINK>one</THINK><ANSWER>2</ANSWER>",
        "<think >one</think><answer>2</answer>",
    ],
)
def test_anything_missing_empty_twice_out_of_order_or_around_is_malformed(text):
    assert not is_well_formed(text)


@pytest.mark.parametrize("blank", [" ", "\n", "\t \n"])
def test_a_part_of_blanks_alone_is_empty(blank):
    assert not is_well_formed(f"<think>{blank}</think><answer>2</answer>")
    assert not is_well_formed(f"<think>one</think><answer>{blank}</answer>")


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "2", "a b", "\n", "<", ""]), max_size=11)
)
@quick
def test_it_agrees_with_cutting_the_text_at_its_tags(pieces):
    text = "".join(pieces)
    assert is_well_formed(text) == is_well_formed_by_pieces(text)


@given(*[st.text(st.sampled_from("2a <>/\n."), max_size=8)] * 2, st.data())
@quick
def test_one_more_tag_anywhere_spoils_a_well_formed_text(thought, answer, data):
    text = f"<think>x{thought}</think>\n<answer>y{answer}</answer>"
    assert is_well_formed(text)
    tag = data.draw(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>"]))
    at = data.draw(st.integers(0, len(text)))
    assert not is_well_formed(text[:at] + tag + text[at:])


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "text",
    [unit * (HUGE // len(unit)) for unit in ("<think>", "</think>", "<answer>", GOOD, " ", "a", "<")]
    + ["<think>" + "a" * HUGE, f"<think>{'a' * HUGE}</think><answer>2", "<think>a</think>" + " " * HUGE + "x"],
    ids=range(10),
)
def test_a_huge_malformed_text_is_refused_at_once(text):
    start = time.process_time()
    assert not is_well_formed(text)
    assert time.process_time() - start < 1


def test_a_huge_well_formed_text_is_accepted():
    assert is_well_formed(f"<think>{'a ' * (HUGE // 2)}</think><answer>2</answer>")


def test_a_well_formed_completion_gets_one_and_any_other_nothing():
    scored = rewards_of([written(GOOD), written("2"), written(GOOD + GOOD), written(GOOD), written("")])
    assert scored.rewards.tolist() == [1.0, 0.0, 0.0, 1.0, 0.0]
    assert scored.rewards.dtype == torch.float32


def test_a_completion_that_was_cut_off_gets_nothing_even_if_its_text_looks_whole():
    assert rewards_of([written(GOOD, finished=False), written(GOOD)]).rewards.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("penalty", [-1, -1.0, 0.25])
def test_the_penalty_is_what_a_malformed_completion_gets(penalty):
    scored = rewards_of([written("2"), written(GOOD)], Format(penalty=penalty))
    assert scored.rewards.tolist() == [float(penalty), 1.0]
    assert scored.rewards.dtype == torch.float32


def test_a_format_can_always_be_judged():
    assert rewards_of([written("")] * 3).valid.tolist() == [True] * 3


def test_the_weight_is_left_to_the_sum():
    assert rewards_of([written(GOOD)], Format(weight=0.5)).rewards.tolist() == [1.0]


def test_no_completions_get_no_rewards():
    scored = rewards_of([])
    assert scored.rewards.shape == scored.valid.shape == (0,)


def test_it_is_known_by_its_name():
    assert REWARDS["Format"] is Format
    assert Format().name == "format"
