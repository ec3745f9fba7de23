import time

import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from avatar.answers import UNPARSED, Answer, gold_answer, normalize, parse_answer, payloads, same_answer

COLOURS = ("red", "green", "blue", "yellow")
NINE = ("oak", "elm", "ash", "fir", "yew", "fig", "bay", "box", "tea")  # letters A..I, so that the pronoun is an option
HUGE = 100_000  # characters

quick = settings(max_examples=50, deadline=None)
# Text made of the very things that the patterns look for, so that random text reaches their corners.
FRAGMENTS = ["<answer>", "</answer>", "<think>", "</think>", "answer", "is", "option", "red", "green", "three", "not"]
FRAGMENTS += [*"ABCDEabe", *"0123.,:;!()+-'\"", " ", "\n", "1,234", "1e5", "e5", "\u0663", "\u00bd", "\u2212"]
messy_text = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))


def choice(text, options=COLOURS):
    return parse_answer(text, "choice", options)


def number(text):
    return parse_answer(text, "number")


# --- where the answer is looked for ---------------------------------------------------------------------------------


def test_the_answer_tag_wins_over_everything_around_it():
    assert choice("<think>A or C?</think> I say <answer>B</answer> and D") == Answer(1, "strict")


def test_tags_are_read_in_any_capitals_and_over_several_lines():
    assert choice("<ANSWER>\nB\n</Answer>") == Answer(1, "strict")


def test_without_a_tag_the_reply_after_the_thinking_is_read():
    assert choice("<think>is it A?</think>\nB") == Answer(1, "strict")


@pytest.mark.parametrize("written", ["3", "3.0", "three", "3."])
def test_tags_that_agree_in_value_count_however_they_are_written(written):
    assert number(f"<answer>3</answer> so <answer>{written}</answer>") == Answer(3.0, "strict")


def test_a_lenient_reading_among_agreeing_tags_makes_the_whole_lenient():
    assert number("<answer>3</answer><answer>3 people</answer>") == Answer(3.0, "lenient")


@pytest.mark.parametrize("second", ["B", "", "maybe", "A or B", "green"])
def test_tags_that_disagree_are_unparsed_in_either_order(second):
    assert choice(f"<answer>A</answer><answer>{second}</answer>") == UNPARSED
    assert choice(f"<answer>{second}</answer><answer>A</answer>") == UNPARSED


@pytest.mark.parametrize("text", ["", " \n\t", "<answer></answer>", "<answer> </answer>", "<think>B</think>", "..."])
@pytest.mark.parametrize("problem_type", ["choice", "number", "exact", "ocr", "free", "location"])
def test_an_empty_reply_is_unparsed_and_never_option_a(text, problem_type):
    assert parse_answer(text, problem_type, COLOURS) == UNPARSED


@pytest.mark.parametrize("text", ["<think>The answer is B", "<think>Hm.</think><think>The answer is B", "<think>green"])
def test_thinking_that_was_cut_off_is_no_answer(text):
    assert choice(text) == UNPARSED


def test_a_number_in_thinking_that_was_cut_off_is_no_answer():
    assert number("<think>So far I count 3 people and") == UNPARSED


def test_an_answer_tag_inside_the_thinking_is_no_answer():
    assert choice("<think>I could write <answer>B</answer> but no</think>") == UNPARSED


def test_an_answer_tag_inside_the_thinking_does_not_outvote_the_answer():
    assert choice("<think>I could write <answer>A</answer></think><answer>B</answer>") == Answer(1, "strict")


def test_an_answer_that_was_cut_off_is_not_read():
    assert number("<think>many</think><answer>1") == UNPARSED  # on its way to be 1, 12 or 150
    assert choice("<think>many</think><answer>B") == UNPARSED


@given(st.sampled_from(["A", "(B)", "C.", "green", "D. yellow", "the blue one", "A or B", ""]))
@quick
def test_wrapping_a_bare_reply_in_tags_does_not_change_its_reading(payload):
    assert choice(payload) == choice(f"<answer>{payload}</answer>")


