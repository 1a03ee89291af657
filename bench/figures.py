"""From samples to figures: what is printed, and what is claimed."""

from collections.abc import Sequence
from statistics import median


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which a share (0 to 1) of them lies. ValueError without samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def paired_ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How many times longer theirs takes: the median of the rounds' own ratios.

    A round measures both within moments of each other, so what slows the machine for a while slows both and drops out of the ratio.
    """
    return median(their / our for their, our in zip(theirs, ours, strict=True))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, numbers to the right of the first column."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        rest = "  ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(f"{row[0].ljust(widths[0])}  {rest}".rstrip())
    return "\n".join(lines)
