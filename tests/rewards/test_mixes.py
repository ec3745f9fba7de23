"""The mixes of the paper's stages and of the release, computed by hand on two groups of different size."""

import pytest
import torch

from avatar.rewards import Accuracy, Format, Reward, Scored, SelfConsistency, Weighted, score
from avatar.types import Completion, Prompt

PROMPTS = [
    Prompt("count", [], (), "10", "number"),
    Prompt("colour", [], (), "green", "choice", ("red", "green", "blue")),
]
GOOD = "<think>I look and listen</think><answer>{}</answer>"
# five completions of the first prompt, three of the second, out of order; what each is by the three plain rewards:
ROWS = [  # text, group                      form   release   paper (1 - |x - 10| / 10)   agrees with most
    (GOOD.format("10"), 0),  #               good   1         1                           no (10 once)
    (GOOD.format("B"), 1),  #                good   1         1                           yes (B, green of three)
    (GOOD.format("8"), 0),  #                good   0         0.8                         yes (8 twice)
    ("<answer>8</answer>", 0),  #            bad    0         0.8                         yes
    (GOOD.format("green"), 1),  #            good   1         1                           yes
    ("no answer at all", 0),  #              bad    0         0 (unparsed)                no (unparsed)
    ("A", 1),  #                             bad    0         0                           no
    (GOOD.format("25"), 0),  #               good   0         0 (1 - 1.5 < 0)             no
]
GROUP = torch.tensor([group for _, group in ROWS])
FORM = [1, 1, 1, -1, 1, -1, -1, 1]  # of the paper: +1 / -1
RELEASE = [1, 1, 0, 0, 1, 0, 0, 0]
PAPER = [1, 1, 0.8, 0.8, 1, 0, 0, 0]
SELF = [0, 1, 1, 1, 1, 0, 0, 0]


class FourCriteria(Reward):
    """The mean of four given scores; none for the last completion, whose judgement failed."""

    SCORES = torch.tensor(
        [
            [1.0, 1.0, 1.0, 1.0],  # 1
            [0.5, 1.0, 0.0, 0.5],  # 0.5
            [0.2, 0.4, 0.6, 0.8],  # 0.5
            [0.0, 0.0, 0.0, 0.0],  # 0
            [1.0, 0.9, 0.8, 0.5],  # 0.8
            [0.0, 0.0, 0.1, 0.3],  # 0.1
            [0.25, 0.0, 0.0, 0.75],  # 0.25
            [9.0, 9.0, 9.0, 9.0],
        ]
    )

    def __call__(self, prompts, completions, group):
        names = ("audio", "visual", "location", "caption")
        valid = torch.arange(len(completions)) < len(completions) - 1
        return Scored(self.SCORES.mean(-1), valid, dict(zip(names, self.SCORES.T, strict=True)))


def total(*rewards):
    completions = [Completion(torch.tensor([1]), torch.zeros(1), text, True) for text, _ in ROWS]
    return score(rewards, PROMPTS, completions, GROUP)


def test_the_parts_are_what_the_table_says():
    parts = total(Format(penalty=-1.0), Accuracy(), Accuracy(number="paper", label="dense"), SelfConsistency()).parts
    wanted = {"format": FORM, "accuracy": RELEASE, "dense": PAPER, "selfconsistency": SELF}
    for name, values in wanted.items():
        torch.testing.assert_close(parts[name], torch.tensor(values, dtype=torch.float32))


def test_stage_1_is_half_format_and_half_accuracy():
    scored = total(Format(0.5, penalty=-1.0), Accuracy(0.5, number="paper"))
    # 0.5 + 0.5, 0.5 + 0.5, 0.5 + 0.4, -0.5 + 0.4, 0.5 + 0.5, -0.5, -0.5, 0.5
    assert scored.rewards.tolist() == pytest.approx([1.0, 1.0, 0.9, -0.1, 1.0, -0.5, -0.5, 0.5])
    assert scored.valid.all()
    assert scored.earned.tolist() == [True, True, True, True, True, False, False, False]


def test_stage_2_adds_self_consistency():
    scored = total(Format(0.2, penalty=-1.0), Accuracy(0.4, number="paper"), SelfConsistency(0.4))
    wanted = [
        0.6,  # 0.2 + 0.4 + 0
        1.0,  # 0.2 + 0.4 + 0.4
        0.92,  # 0.2 + 0.4 * 0.8 + 0.4
        0.52,  # -0.2 + 0.4 * 0.8 + 0.4
        1.0,  # 0.2 + 0.4 + 0.4
        -0.2,  # -0.2 + 0 + 0
        -0.2,  # likewise
        0.2,  # 0.2 + 0 + 0
    ]
    assert scored.rewards.tolist() == pytest.approx(wanted)
    as_sum = total(Weighted([Format(0.5, penalty=-1.0), Accuracy(number="paper"), SelfConsistency()], weight=0.4))
    assert as_sum.rewards.tolist() == pytest.approx(wanted)  # 0.4 * 0.5 = 0.2


def test_stage_3_is_half_format_and_half_judge():
    scored = total(Format(0.5, penalty=-1.0), FourCriteria(0.5))
    # 0.5 + 0.5, 0.5 + 0.25, 0.5 + 0.25, -0.5 + 0, 0.5 + 0.4, -0.5 + 0.05, -0.5 + 0.125; the last has no judgement
    wanted = [1.0, 0.75, 0.75, -0.5, 0.9, -0.45, -0.375]
    assert scored.rewards[:7].tolist() == pytest.approx(wanted)
    assert scored.valid.tolist() == [True] * 7 + [False]
    assert scored.parts["fourcriteria"][4] == pytest.approx(0.8)
    assert scored.parts["fourcriteria/visual"][:3].tolist() == pytest.approx([1.0, 1.0, 0.4])
    assert scored.parts["fourcriteria/visual"][7].isnan()


def test_the_release_gives_format_half_and_accuracy_the_rest():
    scored = total(Format(0.5), Accuracy())
    # 0.5 + 1, 0.5 + 1, 0.5 + 0, 0 + 0, 0.5 + 1, 0, 0, 0.5
    assert scored.rewards.tolist() == [1.5, 1.5, 0.5, 0.0, 1.5, 0.0, 0.0, 0.5]


@pytest.mark.parametrize("other", [SelfConsistency(), FourCriteria()])
def test_the_release_puts_self_consistency_or_the_judge_in_the_place_of_accuracy(other):
    scored = total(Format(0.5), other)
    form = [0.5, 0.5, 0.5, 0.0, 0.5, 0.0, 0.0, 0.5]
    part = SELF if other.name == "selfconsistency" else [1.0, 0.5, 0.5, 0.0, 0.8, 0.1, 0.25, 0.0]
    assert scored.rewards.tolist() == pytest.approx([f + p for f, p in zip(form, part, strict=True)])
