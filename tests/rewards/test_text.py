"""Word error rate and ROUGE against torchmetrics, whose tables are slow and plain."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import word_error_rate
from torchmetrics.functional.text.rouge import rouge_score

from avatar.answers import words
from avatar.rewards.text import edit_distance, longest_common_subsequence, rouge, rouge_l, rouge_n, word_accuracy

few = st.lists(st.sampled_from(["a", "b", "the", "The", "dog's", "dog", "x-1", "...", "3.5"]), max_size=90).map(
    " ".join
)
odd = st.text(st.sampled_from("ab Zß é\u0301İ第12回,.!?-_'\"\t\n\u2028\u200bﬁ½ﷺहिन्दी🐕"), max_size=60)
texts = st.one_of(few, odd, st.text(max_size=60))


def by_torchmetrics(text, gold, **tokens):
    keys = ("rouge1", "rouge2", "rougeL")
    found = rouge_score(text, gold, rouge_keys=keys, **tokens)
    return [float(found[f"{key}_fmeasure"]) for key in keys]


def by_us(text, gold):
    said, wanted = words(text), words(gold)
    return [rouge_n(said, wanted, 1), rouge_n(said, wanted, 2), rouge_l(said, wanted)]


@given(texts, texts)
@settings(max_examples=300, deadline=None)
def test_rouge_is_that_of_torchmetrics_over_our_words(text, gold):
    reference = by_torchmetrics(text, gold, normalizer=lambda t: t, tokenizer=words)
    assert by_us(text, gold) == pytest.approx(reference, abs=1e-6)


@given(st.one_of(few, st.text(st.characters(codec="ascii"), max_size=80)), few)
@settings(max_examples=200, deadline=None)
def test_on_ascii_our_words_are_those_of_torchmetrics_too(text, gold):
    assert by_us(text, gold) == pytest.approx(by_torchmetrics(text, gold), abs=1e-6)
    three = by_torchmetrics(text, gold)
    if len(words(gold)) > 1:
        assert rouge(text, gold) == pytest.approx(sum(three) / 3, abs=1e-6)


@given(texts, texts.filter(str.split))
@settings(max_examples=300, deadline=None)
def test_word_accuracy_is_one_less_the_word_error_rate_of_torchmetrics(text, gold):
    assert word_accuracy(text, gold) == pytest.approx(max(0.0, 1.0 - float(word_error_rate(text, gold))), abs=1e-6)


def longest_by_table(a, b):
    rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            rows[i + 1][j + 1] = rows[i][j] + 1 if x == y else max(rows[i][j + 1], rows[i + 1][j])
    return rows[-1][-1]


def distance_by_table(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


sequences = st.lists(st.sampled_from("abcd"), max_size=150)  # beyond two machine words


@given(sequences, sequences)
@settings(max_examples=300, deadline=None)
def test_bits_count_what_the_tables_count(a, b):
    assert longest_common_subsequence(a, b) == longest_by_table(a, b) == longest_common_subsequence(b, a)
    assert edit_distance(a, b) == distance_by_table(a, b) == edit_distance(b, a)


@given(texts.filter(words))
@settings(max_examples=100, deadline=None)
def test_the_gold_text_itself_gets_one(text):
    assert rouge(text, text) == 1.0
    assert word_accuracy(text, text) == 1.0


@given(texts, texts.filter(words))
@settings(max_examples=100, deadline=None)
def test_scores_are_shares(text, gold):
    assert 0.0 <= rouge(text, gold) <= 1.0
    assert 0.0 <= word_accuracy(text, gold) <= 1.0


def test_rouge_by_hand():
    # said: the cat sat on the mat (6); gold: the cat lay on a mat (6)
    # words both hold: the (once), cat, on, mat = 4: 2 * 4 / 12; pairs both hold: "the cat" = 1 of 5: 2 * 1 / 10
    # common subsequence: the cat on mat = 4: 2 * 4 / 12
    scores = by_us("The cat sat on the mat.", "the cat lay on a mat")
    assert scores == pytest.approx([2 / 3, 1 / 5, 2 / 3])
    assert rouge("The cat sat on the mat.", "the cat lay on a mat") == pytest.approx((2 / 3 + 1 / 5 + 2 / 3) / 3)


def test_a_gold_text_of_one_word_has_no_pairs_to_hold():
    assert rouge("dog", "dog") == 1.0  # and not 2/3, for want of a pair
    assert rouge("the dog", "dog") == pytest.approx(2 / 3)  # 2 * 1 / (2 + 1), by words and by sequence
    assert rouge("dog", "a dog") == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)  # here the gold text has one


def test_repeating_a_word_of_the_gold_text_does_not_pay():
    assert rouge("dog " * 100, "a dog barks") < 0.02  # 2 * 1 / 103 by words and sequence, 0 by pairs
    assert word_accuracy("dog " * 100, "a dog barks") == 0.0


def test_order_counts_in_pairs_and_in_the_sequence():
    assert rouge("c b a", "a b c") == pytest.approx((1 + 0 + 1 / 3) / 3)


def test_a_text_of_twice_the_words_is_known_to_be_wrong_without_a_table():
    class NoTable(str):
        __slots__ = ()

        def __hash__(self):
            raise AssertionError("a table was begun")

    class Text(str):
        __slots__ = ()

        def split(self):
            return [NoTable(w) for w in str.split(self)]

    assert word_accuracy("a b c d", Text("a b")) == 0.0  # 2 words too many of 2
    with pytest.raises(AssertionError, match="begun"):
        word_accuracy("a b c", Text("a b"))


def test_nothing_has_nothing_in_common():
    assert by_us("", "") == by_us("", "a b") == by_us("a b", "") == [0.0, 0.0, 0.0]
    assert (edit_distance([], []), edit_distance(["a"], []), edit_distance([], ["a", "b"])) == (0, 1, 2)
    assert longest_common_subsequence([], []) == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Don't stop, e-mail me_too!", ["don", "t", "stop", "e", "mail", "me", "too"]),
        ("Café CAFE\u0301", ["caf\u00e9", "caf\u00e9"]),  # one letter or letter and accent: the same
        ("\uff13 \ufb01sh", ["3", "fish"]),  # a full-width digit, a ligature
        ("\u7b2c12\u56de", ["\u7b2c", "12", "\u56de"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", ["\u0939\u093f\u0928\u094d\u0926\u0940"]),  # one word with its vowels
        ("?! \u2026 \u200b", []),
    ],
)
def test_words_are_runs_of_letters_and_digits_of_any_script(text, wanted):
    assert words(text) == wanted
