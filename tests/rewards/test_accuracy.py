import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.answers import gold_answer, parse_answer, same_answer
from avatar.errors import ConfigError
from avatar.rewards import REWARDS, Accuracy, accuracy
from avatar.types import Completion, Prompt

COLOUR = Prompt("colour", [], (), "green", "choice", ("red", "green", "blue"))
COUNT = Prompt("count", [], (), "3", "number")
PLACE = Prompt("place", [], (), "Left: cyclist", "exact")
PROMPTS = [COLOUR, COUNT, PLACE]


def written(text):
    return Completion(torch.tensor([1]), torch.zeros(1), text, True)


def is_correct(text, prompt):
    given = accuracy(text, prompt.answer, prompt.problem_type, prompt.options)
    assert given in (0.0, 1.0)
    return given == 1.0


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


@pytest.mark.parametrize(
    ("text", "gold", "problem_type", "options", "right"),
    [
        ("<think>x</think><answer>2</answer>", "2", "number", (), True),
        ("<answer>2.001</answer>", "2", "number", (), True),  # within a thousandth
        ("<answer>2 or 3</answer>", "2", "number", (), False),
        ("<answer>2</answer><answer>3</answer>", "2", "number", (), False),
        ("<answer>2", "2", "number", (), False),  # cut off
        ("<answer>B</answer>", "blue", "choice", ("red", "blue"), True),
        ("<answer>blue</answer>", "B", "choice", ("red", "blue"), True),
        ("<answer> The Cat. </answer>", "the cat", "exact", (), True),
        ("<answer>the dog</answer>", "the cat", "exact", (), False),
        ("<answer>Right: dog</answer>", "right: Dog", "location", (), True),
        ("<answer>Left: dog</answer>", "right: dog", "location", (), False),
    ],
)
def test_an_answer_is_right_if_it_parses_to_the_gold_one(text, gold, problem_type, options, right):
    assert is_correct(text, Prompt("p", [], (), gold, problem_type, options)) is right
    parsed = parse_answer(text, problem_type, options).value
    assert same_answer(parsed, gold_answer(gold, problem_type, options)) is right


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


# -- numbers by the paper ----------------------------------------------------------------------------------------------


def by_paper(text, gold, **settings):
    return accuracy(text, gold, "number", number="paper", **settings)


def test_a_number_by_the_paper_is_one_minus_its_relative_error():
    assert by_paper("8", "10") == pytest.approx(0.8)  # 1 - 2 / 10
    assert by_paper("12", "10") == pytest.approx(0.8)  # the same on the other side
    assert by_paper("-8", "-10") == pytest.approx(0.8)
    assert by_paper("10.001", "10") == pytest.approx(0.9999)  # no tolerance: 1 - 0.001 / 10
    assert by_paper("10", "10") == 1.0
    assert by_paper("0", "10") == by_paper("20", "10") == by_paper("21", "10") == by_paper("-10", "10") == 0.0
    assert by_paper("", "10") == by_paper("8 or 10", "10") == 0.0


def test_near_a_gold_zero_both_rules_are_one():
    for number in ("paper", "release"):
        given = [accuracy(t, "0", "number", number=number) for t in ("0", "0.0009", "0.0011", "-1", "")]
        assert given == [1.0, 1.0, 0.0, 0.0, 0.0]
        assert accuracy("0.04", "0", "number", number=number, tolerance=0.05) == 1.0


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
@settings(max_examples=100, deadline=None)
def test_a_number_by_the_paper_is_a_share_and_one_only_for_the_gold_one(said, gold):
    given = by_paper(f"{said!r}", f"{gold!r}")
    assert 0.0 <= given <= 1.0
    assert math.isfinite(given)
    if gold and given == 1.0:
        assert said == pytest.approx(gold, rel=1e-15)


def test_the_tolerance_is_that_of_the_release_rule():
    assert accuracy("102", "100", "number", tolerance=0.02) == 1.0  # 2 <= 0.02 * 100
    assert accuracy("102.1", "100", "number", tolerance=0.02) == 0.0
    assert accuracy("100", "100", "number", tolerance=0.0) == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"number": "dense"}, "must be 'release' or 'paper', got 'dense'")]
    + [({"tolerance": t}, "tolerance must be 0 or more") for t in (-0.1, math.nan, math.inf)],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Accuracy(**settings)


# -- texts that are more or less alike, and places ---------------------------------------------------------------------

SIGN = Prompt("sign", [], (), "Mind the gap", "ocr")
TOLD = Prompt("told", [], (), "a dog barks", "free")
WHERE = Prompt("where", [], (), "Left: cyclist | Center: girl playing flute", "location")


