"""The objective: clipped policy gradient and KL to the reference, as pure functions of tensors.

Shapes: N completions, T completion tokens. All log-probs in nats, fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from avatar.errors import ConfigError

MAX_LOG_RATIO = 50.0  # e^50 is finite in fp32, and so is its product with any advantage
MAX_FRESH_KL, MAX_REPLAYED_KL = 20.0, 5.0  # bounds of log(pi_ref / pi_theta) in the KL term, in nats

# -- aggregation: [N, T] to one number ---------------------------------------------------------------------------------


def completion_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each completion's tokens, then over completions; those without a token are left out.

    Args:
        values: [N, T].
        mask: [N, T] bool.

    Returns:
        Scalar; 0 where there is no token at all.
    """
    lengths = mask.sum(-1)  # [N]
    per_completion = torch.where(mask, values, 0.0).sum(-1) / lengths.clamp(min=1)
    return per_completion.sum() / (lengths > 0).sum().clamp(min=1)


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over all tokens, so that long completions weigh more; 0 where there is none.

    Reference:
        DAPO, arXiv 2503.14476, section 3.3.
    """
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def constant_mean(values: Tensor, mask: Tensor, length: int) -> Tensor:
    """Sum over each completion's tokens by a constant ``length``, mean over completions that have a token.

    Reference:
        Understanding R1-Zero-Like Training (Dr. GRPO), arXiv 2503.20783, section 3.
    """
    return torch.where(mask, values, 0.0).sum() / length / (mask.any(-1)).sum().clamp(min=1)


# -- per token ---------------------------------------------------------------------------------------------------------


def k3_kl(logprobs: Tensor, ref_logprobs: Tensor, bound: float = MAX_FRESH_KL) -> Tensor:
    r"""Per-token estimate of the KL divergence from the policy to the reference.

    .. math:: k_3 = e^d - d - 1, \quad d = \min(\log\pi_{ref} - \log\pi_\theta, bound)

    Never negative, unbiased under samples of the policy (but for the bound); 0 where the two agree. On samples that the
    policy has since abandoned e^d explodes: see :data:`MAX_REPLAYED_KL`.

    Args:
        logprobs: [N, T] nats, 0 on padding.
        ref_logprobs: [N, T] nats, 0 on padding.
        bound: Largest d, in nats; beyond it the term is constant and has no gradient.

    Reference:
        J. Schulman, "Approximating KL divergence", 2020; DeepSeekMath, arXiv 2402.03300, equation 4.
    """
    d = (ref_logprobs.float() - logprobs.float()).clamp(max=bound)
    return torch.expm1(d) - d


def clipped_token_loss(
    ratio: Tensor, advantages: Tensor, clip_eps_low: float, clip_eps_high: float, dual_clip: float | None
) -> tuple[Tensor, Tensor]:
    r"""PPO's token loss, bounded for bad tokens too.

    .. math:: L = -\min(r A, \mathrm{clip}(r, 1 - \epsilon_{low}, 1 + \epsilon_{high}) A), \quad
        L = \min(L, -c A) \text{ where } A < 0

    Args:
        ratio: [N, T], policy over behaviour probability.
        advantages: [N, T].
        clip_eps_low: The ratio is clipped at 1 less this.
        clip_eps_high: The ratio is clipped at 1 plus this.
        dual_clip: c, above 1: what is bad and has become likelier than c times pushes no harder. None is no bound.

    Returns:
        [N, T] loss, and [N, T] bool, where a clip has cut off the gradient.

    Reference:
        PPO, arXiv 1707.06347, equation 7; dual clip: arXiv 1912.09729, equation 5.
    """
    plain, clipped = ratio * advantages, ratio.clamp(1 - clip_eps_low, 1 + clip_eps_high) * advantages
    loss, cut = -torch.minimum(plain, clipped), clipped < plain
    if dual_clip is None:
        return loss, cut
    bound = torch.where(advantages < 0, -dual_clip * advantages, torch.inf)
    return torch.minimum(loss, bound), cut | (loss > bound)


# -- the whole ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Losses:
    """The two parts of the objective, alpha included; their sum is what is minimised."""

    fresh: Tensor
    replayed: Tensor

    @property
    def total(self) -> Tensor:
        """Scalar."""
        return self.fresh + self.replayed


@dataclass(frozen=True)
class TokenBatch:
    """What the objective needs of each token.

    Attributes:
        logprobs: [N, T] under the policy being trained; the only one with a gradient.
        behaviour_logprobs: [N, T] under the policy that sampled, taken while sampling, as stored.
        advantages: [N, T].
        mask: [N, T] bool, True on the tokens to train on.
        is_replayed: [N] bool.
        ref_logprobs: [N, T] under the frozen reference; may be None where beta is 0.

    Raises:
        ValueError: The shapes do not agree.
    """

    logprobs: Tensor
    behaviour_logprobs: Tensor
    advantages: Tensor
    mask: Tensor
    is_replayed: Tensor
    ref_logprobs: Tensor | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value, shape = getattr(self, field.name), self.mask.shape
            wanted = shape[:1] if field.name == "is_replayed" else shape
            if value is not None and value.shape != wanted:
                raise ValueError(f"{field.name} must be {tuple(wanted)}, got {tuple(value.shape)}")


@dataclass(frozen=True)
class Objective:
    r"""What is minimised: a loss for fresh completions and one for replayed ones, each normalised by itself.

    .. math:: L = L_{on} + \alpha L_{off}, \quad L_{part} = \mathrm{agg}_{it \in part} [\text{clipped loss} + \beta k_3]

    Attributes:
        beta: Weight of the KL term.
        clip_eps_low: The ratio is clipped at 1 less this.
        clip_eps_high: The ratio is clipped at 1 plus this.
        dual_clip: Bound of the ratio where the advantage is negative; None is no bound.
        max_replayed_ratio: Bound of the ratio of replayed tokens, whatever the advantage; None is no bound.
        aggregation: Of tokens to one number: ``completion`` (mean of means), ``token`` (mean over all tokens of the
            part) or ``constant`` (sums by ``max_new_tokens``).
        kl_on: ``fresh`` tokens, or ``all``, those of replayed ones bounded by :data:`MAX_REPLAYED_KL`.
    """

    beta: float = 0.1
    clip_eps_low: float = 0.2
    clip_eps_high: float = 0.2
    dual_clip: float | None = 3.0
    max_replayed_ratio: float | None = None
    aggregation: Literal["completion", "token", "constant"] = "completion"
    kl_on: Literal["fresh", "all"] = "fresh"

    def __post_init__(self) -> None:
        for name in ("beta", "clip_eps_low", "clip_eps_high"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"model.objective.{name} must be 0 or more, got {getattr(self, name)}")
        if self.clip_eps_low > 1:
            raise ConfigError(f"model.objective.clip_eps_low must be at most 1, got {self.clip_eps_low}")
        if self.dual_clip is not None and not self.dual_clip > 1:
            raise ConfigError(f"model.objective.dual_clip must be above 1, or null for none, got {self.dual_clip}")
        if self.max_replayed_ratio is not None and not self.max_replayed_ratio >= 1:
            raise ConfigError(
                f"model.objective.max_replayed_ratio must be 1 or more, or null, got {self.max_replayed_ratio}"
            )
        for name, known in (("aggregation", ("completion", "token", "constant")), ("kl_on", ("fresh", "all"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"model.objective.{name} must be {' or '.join(known)}, got {getattr(self, name)!r}")

    def __call__(self, tokens: TokenBatch, alpha: float = 1.0, max_length: int = 1) -> tuple[Losses, dict[str, Tensor]]:
        """The two losses, and detached scalars of each part that has a token.

        Args:
            tokens: What is trained on; may be all fresh or all replayed.
            alpha: Weight of the replayed part.
            max_length: The constant of the ``constant`` aggregation, in tokens.

        Returns:
            Losses, and by part (``fresh``, ``replayed``): ``loss/<part>`` (without KL), ``kl/<part>`` (if there is a
            reference), ``clip_share/<part>`` (tokens whose gradient a clip has cut off), ``ratio_mean/<part>``,
            ``ratio_max/<part>`` and ``ess/<part>``, see :func:`effective_sample_share`.
        """
        if self.beta and tokens.ref_logprobs is None:
            raise ValueError("beta is not 0, so ref_logprobs must be given")
        aggregate = self._aggregation(max_length)
        nowhere = torch.zeros_like(tokens.mask)
        zero = torch.where(nowhere, tokens.logprobs, 0.0).sum()  # a part without a token has a gradient still: 0
        parts = {"fresh": zero, "replayed": zero}
        metrics: dict[str, Tensor] = {}
        for part, which in (("fresh", ~tokens.is_replayed), ("replayed", tokens.is_replayed)):
            if (mask := tokens.mask & which[:, None]).any():
                parts[part], of_part = self._part(tokens, mask, part, aggregate)
                metrics |= of_part
        return Losses(parts["fresh"], alpha * parts["replayed"]), metrics

    def _aggregation(self, max_length: int) -> Callable[[Tensor, Tensor], Tensor]:
        if self.aggregation == "constant":
            return partial(constant_mean, length=max_length)
        return completion_mean if self.aggregation == "completion" else token_mean

    def _part(
        self, tokens: TokenBatch, mask: Tensor, part: str, aggregate: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        # Mask before exp: inf * 0 is nan.
        log_ratio = torch.where(mask, tokens.logprobs - tokens.behaviour_logprobs, 0.0)
        plain_ratio = log_ratio.clamp(max=MAX_LOG_RATIO).exp()
        cap = self.max_replayed_ratio if part == "replayed" and self.max_replayed_ratio else torch.inf
        ratio = plain_ratio.clamp(max=cap)
        eps = (self.clip_eps_low, self.clip_eps_high)
        losses, cut = clipped_token_loss(ratio, tokens.advantages, *eps, self.dual_clip)
        cut = cut | ((plain_ratio > cap) | (log_ratio > MAX_LOG_RATIO)) & (tokens.advantages != 0)
        loss = aggregate(losses, mask)
        metrics = {f"loss/{part}": loss.detach()} | _ratio_metrics(plain_ratio.detach(), cut, mask, part)
        if tokens.ref_logprobs is None:
            return loss, metrics
        bound = MAX_FRESH_KL if part == "fresh" else MAX_REPLAYED_KL
        logprobs, reference = (torch.where(mask, x, 0.0) for x in (tokens.logprobs, tokens.ref_logprobs))
        kl = aggregate(k3_kl(logprobs, reference, bound), mask)
        counts = self.beta > 0 and (part == "fresh" or self.kl_on == "all")
        return loss + self.beta * kl if counts else loss, metrics | {f"kl/{part}": kl.detach()}


def effective_sample_share(ratio: Tensor, mask: Tensor) -> Tensor:
    r"""How many equally weighted tokens the importance weights are worth, as a share of the tokens.

    .. math:: \frac{(\sum r)^2}{n \sum r^2}

    1 where all ratios are equal, 1/n where one token has all the weight; 1 where there is no token, 0 where none has
    any weight left.

    Args:
        ratio: [N, T].
        mask: [N, T] bool.
    """
    weights = ratio[mask].double()
    if not len(weights):
        return ratio.new_ones(())
    tiny = torch.finfo(weights.dtype).tiny
    return (weights.sum() ** 2 / (len(weights) * (weights**2).sum()).clamp(min=tiny)).to(ratio.dtype)


def _ratio_metrics(ratio: Tensor, cut: Tensor, mask: Tensor, part: str) -> dict[str, Tensor]:
    here, num = torch.where(mask, ratio, 0.0), mask.sum().clamp(min=1)
    return {
        f"clip_share/{part}": (cut & mask).sum() / num,
        f"ratio_mean/{part}": here.sum() / num,
        f"ratio_max/{part}": here.max() if here.numel() else here.new_zeros(()),
        f"ess/{part}": effective_sample_share(ratio, mask),
    }