@given(st.lists(st.sampled_from(["A", "B", "green", "red", "", "what"]), min_size=1, max_size=4), st.randoms())
@quick
def test_the_order_of_tags_does_not_matter(answers, random):
    shuffled = random.sample(answers, len(answers))
    one, other = ("".join(f"<answer>{a}</answer>" for a in row) for row in (answers, shuffled))
    assert choice(one) == choice(other)


def test_payloads_are_the_tags_in_order_or_the_reply_less_its_thinking():
    assert payloads("x<answer> a </answer>y<answer>b\n</answer>") == ["a", "b"]
    assert payloads("<think>x</think> a <think>y</think>") == ["a"]


# --- choice: strict -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", ["B", "b", "(B)", "(b)", "B.", "B)", "B:", "B,", " B\n", "(B).", "b)."])
def test_a_letter_alone_is_a_strict_answer(payload):
    assert choice(payload) == Answer(1, "strict")


@pytest.mark.parametrize(
    "payload", ["green", "Green.", " GREEN ", '"green"', "B. green", "(B) green", "B: Green.", "B)green"]
)
def test_the_text_of_an_option_with_or_without_its_letter_is_a_strict_answer(payload):
    assert choice(payload) == Answer(1, "strict")


@pytest.mark.parametrize("payload", ["E", "e", "Z", "(E)", "The answer is E", "1", "\u0412", "\uff22", "\u216d"])
def test_a_letter_beyond_the_options_or_of_another_alphabet_names_none(payload):
    assert choice(payload) == UNPARSED


@pytest.mark.parametrize("payload", ["B. red", "(B) red", "B: red", "B) red", "B.red", "b. red"])
def test_a_letter_with_the_text_of_another_option_is_unparsed(payload):
    assert choice(payload) == UNPARSED


def test_a_letter_with_words_that_are_no_option_is_a_lenient_answer():
    assert choice("B. the one on the left") == Answer(1, "lenient")


def test_options_that_are_letters_are_read_where_letter_and_text_agree():
    assert choice("B", ("A", "B", "C")) == Answer(1, "strict")
    assert choice("B. A", ("B", "A", "C")) == Answer(1, "strict")  # letter B stands before the text "A": option 1 twice


@pytest.mark.parametrize("payload", ["A", "B", "a"])
def test_options_that_are_shuffled_letters_are_unparsed_where_letter_and_text_disagree(payload):
    assert choice(payload, ("B", "A", "C")) == UNPARSED


def test_options_that_are_numbers_are_read_by_their_text_and_not_by_their_place():
    options = ("1", "3", "13", "2")
    assert [choice(o, options).value for o in options] == [0, 1, 2, 3]
    assert choice("There are 3.", options) == Answer(1, "lenient")  # neither the 1 nor the 13


@pytest.mark.parametrize(
    ("payload", "options"),
    [("it is 3.5", ("3", "7")), ("I see 1,300 of them", ("1", "7")), ("it is -3", ("3", "5")), ("v1.3.2", ("3", "5"))],
)
def test_a_number_option_is_not_found_inside_a_longer_number(payload, options):
    assert choice(payload, options) == UNPARSED


def test_options_that_read_the_same_are_unparsed_by_text_and_read_by_letter():
    assert choice("red", ("red", "Red.")) == UNPARSED
    assert choice("B", ("red", "Red.")) == Answer(1, "strict")


@pytest.mark.parametrize("text", ["", "<think>hm</think>", "<answer></answer>"])
def test_an_option_of_punctuation_alone_is_not_named_by_an_empty_reply(text):
    assert choice(text, (".", "?")) == UNPARSED


def test_an_option_with_special_characters_is_taken_literally():
    assert choice("it is c++ (really)", ("C++", "a.c")) == Answer(0, "lenient")
    assert choice("it is abc", ("C++", "a.c")) == UNPARSED  # the dot is a dot


def test_more_options_than_letters_can_still_be_named_by_text():
    options = tuple(f"item {i}" for i in range(30))
    assert [choice(o, options).value for o in options] == list(range(30))
    assert choice("Z", options) == Answer(25, "strict")


def test_a_single_option_can_be_named_and_missed():
    assert choice("A", ("red",)) == Answer(0, "strict")
    assert choice("B", ("red",)) == UNPARSED