def test_what_is_read_gets_one_less_the_word_error_rate():
    texts = ["Mind the gap", "Mind a gap", "mind the gap", "Mind gap", "Mind the big red gap", "a b c d e f g", ""]
    # word errors of 3: 0, 1, 1 (capital), 1, 2, more than 3, nothing to read
    wanted = [1.0, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 0.0, 0.0]
    assert [accuracy(f"<answer>{t}</answer>", SIGN.answer, "ocr") for t in texts] == pytest.approx(wanted)


def test_what_is_told_gets_the_mean_f_of_rouge():
    # "the dog barks": 2 of 3 words, 1 of 2 pairs, a common sequence of 2 of 3: (2/3 + 1/2 + 2/3) / 3 = 11/18
    assert accuracy("<answer>The dog barks!</answer>", TOLD.answer, "free") == pytest.approx(11 / 18)
    assert accuracy("<think>a dog barks</think>", TOLD.answer, "free") == 0.0
    assert accuracy("<answer>?!</answer>", TOLD.answer, "free") == 0.0  # no word in it: unparsed


def test_a_location_is_right_if_all_places_are():
    right = ["left: cyclist | center: girl playing flute", "CENTER: Girl  playing flute. |Left: cyclist"]
    wrong = ["left: cyclist", "left: girl playing flute | center: cyclist", WHERE.answer + " | right: dog", "cyclist"]
    assert [accuracy(t, WHERE.answer, "location") for t in right + wrong] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("said", "gold", "score"),
    [
        ("B,C", "B,C", 1.0),
        ("C and B", "B, C", 1.0),
        ("green, blue", "B,C", 1.0),
        ("B", "B,C", 2 / 3),  # one in common, of one and of two: 2 * 1 / (1 + 2)
        ("A,B,C,D", "B,C", 2 / 3),  # 2 * 2 / (4 + 2)
        ("A,B", "B,C,D", 2 / 5),  # 2 * 1 / (2 + 3)
        ("A", "B,C", 0.0),
        ("B, B, B", "B", 1.0),  # named twice, counted once
        ("A,E", "A", 0.0),  # E is no option: unparsed
        ("", "A", 0.0),
    ],
)
def test_several_options_get_the_f1_of_the_two_sets(said, gold, score):
    colours = ("red", "green", "blue", "pink")
    assert accuracy(f"<answer>{said}</answer>", gold, "choices", colours) == pytest.approx(score)
    if said and score:  # it is the same from both sides
        assert accuracy(gold, said, "choices", colours) == pytest.approx(score)


sets_of_letters = st.sets(st.sampled_from("ABCDE"), min_size=1)


@given(said=sets_of_letters, gold=sets_of_letters)
@settings(max_examples=100, deadline=None)
def test_several_options_are_all_right_only_if_they_are_the_same_set(said, gold):
    score = accuracy(",".join(sorted(said, reverse=True)), ",".join(gold), "choices", tuple("vwxyz"))
    assert (score == 1) == (said == gold)
    assert (score == 0) == (not said & gold)
    precision, recall = len(said & gold) / len(said), len(said & gold) / len(gold)
    assert score == pytest.approx(2 * precision * recall / (precision + recall) if score else 0)


def test_all_types_are_scored_in_one_ragged_batch():
    prompts = [SIGN, TOLD, WHERE, number_prompt("10"), COLOUR]
    rows = [("Mind gap", 0), ("a dog barks", 1), ("Center: x", 2), ("8", 3), ("B", 4), ("8", 3), ("", 1)]
    completions, group = [written(t) for t, _ in rows], torch.tensor([g for _, g in rows])
    scored = Accuracy(number="paper")(prompts, completions, group)
    torch.testing.assert_close(scored.rewards, torch.tensor([2 / 3, 1.0, 0.0, 0.8, 1.0, 0.8, 0.0]))
    assert scored.valid.all()
    assert Accuracy()(prompts, completions, group).rewards[3] == 0.0  # 8 is not within a thousandth of 10


@pytest.mark.parametrize("problem_type", ["number", "choice", "choices", "exact", "ocr", "free", "location"])
@pytest.mark.parametrize("unit", ["a ", "dog ", "<answer>", "\u7b2c", "\u0301", "Left: dog | ", "1,"])
def test_a_megabyte_of_anything_is_scored_in_no_time(problem_type, unit):
    short = {"number": "3", "choice": "B", "choices": "B", "location": "Left: dog"}
    gold = short.get(problem_type, "a dog barks " * 30)
    big, start = unit * (10**6 // len(unit.encode())), time.process_time()
    assert accuracy(big, gold, problem_type, ("a", "b")) < 0.1
    assert time.process_time() - start < 20  # it takes half a second; a table in Python takes minutes
