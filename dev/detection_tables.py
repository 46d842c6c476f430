"""Tables of trained detectors: means over seeds with their intervals, and differences of pairs, seed by seed."""

from __future__ import annotations

import math
import statistics
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from gluon_effnets.tables import Table

__all__ = ["Interval", "evidence_table"]

# Quantiles of Student's distribution for intervals of 95 %, by degrees of freedom.
QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
PUBLISHED = 0.9  # points of mAP by which the papers' detectors are ahead


class Interval(NamedTuple):
    """Mean of runs, and how far the ends of its interval of 95 % are from it; None for a single run."""

    mean: float
    half: Optional[float]
    number: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Return the interval of values of independent runs."""
        if len(values) < 2:
            return cls(values[0], None, 1)
        half = _quantile(len(values)) * statistics.stdev(values) / math.sqrt(len(values))
        return cls(statistics.mean(values), half, len(values))

    def shown(self, sign: str = "") -> str:
        """Return it as text, in points of AP."""
        mean = f"{self.mean:{sign}.2f}"
        return f"{mean} (one seed)" if self.half is None else f"{mean} ± {self.half:.2f}"


def _quantile(number: int) -> float:
    return QUANTILES[min(number - 2, len(QUANTILES) - 1)]


def evidence_table(content: Dict[str, Any], group: str) -> str:
    """Return the runs of a group of dev/detection_evidence.py, the differences of its pairs, and what they say.

    Args:
        content: Of results/trained_detectors.json.
        group: One of its groups.
    """
    rows = [row for row in content["rows"] if row["group"] == group]
    if not rows:
        return "(No run of this comparison is finished in this version.)"
    about = content["groups"][group]
    kinds = [key for key in rows[0] if key == "map" or key.startswith("ap_")]
    header = ["", "detector", "MAdds", "seeds", *("mAP" if kind == "map" else f"AP {kind[3:]}" for kind in kinds)]
    of_name: Dict[str, Dict[int, Dict[str, Any]]] = {}
    for row in rows:
        of_name.setdefault(row["comparison"], {})[row["seed"]] = row
    lines: List[List[str]] = []
    for name, runs in of_name.items():
        first = next(iter(runs.values()))
        cells = [Interval.of([run[kind] for run in runs.values()]).shown() for kind in kinds]
        seeds = ", ".join(str(seed) for seed in sorted(runs))
        lines.append([name, f"`{first['model']}`", f"{first['madds'] / 1e6:.0f} M", seeds, *cells])
    told = []
    for better, other in about["pairs"]:
        both = sorted(of_name.get(better, {}).keys() & of_name.get(other, {}).keys())
        if not both:
            continue
        found = {kind: _difference(of_name[better], of_name[other], both, kind) for kind in kinds}
        cells = [found[kind].shown("+") for kind in kinds]
        lines.append([f"{better} - {other}", "", "", ", ".join(map(str, both)), *cells])
        told.append(f"{better} - {other}: {_said(found['map'])}")
    conditions = f"{about['what']}; settings beside those of own_boxes.yaml: {', '.join(about['settings'])}."
    return "\n\n".join([Table(header, lines).markdown(), conditions, *told])


def _difference(better: Dict[int, Any], other: Dict[int, Any], seeds: Sequence[int], kind: str) -> Interval:
    return Interval.of([better[seed][kind] - other[seed][kind] for seed in seeds])


def _said(found: Interval) -> str:
    """What a paired difference says of the papers' 0.9 points, in one sentence."""
    if found.half is None:
        return f"one pair of runs, {found.mean:+.2f} points of mAP, which says nothing about the noise between seeds."
    low, high = found.mean - found.half, found.mean + found.half
    zero, published = low <= 0 <= high, low <= PUBLISHED <= high
    ends = f"the interval of the difference reaches from {low:+.2f} to {high:+.2f} points of mAP"
    spread = found.half / _quantile(found.number) * math.sqrt(found.number)
    needed = next((n for n in range(2, 1000) if _quantile(n) * spread / math.sqrt(n) <= PUBLISHED), 1000)
    if zero and published:
        says = f"it holds both no difference and the papers' +{PUBLISHED}, so it decides between neither"
    elif published:
        says = f"it holds the papers' +{PUBLISHED}, and not 0"
    elif zero:
        says = f"it holds no difference, and not the papers' +{PUBLISHED}"
    else:
        says = f"it holds neither 0 nor the papers' +{PUBLISHED}"
    return f"{ends}; {says}. With this spread between seeds, {needed} pairs would tell {PUBLISHED} points from nothing."