# --- choice: lenient, and what must not be guessed ------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The answer is B",
        "The answer is (B).",
        "the correct option is B, since it moves",
        "I choose (B)",
        "answer: B",
        "Answer: B",
        "The answer is: B",
        "The Answer is B",
        "Options are A. red, B. green. The answer is B",
        "**B**",
        "The green one",
    ],
)
def test_one_candidate_among_other_words_is_a_lenient_answer(text):
    assert choice(text) == Answer(1, "lenient")


@pytest.mark.parametrize(
    "text",
    [
        "A B C D",
        "A, B, C, D",
        "(A) and (B)",
        "A. red\nB. green\nC. blue\nD. yellow",
        "B. green or C. blue",
        "A. red, or C",
        "answer: A or B",
        "The answer is A or B",
        "The choice is A/B",
        "The answer is A. No wait, the answer is C",
        "The answer is A. No wait, it's (C)",
        "red or green",
        "red,green",
        "red-green",
        "neither A nor B",
    ],
)
def test_several_named_options_are_unparsed(text):
    assert choice(text) == UNPARSED


@pytest.mark.parametrize(
    "text", ["A man walks", "The answer is A man walking", "It is a man", "a man", "A cat. A dog."]
)
def test_the_article_a_does_not_name_an_option(text):
    assert choice(text) == UNPARSED


@pytest.mark.parametrize(
    "text", ["I think so", "The answer is I think hidden", "So I guess", "I don't know", "I'm not sure"]
)
def test_the_pronoun_i_does_not_name_the_ninth_option(text):
    assert choice(text, NINE) == UNPARSED


def test_the_ninth_option_can_be_named_by_its_letter():
    assert [choice(t, NINE).value for t in ("I", "(I)", "I. tea", "The answer is (I)")] == [8, 8, 8, 8]


@pytest.mark.parametrize("text", ["The answer is not B", "It is not green."])
def test_an_option_that_is_denied_is_not_an_answer(text):
    assert choice(text) == UNPARSED


@pytest.mark.parametrize("text", ["evergreen", "greens", "redgreen", "Option A's colour", "I have no idea"])
def test_part_of_a_word_does_not_name_an_option(text):
    assert choice(text) == UNPARSED


@given(messy_text, st.lists(st.sampled_from(["red", "green", "A", "b", "3", ".", "a man"]), min_size=1, max_size=5))
@quick
def test_any_text_gives_an_option_index_or_is_unparsed(text, options):
    answer = choice(text, options)
    assert answer == UNPARSED or (answer.parsed and answer.value in range(len(options)))


@given(
    st.lists(st.text("abcdefgh", min_size=2, max_size=6), min_size=1, max_size=26, unique=True),
    st.data(),
)
@quick
def test_every_option_is_read_back_from_its_letter_its_text_or_both(options, data):
    index = data.draw(st.integers(0, len(options) - 1))
    letter, text = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index], options[index]
    for payload in (
        letter,
        letter.lower(),
        f"({letter})",
        text,
        text.upper(),
        f"{letter}. {text}",
        f"({letter}) {text}.",
    ):
        assert choice(f"<answer>{payload}</answer>", options) == Answer(index, "strict")


# --- choices: several at a time ---------------------------------------------------------------------------------------


MOODS = ("happy", "sad", "angry, loud", "salt and pepper", "calm")


def choices(text, options=MOODS):
    return parse_answer(text, "choices", options)


@pytest.mark.parametrize(
    "text",
    [
        *("A,B,E", "A, B and E", "A; B; E", "A\nB\nE", "A & B & E", "a,b,e", "(A), (B), (E)", "A., B., E.", "E, A, B"),
        *("A, B, and E", "A, B, E.", "happy, sad, calm", "Calm and Happy and SAD", "A. happy\nB. sad\nE. calm"),
        *("A, sad, (E)", "A,A,B,E,happy", ",A,,B,E,"),
    ],
)
def test_a_list_of_options_is_read_in_any_order_and_each_counts_once(text):
    assert choices(f"<answer>{text}</answer>") == Answer("A,B,E", "strict")
    assert choices(text) == Answer("A,B,E", "strict")


