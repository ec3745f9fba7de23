import pytest

from avatar.benchmarks.rules.number_words import word_to_num


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("٣", 3),  # digits of any script
        ("zero", 0),
        ("about twelve", 12),
        ("Twenty-one dogs", 21),
        ("seven dogs and two cats", 9),  # two words are added
        ("two hundred", 200),  # or multiplied
        ("hundred two", 200),  # in any order
        ("one hundred and four", 104),
        ("two hundred thirty one", 231),  # 2 * 100 + 30 + 1
        ("five six seven", 37),  # 5 * 6 + 7, of whatever three words
        ("one two three four five", 1),  # of five the first
        ("two million three thousand and five", 2_003_005),
        ("thousand", 1000),
        ("two thousand", 2000),
        ("one billion two thousand", 1_000_003_002),  # 1e9 + 2 * 1000, and once more 2 + 1000
        ("three point five", 3.5),
        ("one point two zero", 1.2),
        ("one point ten", 1),  # ten is no digit
        ("point five", 0.5),
        ("point", 0),
    ],
)
def test_words_make_the_number_that_the_package_makes_of_them(text, number):
    assert word_to_num(text) == pytest.approx(number, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        *("", "  12", "12.", "3.5", "about 12", "4-5", "five.", "none", "²"),
        *("thousand five", "two million one billion", "one thousand two thousand", "one point two point three"),
        pytest.param("9" * 5000, id="long"),
    ],
)
def test_what_names_no_number_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011
        word_to_num(text)
