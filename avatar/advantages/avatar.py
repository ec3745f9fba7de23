"""The estimator of the paper: group norm and VCRS, shaped by a parabola."""

from __future__ import annotations

from avatar.advantages.base import ADVANTAGES
from avatar.advantages.mixed import Mixed
from avatar.advantages.shapes import Parabolic
from avatar.advantages.tas import TAS


@ADVANTAGES.register()
class AVATAR(TAS):
    """``TAS`` of ``Mixed`` with ``Parabolic``: fresh completions by group norm, replayed ones by VCRS, ends weigh more.

    Args:
        eps: Added to both deviations, in reward units.
        std_floor: Smallest deviation of replayed rewards.
        strength: Lambda of the parabola.
        normalize: Keep the mean weight of a completion at 1.

    Reference:
        AVATAR, arXiv 2508.03100, section 3.
    """

    def __init__(
        self, eps: float = 1e-4, std_floor: float = 0.1, strength: float = 0.3, normalize: bool = False
    ) -> None:
        super().__init__(Mixed(eps, std_floor), Parabolic(strength, normalize))