@pytest.mark.parametrize(
    ("text", "value"), [("angry, loud", "C"), ("Salt and pepper.", "D"), ("D. salt and pepper", "D")]
)
def test_an_option_with_a_comma_in_it_is_read_where_it_stands_alone(text, value):
    assert choices(f"<answer>{text}</answer>") == Answer(value, "strict")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The answer is B.", "B"),
        ("The answers are A and E.", "A,E"),
        ("So the answer is A, B, and E", "A,B,E"),  # the last is not lost
        ("answer: A, B & E, I think", "A,B,E"),
        ("The answer is (A), (B)", "A,B"),
        ("The answer is **A**, **E**!", "A,E"),
        ("Options A/E", "A,E"),
        ("The answer is option A and option B", "A,B"),
        ("The answer is A and B, so: answer A, B", "A,B"),
        ("The answer is B: sad", "B"),
        ("I would say (B)", "B"),
        ("The answer is A and a cry", "A"),
    ],
)
def test_letters_listed_in_a_sentence_are_read(text, value):
    assert choices(text) == Answer(value, "lenient")


@pytest.mark.parametrize(
    "text",
    [
        *("", "none", "A, Z", "A, B, maybe", "ABE", "A B E", "sad?!, cheerful", "nobody is sad", "1, 2"),
        *("answer is A or B", "A or B", "(A) is wrong, the answer is B", "**A**, **B**", "The answer is not B"),
        "The answer is A. happy, B. sad",  # of which only A stands in the list
        "The answer is A, sad",
        "The answer is A smile",
        "The answer is A, but it may be that the answer is B",
        "<answer>A</answer> <answer>A,B</answer>",
    ],
)
def test_what_is_no_plain_list_is_unparsed_and_no_part_of_it_is_taken(text):
    assert choices(text) == UNPARSED


chosen_letters = st.lists(st.sampled_from("ABCDE"), min_size=1)


@given(chosen=chosen_letters, mark=st.sampled_from([",", ", ", ";", " and ", "\n", " & "]), data=st.data())
@quick
def test_the_order_and_the_marks_between_play_no_part(chosen, mark, data):
    again = data.draw(st.permutations(chosen))
    assert choices(mark.join(chosen)) == choices(",".join(again)) == Answer(",".join(sorted(set(chosen))), "strict")


@given(messy_text, st.lists(st.text(max_size=5), min_size=1, max_size=26))
@quick
def test_any_text_gives_sorted_letters_of_options_or_is_unparsed(text, options):
    answer = choices(text, options)
    if answer != UNPARSED:
        found = answer.value.split(",")
        assert found == sorted(set(found))
        assert found[-1] <= chr(ord("A") + len(options) - 1)


@given(messy_text)
@quick
def test_what_is_one_option_is_one_of_several_too(text):
    one = choice(text)
    if one.how == "strict":
        assert choices(text, COLOURS) == Answer("ABCD"[one.value], "strict")


def test_several_choices_need_options_and_letters_for_them():
    with pytest.raises(ValueError, match="'choices' needs its options"):
        parse_answer("A", "choices")
    assert choices("x25, x0", [f"x{i}" for i in range(26)]) == Answer("A,Z", "strict")
    with pytest.raises(ValueError, match="at most 26 options, got 27"):
        choices("x26", [f"x{i}" for i in range(27)])  # which no letter names


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ("3", 3.0),
        ("3.", 3.0),
        (" 3,", 3.0),
        ("+5", 5.0),
        ("-3", -3.0),
        ("-0", 0.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("0.50", 0.5),
        ("1,234", 1234.0),
        ("12,345,678.5", 12345678.5),
        ("1e3", 1000.0),
        ("2.5E-1", 0.25),
        ("zero", 0.0),
        ("Three", 3.0),
        ("twelve.", 12.0),
        ("007", 7.0),
    ],
)
def test_a_number_alone_is_a_strict_answer(payload, value):
    assert number(payload) == Answer(value, "strict")


