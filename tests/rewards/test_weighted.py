import pytest
import torch

from avatar.errors import ConfigError
from avatar.rewards import REWARDS, Accuracy, Format, Reward, Scored, SelfConsistency, Weighted, leaves_of, score
from avatar.types import Completion, Prompt

PROMPTS = [Prompt("a", [], (), "3", "number"), Prompt("b", [], (), "B", "choice", ("red", "green"))]
GOOD = "<think>x</think><answer>{}</answer>"
TEXTS = [GOOD.format(3), GOOD.format(4), "3", GOOD.format("B"), "A"]
GROUP = torch.tensor([0, 0, 0, 1, 1])


class Half(Reward):
    """Half to all, where it can be given."""

    def __init__(self, valid, **kwargs):
        super().__init__(**kwargs)
        self.valid = torch.tensor(valid)

    def __call__(self, prompts, completions, group):
        return Scored(torch.full((len(completions),), 0.5), self.valid, {"finer": torch.arange(len(completions)) * 1.0})


def written():
    return [Completion(torch.tensor([1]), torch.zeros(1), text, True) for text in TEXTS]


def total(*rewards):
    return score(rewards, PROMPTS, written(), GROUP)


def assert_same(ours, wanted):
    torch.testing.assert_close(ours.rewards, wanted.rewards)
    assert ours.valid.tolist() == wanted.valid.tolist()
    assert ours.earned.tolist() == wanted.earned.tolist()
    assert list(ours.parts) == list(wanted.parts)
    for name, part in wanted.parts.items():
        torch.testing.assert_close(ours.parts[name], part, equal_nan=True)


def test_a_sum_is_its_leaves_each_with_the_product_of_the_weights_above():
    half = [True, True, False, True, True]
    inner = Weighted([Accuracy(0.5), SelfConsistency(0.25)], weight=2.0)
    nested = Weighted([Format(1.0), inner, Half(half, weight=0.1)], weight=0.5)
    flat = [Format(0.5), Accuracy(0.5), SelfConsistency(0.25), Half(half, weight=0.05)]  # 0.5 * 2 * 0.5 and so on
    assert [(w, r.name) for w, r in nested.leaves()] == [
        (0.5, "format"), (0.5, "accuracy"), (0.25, "selfconsistency"), (0.05, "half"),
    ]  # fmt: skip
    assert_same(total(nested), total(*flat))
    assert_same(total(nested, Half(half, label="other")), total(*flat, Half(half, label="other")))


def test_a_sum_of_weight_zero_trains_nothing_and_makes_nothing_invalid():
    shown = Weighted([Half([False] * 5)], weight=0.0)
    scored = total(Format(), shown)
    assert scored.valid.all()
    assert scored.rewards.tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert scored.parts["half"].isnan().all()
    assert not scored.earned.any()


def test_asked_by_itself_it_gives_the_sum_without_its_own_weight():
    scored = Weighted([Format(0.5), Accuracy()], weight=7.0)(PROMPTS, written(), GROUP)
    # 3 well-formed: 0.5 + 1; 4 well-formed: 0.5; 3: 1; B well-formed: 0.5 + 1; A: 0
    assert scored.rewards.tolist() == [1.5, 0.5, 1.0, 1.5, 0.0]
    assert sorted(scored.parts) == ["accuracy", "format"]
    assert scored.valid.all()


def test_a_name_stands_for_one_leaf_however_deep():
    with pytest.raises(ConfigError, match="two rewards are called 'format'"):
        total(Format(), Weighted([Weighted([Format()])]))
    assert len(leaves_of([Format(), Weighted([Weighted([Format(label="form")])])])) == 2
    assert len(leaves_of([Weighted([Format()]), Weighted([Accuracy()])])) == 2  # a sum's own name names no column


def test_nothing_to_add_up_is_refused():
    with pytest.raises(ConfigError, match=r"Weighted\.rewards is empty"):
        Weighted([])


def test_it_is_known_by_its_name():
    assert REWARDS["Weighted"] is Weighted
    assert Weighted([Format()], label="stage2").name == "stage2"
