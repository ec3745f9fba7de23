"""The objective: clipped policy gradient and KL to the reference, as pure functions of tensors.

Shapes: N completions, T completion tokens. All log-probs in nats, fp32.
"""

from __future__ import annotations

import torch
from torch import Tensor


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


def k3_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    r"""Per-token estimate of the KL divergence from the policy to the reference.

    .. math:: k_3 = e^d - d - 1, \quad d = \log\pi_{ref} - \log\pi_\theta

    Never negative, unbiased under samples of the policy; 0 where the two agree.

    Args:
        logprobs: [N, T] nats, 0 on padding.
        ref_logprobs: [N, T] nats, 0 on padding.

    Reference:
        J. Schulman, "Approximating KL divergence", 2020; DeepSeekMath, arXiv 2402.03300, equation 4.
    """
    d = ref_logprobs - logprobs
    return torch.expm1(d) - d


def clipped_policy_loss(
    logprobs: Tensor,
    behaviour_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    ref_logprobs: Tensor | None = None,
    beta: float = 0.0,
    clip_eps_low: float = 0.2,
    clip_eps_high: float = 0.2,
) -> tuple[Tensor, dict[str, Tensor]]:
    r"""The GRPO loss, averaged per completion.

    .. math::
        L = \mathrm{mean}_i \frac{1}{L_i} \sum_t
            -\min\big(r_{it} A_{it},\, \mathrm{clip}(r_{it}, 1 - \epsilon_{low}, 1 + \epsilon_{high}) A_{it}\big)
            + \beta\, k_{3,it}, \quad r_{it} = \pi_\theta / \pi_{behaviour}

    On fresh data every ratio is 1 and the gradient is that of :math:`-A \log\pi_\theta`. No valid token gives 0.

    Args:
        logprobs: [N, T] under the policy being trained.
        behaviour_logprobs: [N, T] under the policy that sampled, taken while sampling.
        advantages: [N, T].
        mask: [N, T] bool, True on the tokens to train on.
        ref_logprobs: [N, T] under the frozen reference; may be None where beta is 0.
        beta: Weight of the KL term.
        clip_eps_low: The ratio is clipped at 1 less this.
        clip_eps_high: The ratio is clipped at 1 plus this.

    Returns:
        Scalar loss, and detached scalars: ``loss/policy``, ``kl`` (if there is a reference), ``clip_share`` (tokens
        whose gradient the clip has cut off), ``ratio/mean`` and ``ratio/max``.

    Reference:
        DeepSeekMath, arXiv 2402.03300, equation 3; AVATAR, arXiv 2508.03100, section 3.
    """
    if beta and ref_logprobs is None:
        raise ValueError("beta is not 0, so ref_logprobs must be given")
    log_ratio = torch.where(mask, logprobs - behaviour_logprobs, 0.0)  # mask before exp: inf * 0 is nan
    ratio = log_ratio.clamp(max=50.0).exp()
    plain, clipped = ratio * advantages, ratio.clamp(1 - clip_eps_low, 1 + clip_eps_high) * advantages
    policy = completion_mean(-torch.minimum(plain, clipped), mask)
    with torch.no_grad():
        tokens = mask.sum().clamp(min=1)
        metrics = {
            "loss/policy": policy.detach(),
            "clip_share": ((clipped < plain) & mask).sum() / tokens,
            "ratio/mean": torch.where(mask, ratio, 0.0).sum() / tokens,
            "ratio/max": torch.where(mask, ratio, 0.0).max() if mask.numel() else ratio.new_zeros(()),
        }
    if ref_logprobs is None:
        return policy, metrics
    kl = completion_mean(k3_kl(torch.where(mask, logprobs, 0.0), torch.where(mask, ref_logprobs, 0.0)), mask)
    return policy + beta * kl, metrics | {"kl": kl.detach()}