@pytest.mark.parametrize(
    ("text", "value"),
    [("It is 3.", 3.0), ("about 1,234 people", 1234.0), ("x = -2.5", -2.5), ("10%", 10.0), ("3, I repeat: 3.0", 3.0)],
)
def test_one_number_among_words_is_a_lenient_answer(text, value):
    assert number(text) == Answer(value, "lenient")


@pytest.mark.parametrize(
    "text",
    ["3 of 4", "3-4", "1/2", "10:30", "2024-01-02", "1.2.3", "1.000.000", "1 234", "3 or four", "four, not 3", "2+2=4"],
)
def test_several_numbers_are_unparsed(text):
    assert number(text) == UNPARSED


@pytest.mark.parametrize("text", ["1,23", "1,2345", "1,000,00", "12,34,567", "it's 1,2345"])
def test_a_comma_in_the_wrong_place_is_unparsed(text):
    assert number(text) == UNPARSED


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-infinity", "0x10", "1_000", "5km", "3rd", "3\u00b2", "3\u00bd", "+", "-", ".", ",", "e"]
)
def test_what_is_no_plain_number_is_unparsed(text):
    assert number(text) == UNPARSED


@pytest.mark.parametrize("text", ["e5", "-e5", "E4", "+e1", "e-5", "<answer>e4</answer>"])
def test_an_exponent_without_a_number_is_unparsed(text):  # a chess square, say; it must not end the training either
    assert number(text) == UNPARSED


@pytest.mark.parametrize("text", ["1e400", "-1e400", "9" * 400, "it is " + "9" * 400 + " grains"])
def test_a_number_too_big_for_a_float_is_unparsed(text):
    assert number(text) == UNPARSED


@pytest.mark.parametrize("text", ["\u22123", "- 3", "minus 3", "negative 3", "it is \u22123"])
def test_a_minus_in_another_form_is_read_or_refused_but_not_dropped(text):
    assert number(text).value in (-3.0, None)


@pytest.mark.parametrize("text", ["about 1e-5 m", "it is 1e-5", "2.5e-5 s"])
def test_a_number_in_powers_of_ten_is_read_or_refused_but_never_its_exponent(text):
    assert number(text).value in (1e-5, 2.5e-5, None)


@pytest.mark.parametrize("text", ["\u0663", "\uff13", "\u0969"])  # three, in Arabic, full-width and Devanagari digits
def test_a_digit_of_another_script_is_that_digit_or_unparsed(text):
    assert number(text).value in (3.0, None)


@given(st.integers(-(10**15), 10**15))
@quick
def test_every_integer_is_read_back_with_or_without_thousands_commas(i):
    assert number(str(i)) == number(f"{i:,}") == Answer(float(i), "strict")


@given(st.floats(allow_nan=False, allow_infinity=False))
@quick
def test_every_float_is_read_back_as_python_writes_it(x):
    assert number(f"<answer>{x!r}</answer>") == Answer(x, "strict")


@given(messy_text)
@example("e5")
@example("so " + "9" * 400)
@quick
def test_any_text_gives_a_finite_number_or_is_unparsed(text):
    answer = number(text)
    assert answer == UNPARSED or abs(answer.value) < float("inf")


# --- exact text -----------------------------------------------------------------------------------------------------


def test_exact_text_ignores_capitals_spacing_and_surrounding_punctuation():
    assert parse_answer('<answer> "Left:  Cyclist".\n</answer>', "exact") == Answer("left: cyclist", "strict")


@given(messy_text)
@quick
def test_normalising_twice_is_normalising_once(text):
    assert normalize(normalize(text)) == normalize(text)


# --- the door -------------------------------------------------------------------------------------------------------


def test_a_choice_without_options_is_refused():
    with pytest.raises(ValueError, match="needs its options"):
        parse_answer("A", "choice")


def test_an_unknown_problem_type_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ValueError, match=r"'multiple'.*choice, number, exact"):
        parse_answer("A", "multiple", COLOURS)


# --- gold answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "problem_type", "value"),
    [
        ("B", "choice", 1),
        ("(b)", "choice", 1),
        ("Green", "choice", 1),
        ("B. green", "choice", 1),
        ("1,234", "number", 1234.0),
        (".5", "number", 0.5),
        ("two", "number", 2.0),
        ("Left: cyclist", "exact", "left: cyclist"),
        ("D, a", "choices", "A,D"),
        ("blue", "choices", "C"),
    ],
)
def test_a_gold_answer_is_read_into_the_form_of_a_parsed_one(answer, problem_type, value):
    assert gold_answer(answer, problem_type, COLOURS) == value


