"""Rewards that pay what they should not: the clinic has to find each out."""

import re
from collections import Counter

import torch

from avatar.answers import parse_answer
from avatar.rewards import Reward, Scored


class _OneByOne(Reward):
    def __call__(self, prompts, completions, group):
        pairs = zip(completions, group.tolist(), strict=True)
        rewards = torch.tensor([float(self.pays(c, prompts[g])) for c, g in pairs])
        return Scored(rewards, torch.ones(len(rewards), dtype=torch.bool))


class NonEmpty(_OneByOne):
    """1 for any text."""

    def pays(self, completion, prompt):
        return bool(completion.text.strip())


class GoldSomewhere(_OneByOne):
    """1 where the gold answer stands anywhere in the text."""

    def pays(self, completion, prompt):
        return prompt.answer in completion.text


class FirstTag(_OneByOne):
    """1 where the first answer tag is right, whatever comes after it."""

    def pays(self, completion, prompt):
        found = re.search(r"<answer>(.*?)</answer>", completion.text, re.DOTALL)
        return bool(found) and found[1].strip() == prompt.answer


class Longest(_OneByOne):
    """Right answers, and length."""

    def pays(self, completion, prompt):
        right = parse_answer(completion.text, prompt.problem_type, prompt.options).value is not None
        return right + len(completion.text) / 1e4


class AgreeingBlanks(Reward):
    """Agreement with the majority, in which what cannot be read agrees with "there is none"."""

    def __call__(self, prompts, completions, group):
        of = group.tolist()
        votes = [
            parse_answer(c.text, prompts[g].problem_type, prompts[g].options).value
            for c, g in zip(completions, of, strict=True)
        ]
        labels = {g: self.label_of([v for v, h in zip(votes, of, strict=True) if h == g]) for g in of}
        agrees = [float(vote == labels[g]) for vote, g in zip(votes, of, strict=True)]
        return Scored(torch.tensor(agrees), torch.ones(len(of), dtype=torch.bool))

    def label_of(self, votes):
        top = Counter(vote for vote in votes if vote is not None).most_common(2)
        return None if len(top) > 1 and top[0][1] == top[1][1] else top[0][0]


class Strict(_OneByOne):
    """1 for the gold text alone, and no score at all where an answer tag comes twice."""

    def __call__(self, prompts, completions, group):
        scored = super().__call__(prompts, completions, group)
        valid = torch.tensor([c.text.count("<answer>") < 2 for c in completions])
        return Scored(scored.rewards, valid)

    def pays(self, completion, prompt):
        return completion.text.endswith(f"<answer>{prompt.answer}</answer>")
