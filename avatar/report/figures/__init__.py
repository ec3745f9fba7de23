"""The figures of the page, one file each."""

from avatar.report.figures.accuracy import ACCURACY_FIGURE
from avatar.report.figures.advantages import ADVANTAGES_FIGURE
from avatar.report.figures.base import Figure, Kind
from avatar.report.figures.credit import CREDIT_FIGURE
from avatar.report.figures.lengths import LENGTHS_FIGURE
from avatar.report.figures.ratio import RATIO_FIGURE
from avatar.report.figures.samples import SAMPLES_FIGURE
from avatar.report.figures.seconds import SECONDS_FIGURE
from avatar.report.figures.staleness import STALENESS_FIGURE
from avatar.report.figures.strength import STRENGTH_FIGURE
from avatar.report.figures.tiers import TIERS_FIGURE

FIGURES = (
    ACCURACY_FIGURE,
    ADVANTAGES_FIGURE,
    CREDIT_FIGURE,
    LENGTHS_FIGURE,
    RATIO_FIGURE,
    STRENGTH_FIGURE,
    TIERS_FIGURE,
    STALENESS_FIGURE,
    SAMPLES_FIGURE,
    SECONDS_FIGURE,
)

__all__ = ["FIGURES", "Figure", "Kind"]