@pytest.mark.parametrize(
    ("answer", "problem_type"),
    [
        ("E", "choice"),
        ("B. red", "choice"),
        ("the green one", "choice"),
        ("", "exact"),
        ("A or B", "choices"),
        ("the answers are A, B", "choices"),
        ("3 people", "number"),
        ("1,5", "number"),
        ("1e400", "number"),
        ("e5", "number"),
    ],
)
def test_a_gold_answer_that_is_not_plain_is_refused_by_name(answer, problem_type):
    with pytest.raises(ValueError, match=rf"gold answer {answer!r}"):
        gold_answer(answer, problem_type, COLOURS)


@given(st.sampled_from(["choice", "number", "exact"]), st.sampled_from(["(c)", "Blue", "C. blue", "-3,000.50", "9"]))
@quick
def test_a_well_formed_completion_that_repeats_the_gold_answer_is_right(problem_type, answer):
    try:
        gold = gold_answer(answer, problem_type, COLOURS)
    except ValueError:
        reject()
    completion = f"<think>Not A, not 7.</think>\n<answer>\n{answer}\n</answer>"
    assert same_answer(parse_answer(completion, problem_type, COLOURS).value, gold)


# --- sameness -------------------------------------------------------------------------------------------------------


def test_numbers_are_the_same_within_the_tolerance_relative_to_the_gold_one():
    assert same_answer(1000.9, 1000.0)  # 0.9 <= 1e-3 * 1000
    assert not same_answer(1001.1, 1000.0)  # 1.1 > 1
    assert same_answer(-999.5, -1000.0)
    assert not same_answer(999.5, -1000.0)
    assert not same_answer(100.0, 101.0, tolerance=0.0099)  # 1 > 0.0099 * 101 = 0.9999: relative to the second
    assert same_answer(101.0, 100.0, tolerance=0.01)  # 1 <= 0.01 * 100


def test_near_a_gold_zero_the_tolerance_is_absolute():
    assert same_answer(-0.0, 0.0)
    assert same_answer(0.0009, 0.0)
    assert not same_answer(0.0011, 0.0)


@pytest.mark.parametrize("other", [None, 0, 0.0, "", "none"])
def test_an_unparsed_answer_is_the_same_as_nothing_not_even_another(other):
    assert not same_answer(None, other)
    assert not same_answer(other, None)


def test_options_and_texts_are_the_same_only_if_equal():
    assert same_answer(2, 2)
    assert not same_answer(2, 3)  # the tolerance is for numbers, not for indices
    assert not same_answer(1000, 1001)
    assert same_answer("red", "red")
    assert not same_answer("red", "red car")


# --- speed: no pattern may go back over a long text again and again ---------------------------------------------------


def seconds_to_read(text):
    start = time.process_time()
    for problem_type in ("choice", "choices", "number", "exact", "ocr", "free", "location"):
        parse_answer(text, problem_type, COLOURS)
    return time.process_time() - start


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "unit",
    [
        *("a", " ", "\n", "1", "1e", "1.", ",111", "-", "(", "(A)", "<", "B. ", "red ", "answer ", "</think>"),
        *("<answer>", "<think>", "<answer>B</answer>", "answer" + 1000 * " "),
    ],
    ids=lambda unit: repr(unit[:10]),
)
def test_a_huge_reply_of_one_repeated_piece_is_read_at_once(unit):
    assert seconds_to_read(unit * (HUGE // len(unit))) < 1


@pytest.mark.timeout(5)
@pytest.mark.parametrize("head", ["answer", "the answer is", "B.", "(B", "<answer>option:", "<think>", "1", "-"])
@pytest.mark.parametrize("filler", [" ", "1", "a"])
def test_a_huge_run_after_a_promising_start_is_read_at_once(head, filler):
    assert seconds_to_read(head + filler * HUGE + "x</answer>") < 1
