"""Small benchmarks and graded replies, for tests of figures and tables."""

from typing import ClassVar

import torch

from avatar.benchmarks import Benchmark, Grade, Graded, Question


class Plain(Benchmark):
    """The mean over questions."""

    title = "Plain"
    source = "nowhere"
    num_records = 4
    media_kinds = ("video",)
    groups = ("kind", "topic")
    default_root = "data/plain"
    published: ClassVar = {"Qwen2.5-Omni-7B": 44.2, "+ GRPO": 45.4, "+ AVATAR": 49.1}
    elsewhere: ClassVar = {"Qwen2.5-Omni-7B (its makers)": 56.13}

    def prompts(self, root, recipe, swap=None):
        raise NotImplementedError

    def question(self, prompt):
        raise NotImplementedError


class Macro(Plain):
    """The mean of the means of each ``qtype`` that is drawn."""

    title = "Macro"

    def overall(self, graded, weights):
        means = []
        for name in sorted({g.question.qtype for g in graded}):
            places = torch.tensor([i for i, g in enumerate(graded) if g.question.qtype == name])
            means.append(super().overall([graded[i] for i in places], weights[..., places]))
        return torch.stack(means).nanmean(0)


class Once(Plain):
    """An ``ident`` counts once, the first time; with a further figure."""

    title = "Once"

    def settle(self, graded, scoring):
        seen, found = set(), []
        for one in graded:
            again = one.question.ident in seen
            seen.add(one.question.ident)
            found.append(Graded(one.question, Grade(one.grade.score, "", "strict", counted=not again)))
        return found

    def figures(self, graded):
        return {"right": float(sum(g.grade.score for g in graded))}


def reply(key, score, clip="", kind="a", topic=(), how="strict", counted=True, gold="A", **more):
    groups = {"kind": kind, "topic": topic}
    question = Question(str(key), "", gold, options=("x", "y"), groups=groups, shown=clip, **more)
    return Graded(question, Grade(score, "", how, counted))


def replies(scores, **more):
    return [reply(f"q{i}", score, **more) for i, score in enumerate(scores)]
