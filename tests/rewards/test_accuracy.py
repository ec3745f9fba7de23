import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.rewards import REWARDS, Accuracy, is_correct
from avatar.types import Completion, Prompt

COLOUR = Prompt("colour", [], (), "green", "choice", ("red", "green", "blue"))
COUNT = Prompt("count", [], (), "3", "number")
PLACE = Prompt("place", [], (), "Left: cyclist", "exact")
PROMPTS = [COLOUR, COUNT, PLACE]


def written(text):
    return Completion(torch.tensor([1]), torch.zeros(1), text, True)


def rewards_of(texts, group):
    return Accuracy()(PROMPTS, [written(t) for t in texts], torch.tensor(group, dtype=torch.long))


def number_prompt(gold):
    return Prompt("n", [], (), gold, "number")


@pytest.mark.parametrize("text", ["B", "(b)", "green", "B. green", "<think>A?</think><answer>B</answer>", "I say (B)"])
def test_the_gold_option_is_right_by_letter_or_by_text(text):
    assert is_correct(text, COLOUR)


@pytest.mark.parametrize("gold", ["B", "b.", "(B)", "green", "Green", "B. green"])
def test_the_gold_option_may_itself_be_given_by_letter_or_by_text(gold):
    prompt = Prompt("colour", [], (), gold, "choice", COLOUR.options)
    assert [is_correct(t, prompt) for t in ("B", "green", "A", "red")] == [True, True, False, False]


@pytest.mark.parametrize(
    "text", ["A", "red", "A. green", "B. red", "A B C", "", "B <answer>A</answer>", "D", "evergreen"]
)
def test_another_option_or_a_guess_is_wrong(text):
    assert not is_correct(text, COLOUR)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p.problem_type)
def test_a_gold_answer_that_appears_only_in_the_thinking_is_wrong(prompt):
    assert not is_correct(f"<think>{prompt.answer}</think>", prompt)
    assert not is_correct(f"<think>{prompt.answer}</think><answer>none of these</answer>", prompt)
    assert not is_correct(f"<think>perhaps <answer>{prompt.answer}</answer></think>", prompt)
    assert not is_correct(f"<think>it must be {prompt.answer}", prompt)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p.problem_type)
def test_an_empty_completion_is_wrong(prompt):
    assert not is_correct("", prompt)
    assert not is_correct("<think></think><answer></answer>", prompt)


@pytest.mark.parametrize("gold", ["200", "-200"])
def test_a_number_is_right_within_a_thousandth_of_the_gold_one(gold):
    sign = gold.removesuffix("200")  # within 200 / 1000 = 0.2, on the same side of 0
    texts = ("200.19", "199.81", "200.21", "199.79")
    assert [is_correct(sign + t, number_prompt(gold)) for t in texts] == [True, True, False, False]
    assert not is_correct(gold.removeprefix("-") if sign else "-200", number_prompt(gold))


def test_near_a_gold_zero_a_number_is_right_within_a_thousandth():
    prompt = number_prompt("0")
    assert [is_correct(t, prompt) for t in ("0", "-0", "zero", "0.0009", "0.002", "1")] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("text", ["3", "3.0", "three", "There are 3.", "<answer>Three</answer>"])
def test_a_number_is_right_however_it_is_written(text):
    assert is_correct(text, COUNT)


@pytest.mark.parametrize("text", ["30", "3 or 4", "13", "-3", "3rd", "1/3", "e3", "\u22123", "<answer>3"])
def test_a_number_that_only_contains_the_gold_one_is_wrong(text):
    assert not is_correct(text, COUNT)


def test_exact_text_is_right_but_for_capitals_spaces_and_a_full_stop():
    assert is_correct("<answer> left:  CYCLIST. </answer>", PLACE)
    assert not is_correct("<answer>Left: cyclist, right: dog</answer>", PLACE)
    assert not is_correct("<answer>cyclist</answer>", PLACE)


def test_each_completion_is_judged_by_the_prompt_of_its_group():
    scored = rewards_of(["3", "B", "3", "left: cyclist", "A", "B"], [1, 0, 0, 2, 0, 1])
    # "3" and "B" are right for their own prompts (rows 0, 1) and wrong for each other's (rows 2, 5).
    assert scored.rewards.tolist() == [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    assert scored.rewards.dtype == torch.float32


def test_an_unparsed_answer_is_wrong_and_not_without_a_reward():
    scored = rewards_of(["", "no idea", "B"], [0, 1, 0])
    assert scored.rewards.tolist() == [0.0, 0.0, 1.0]
    assert scored.valid.tolist() == [True, True, True]


@pytest.mark.parametrize("text", ["e5", "so e4", "9" * 400, "<answer>-e3</answer>"])
def test_no_text_of_the_policy_can_end_the_training(text):
    assert rewards_of([text, text, text], [0, 1, 2]).rewards.tolist() == [0.0, 0.0, 0.0]


@given(
    st.lists(st.tuples(st.sampled_from(["3", "B", "A", "", "left: cyclist"]), st.integers(0, 2)), max_size=8), st.data()
)
@settings(max_examples=50, deadline=None)
def test_reordering_completions_reorders_their_rewards(rows, data):
    order = data.draw(st.permutations(range(len(rows))))
    straight = rewards_of([t for t, _ in rows], [g for _, g in rows]).rewards.tolist()
    shuffled = rewards_of([rows[i][0] for i in order], [rows[i][1] for i in order]).rewards.tolist()
    assert shuffled == [straight[i] for i in order]
    assert straight == [float(is_correct(t, PROMPTS[g])) for t, g in rows]


def test_no_completions_get_no_rewards():
    scored = rewards_of([], [])
    assert scored.rewards.shape == scored.valid.shape == (0,)


def test_a_group_id_for_each_completion_is_needed():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        rewards_of(["3", "3"], [1])


@pytest.mark.parametrize(("gold", "problem_type"), [("E", "choice"), ("many", "number"), ("", "exact")])
def test_a_gold_answer_that_cannot_be_read_is_an_error_and_not_a_wrong_answer(gold, problem_type):
    prompt = Prompt("broken", [], (), gold, problem_type, COLOUR.options)
    with pytest.raises(ValueError, match=f"gold answer {gold!r}"):
        is_correct("B", prompt)


def test_it_is_known_by_its_name():
    assert REWARDS["Accuracy"] is Accuracy
    assert Accuracy().name == "accuracy"
