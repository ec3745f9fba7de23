"""How alike two texts are: word error rate and ROUGE, for tens of thousands of completions a minute.

The figures are those of torchmetrics, which the tests hold them to. Its tables in pure Python take minutes for 10,000
pairs of 100 words; here a row of the table is one integer with a bit for each word of the gold text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from avatar.answers import words


def word_accuracy(text: str, gold: str) -> float:
    r"""One minus the word error rate, not below 0.

    .. math:: \max(0, 1 - D / |g|)

    D counts the words to put in, take out or change. Words are what blanks part; capitals and punctuation count. Texts
    that differ by :math:`|g|` words in length get 0 at once: their D is no smaller.

    Args:
        text: What was read.
        gold: What stands there, at least one word.
    """
    said, wanted = text.split(), gold.split()
    if abs(len(said) - len(wanted)) >= len(wanted):
        return 0.0
    return max(0.0, 1.0 - edit_distance(said, wanted) / len(wanted))


def rouge(text: str, gold: str) -> float:
    r"""Mean F of ROUGE-1, ROUGE-2 and ROUGE-L over :func:`avatar.answers.words`, without a stemmer.

    .. math:: F = 2 P R / (P + R) = 2 m / (|x| + |g|)

    with m the words, or pairs of neighbours, that both hold (each as often as the rarer of both counts), or the length
    of the longest common subsequence. A gold text of one word has no pairs: ROUGE-2 is left out of its mean, so that
    the gold text itself always gets 1. A text without words gets 0.

    Args:
        text: What was said.
        gold: What is true, at least one word.

    Reference:
        Lin, ROUGE: A Package for Automatic Evaluation of Summaries, W04-1013.
    """
    said, wanted = words(text), words(gold)
    scores = [rouge_n(said, wanted, 1), rouge_l(said, wanted)]
    if len(wanted) > 1:
        scores.append(rouge_n(said, wanted, 2))
    return sum(scores) / len(scores)


def rouge_n(said: Sequence[str], wanted: Sequence[str], n: int) -> float:
    """F of the n-grams of two lists of words; 0 where either has none."""
    num = max(0, len(said) - n + 1) + max(0, len(wanted) - n + 1)
    grams = Counter(zip(*(wanted[i:] for i in range(n)), strict=False))
    found = Counter(gram for gram in zip(*(said[i:] for i in range(n)), strict=False) if gram in grams)
    return 2.0 * (grams & found).total() / num if num else 0.0


def rouge_l(said: Sequence[str], wanted: Sequence[str]) -> float:
    """F of the longest common subsequence of two lists of words; 0 where either is empty."""
    num = len(said) + len(wanted)
    return 2.0 * longest_common_subsequence(said, wanted) / num if num else 0.0


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest sequence of words that both hold in this order, not necessarily side by side.

    A row of the table rises by 0 or 1 from column to column; a bit of ``row`` is 0 where it rises. O(|a| |b| / 64).

    Args:
        a: Any number of words.
        b: Preferably the shorter one: a bit each.

    Reference:
        Hyyro, Bit-parallel LCS-length computation revisited, AWOCA 2004; Crochemore et al., A fast and practical
        bit-vector algorithm for the longest common subsequence problem, IPL 80 (2001).
    """
    places = _places(b)
    full = row = (1 << len(b)) - 1
    for place in (places[word] for word in a if word in places):
        here = row & place
        row = ((row + here) | (row - here)) & full
    return len(b) - row.bit_count()


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Fewest words to put in, take out or change to make ``a`` of ``b`` (Levenshtein).

    Neighbours in a column of the table differ by -1, 0 or 1: ``up`` has the bits of +1, ``down`` those of -1.
    O(|a| |b| / 64).

    Args:
        a: Any number of words.
        b: A bit each.

    Reference:
        Myers, A fast bit-vector algorithm for approximate string matching, JACM 46 (1999), in the form of Hyyro,
        A bit-vector algorithm for computing Levenshtein and Damerau edit distances, NJC 10 (2003).
    """
    if not b:
        return len(a)
    places, last, full = _places(b), 1 << (len(b) - 1), (1 << len(b)) - 1
    up, down, distance = full, 0, len(b)
    for word in a:
        place = places.get(word, 0)
        diagonal = ((((place & up) + up) ^ up) | place | down) & full
        right, left = down | (full & ~(diagonal | up)), up & diagonal
        distance += bool(right & last) - bool(left & last)
        right, left = (right << 1 | 1) & full, (left << 1) & full
        up, down = left | (full & ~(diagonal | right)), right & diagonal
    return distance


def _places(sequence: Sequence[str]) -> dict[str, int]:
    """Of each word, the bits of where it stands."""
    places: dict[str, int] = {}
    for i, word in enumerate(sequence):
        places[word] = places.get(word, 0) | 1 << i
    return places
