"""How far a count is from the right one."""

from __future__ import annotations

LARGEST = 1e150  # larger counts are taken for this: their squares must stay numbers


def count_parts(said: float | None, gold: float, capped: bool = True) -> dict[str, float]:
    r"""The figures of one count: ``pred``, ``acc``, ``oboa`` (off by one at most), ``abs_err``, ``sq_err``.

    .. math:: e = |x - g| \text{ if } |x - g| \le \max(2 g, 100) \text{ or not capped, else } 2 g

    No count at all is wrong, by 2 g; its ``pred`` is left out.

    Args:
        said: The count; None for none.
        gold: The right one.
        capped: Whether errors are capped.
    """
    if said is None:
        return {"acc": 0.0, "oboa": 0.0, "abs_err": 2 * gold, "sq_err": (2 * gold) ** 2}
    said = float(max(-LARGEST, min(said, LARGEST)))
    error = abs(gold - said)
    counted = 2 * gold if capped and error > max(2 * gold, 100) else error
    return {
        "pred": said,
        "acc": float(error < 1e-5),
        "oboa": float(error <= 1),
        "abs_err": counted,
        "sq_err": counted**2,
    }
