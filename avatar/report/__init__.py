"""Tables and figures from what runs have written."""

from avatar.report.curves import completions_to, mean_of, read_curve
from avatar.report.demo import arms_table, plot_health, plot_learning_curves

__all__ = [
    "arms_table",
    "completions_to",
    "mean_of",
    "plot_health",
    "plot_learning_curves",
    "read_curve",
]
