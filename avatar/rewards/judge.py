"""A frozen vision-language model behind an endpoint judges what was seen, heard and placed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from avatar.answers import parse_answer
from avatar.chat import ChatClient, ChatError, ChatReply, ChatRequest
from avatar.errors import AvatarError, ConfigError
from avatar.rewards.base import REWARDS, Reward, Scored
from avatar.rewards.format import is_well_formed
from avatar.rewards.judging.disguise import disguise
from avatar.rewards.judging.injection import addresses_judge
from avatar.rewards.judging.request import CRITERIA, VERDICT, demand_caption, judge_messages, media_parts
from avatar.types import Completion, Prompt


@REWARDS.register()
class Judge(Reward):
    r"""The mean of four scores in 0..1 from a judge that sees frames, audio caption, question, gold answer, completion.

    .. math:: r = (s_{audio} + s_{visual} + s_{location} + s_{caption}) / 4

    The scores are ``audio_grounding``, ``visual_identification``, ``location_accuracy`` and ``caption_correctness``;
    they are the ``parts`` of what is returned, with ``refused``, 1 where a rule stood in for the judge.

    A completion gets 0, and the judge is not asked, where it is malformed, unfinished, longer than ``max_chars``,
    without an answer that can be read, or where it speaks to the judge (see :mod:`avatar.rewards.judging.injection` and
    :mod:`avatar.rewards.judging.disguise`). This is ours, not the paper's, as is that the completion is quoted as data:
    what pays with such a judge is to talk it round.

    Args:
        client: The endpoint. Equal requests are sent once; with its ``cache``, never again.
        weight: Share of this reward in the sum.
        label: Another name than ``judge``.
        num_frames: Frames that are sent, evenly over the clips; fewer where there are no more.
        on_failure: A judgement that could not be had is left out of training (``skip``), counts 0 with a warning
            (``zero``), or ends the run (``stop``).
        max_chars: Longer completions are not judged.
        need_caption: Whether a prompt with sound must say in words what is heard.
        max_side: Longer side of the frames that are sent, in pixels.

    Attributes:
        counts: Judgements so far: ``asked``, of these ``cached`` and ``failed``, and ``refused`` by a rule.

    Raises:
        ConfigError: An argument is out of range.

    Reference:
        AVATAR, arXiv 2508.03100, stage 3.
    """

    looks_at_group = False

    def __init__(
        self,
        client: ChatClient,
        weight: float = 1.0,
        label: str | None = None,
        num_frames: int = 8,
        on_failure: Literal["skip", "zero", "stop"] = "skip",
        max_chars: int = 8000,
        need_caption: bool = True,
        max_side: int = 512,
    ) -> None:
        super().__init__(weight, label)
        if on_failure not in ("skip", "zero", "stop"):
            raise ConfigError(f"on_failure must be skip, zero or stop, got {on_failure!r}")
        for name, value in (("num_frames", num_frames), ("max_chars", max_chars), ("max_side", max_side)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self.client, self.num_frames, self.on_failure = client, num_frames, on_failure
        self.max_chars, self.need_caption, self.max_side = max_chars, need_caption, max_side
        self.counts: Counter[str] = Counter(asked=0, cached=0, failed=0, refused=0)

    def check(self, prompt: Prompt) -> None:
        """Whether the judge can be reached, serves its model, and ``prompt`` brings what it is to be told.

        Raises:
            ConfigError: It cannot, or does not.
        """
        if self.need_caption:
            demand_caption(prompt)
        self.client.check()

    def refusal(self, completion: Completion, prompt: Prompt) -> str | None:
        """Why ``completion`` gets 0 without a judge, in a few words; None where the judge is asked."""
        text = completion.text
        if not completion.finished:
            return "unfinished"
        if len(text) > self.max_chars:
            return "too long"
        if not is_well_formed(text):
            return "malformed"
        if not parse_answer(text, prompt.problem_type, prompt.options).parsed:
            return "no answer"
        return addresses_judge(text) or disguise(text, prompt)

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Completion], group: Tensor) -> Scored:
        """[N].

        Raises:
            AvatarError: A judgement could not be had and ``on_failure`` is ``stop``.
            ConfigError: A prompt has sound and no audio caption, and ``need_caption`` holds.
        """
        if self.need_caption:
            for prompt in prompts:
                demand_caption(prompt)
        pairs = list(zip(completions, group.tolist(), strict=True))
        asked = [i for i, (completion, g) in enumerate(pairs) if self.refusal(completion, prompts[g]) is None]
        media = {g: media_parts(prompts[g], self.num_frames, self.max_side) for g in {pairs[i][1] for i in asked}}
        chats = [judge_messages(prompts[g], pairs[i][0].text, media[g]) for i in asked for g in [pairs[i][1]]]
        replies = self.client.ask([ChatRequest(chat, VERDICT) for chat in chats])
        self._count(replies, len(pairs))
        return self._scored(asked, replies, len(pairs))

    def _count(self, replies: Sequence[ChatReply | ChatError], num: int) -> None:
        """Count, and say or stop where judgements could not be had."""
        failures = [reply for reply in replies if isinstance(reply, ChatError)]
        cached = sum(isinstance(reply, ChatReply) and reply.cached for reply in replies)
        self.counts.update(asked=len(replies), cached=cached, failed=len(failures), refused=num - len(replies))
        if not failures:
            return
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(f.kind for f in failures).items())
        what = (
            f"the judge {self.client.model!r} at {self.client.endpoint} gave no verdict on {len(failures)} of "
            f"{len(replies)} completions ({kinds}); the first: {failures[0]}"
        )
        if self.on_failure == "stop":
            raise AvatarError(f"{what}. Bring it back and resume, or give the judge on_failure: skip")
        if self.on_failure == "zero":
            warnings.warn(f"{what}. They count as 0, as on_failure: zero has it", stacklevel=3)
        elif len(failures) == len(replies):
            warnings.warn(f"{what}. Nothing of this batch that needs a judge is trained on", stacklevel=3)

    def _scored(self, asked: Sequence[int], replies: Sequence[ChatReply | ChatError], num: int) -> Scored:
        valid, refused = torch.ones(num, dtype=torch.bool), torch.ones(num)
        table = torch.zeros(num, len(CRITERIA))  # [N, 4]
        for i, reply in zip(asked, replies, strict=True):
            refused[i] = 0.0
            if isinstance(reply, ChatReply):
                table[i] = torch.tensor([float(reply.data[name]) for name in CRITERIA])  # type: ignore[index]
            else:
                valid[i] = self.on_failure == "zero"
        shown = torch.where(valid[:, None], table, torch.nan)
        parts = {name: shown[:, k] for k, name in enumerate(CRITERIA)}
        return Scored(table.mean(-1), valid, {**parts, "refused": torch.where(valid, refused, torch.nan)})
