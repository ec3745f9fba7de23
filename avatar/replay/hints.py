"""When a prompt is shown its hint."""

from __future__ import annotations

from abc import ABC, abstractmethod

from avatar.errors import ConfigError
from avatar.registry import Registry
from avatar.replay.tracker import PromptHistory


class HintTrigger(ABC):
    """Decides from a prompt's history whether its next visit shows the hint.

    Half of a hinted group stays un-hinted: only its rewards move the history, and so only the prompt's own success ends
    the help.

    Attributes:
        needs_reference: Whether it looks at the KL to the reference, which is there only if beta is not 0.
    """

    needs_reference: bool = False

    @abstractmethod
    def __call__(self, history: PromptHistory, window: int) -> bool:
        """Whether to show the hint.

        Args:
            history: Of the prompt, as it stood before this step.
            window: How many rewards a full history has.
        """


HINTS: Registry[type[HintTrigger]] = Registry("hint trigger", "hints")


@HINTS.register()
class Stuck(HintTrigger):
    """The prompt earns little, and the policy has stopped moving on it: the paper's trigger.

    Needs a full window of rewards and a measured KL of this very prompt: at the first step every KL is 0.

    Args:
        max_reward: Highest mean reward that counts as stuck, in reward units, the format's share included.
        max_kl: Highest mean k3 to the reference that counts as not exploring, nats a token.

    Reference:
        AVATAR, arXiv 2508.03100, section 3; the thresholds are ours, the paper states none.
    """

    needs_reference = True

    def __init__(self, max_reward: float = 0.5, max_kl: float = 0.1) -> None:
        if not max_kl >= 0:
            raise ConfigError(f"model.hints.max_kl must be 0 or more, got {max_kl}")
        self.max_reward, self.max_kl = max_reward, max_kl

    def __call__(self, history: PromptHistory, window: int) -> bool:
        """Full window, low mean, low KL; a KL never measured (NaN) is not low."""
        full = len(history.rewards) >= window
        return full and history.score <= self.max_reward and history.kl <= self.max_kl


@HINTS.register()
class ZeroStreak(HintTrigger):
    """Nothing earned on so many visits in a row; what the format gives does not count. The release's other trigger.

    Args:
        visits: How many.
    """

    def __init__(self, visits: int = 3) -> None:
        if visits < 1:
            raise ConfigError(f"model.hints.visits must be at least 1, got {visits}")
        self.visits = visits

    def __call__(self, history: PromptHistory, window: int) -> bool:
        """So many empty visits in a row."""
        return history.empty_visits >= self.visits
