"""What an evaluation found: all numbers of one network as a record, and several networks as a table."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..tables import Table
from .answers import interval
from .detector import DetectorSubject
from .published import published_beside
from .subject import Subject

__all__ = ["Result", "comparison", "intervals", "ranked"]


class Result(NamedTuple):
    """A network, as the user calls it, its scores, and the 95 % confidence intervals of some of them.

    `metric` is how a detector was scored; empty for a network that classifies.
    """

    name: str
    subject: Union[Subject, DetectorSubject]
    scores: Mapping[str, float]
    bounds: Mapping[str, Tuple[float, float]]
    metric: str = ""

    @property
    def record(self) -> Dict[str, Any]:
        """All that is known: scores, their intervals, the network, the images and what was done to them."""
        subject, data = self.subject, self.subject.data
        bounds = {}
        for key, (low, high) in self.bounds.items():
            bounds.update({f"{key}_low": _known(low), f"{key}_high": _known(high)})
        return {
            **({"metric": self.metric} if self.metric else {}),
            **{key: _known(value) for key, value in self.scores.items()},
            **bounds,
            "images": data.num_val,
            "name": self.name,
            "model": subject.model,
            "weights": subject.where,
            "param_count": subject.num_params,
            "data": data.settings.source,
            "protocol": subject.protocol,
            **{key: _plain(value) for key, value in data.preprocessing._asdict().items()},
        }

    @property
    def published(self) -> List[Dict[str, Any]]:
        """Accuracies that others give, where they can be compared."""
        return published_beside(self.subject) if isinstance(self.subject, Subject) else []


def _known(value: float) -> Optional[float]:
    """The value, or None for nan, which JSON does not know."""
    return None if math.isnan(value) else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def intervals(scores: Mapping[str, float], images: int) -> Dict[str, Any]:
    """Return the 95 % confidence interval of every accuracy among the scores."""
    return {key: interval(value, images) for key, value in scores.items() if key.startswith(("top1", "top5"))}


# As in the tables of results of timm; the others stand behind them where numbers are exact.
_COLUMNS = (
    "model",
    *((key, ".3f") for key in ("top1", "top1_err", "top5", "top5_err")),
    ("param_count", ".2f"),
    "img_size",
    ("crop_pct", ".3g"),
    "interpolation",
)


def comparison(results: Sequence[Result], exact: bool) -> Table:
    """Return the results as timm's tables have them, the best network first.

    Args:
        results: All of networks that classify, with `top1` and `top5`, or all of detectors, with `map`.
        exact: Whether bounds and loss have columns of their own, for CSV and JSON; else the bounds are a text.

    Accuracies and errors are in percent, parameters in millions.
    """
    if results[0].metric:
        return _of_detectors(results, exact)
    rows = []
    for result in ranked(results):
        scores, data = result.scores, result.subject.data
        shares = [_percent(value) for key in ("top1", "top5") for value in (scores[key], 1 - scores[key])]
        shown = data.preprocessing
        size = (_millions(result), shown.image_size, shown.crop, shown.interpolation)
        top1, top5 = ([_percent(value) for value in result.bounds[key]] for key in ("top1", "top5"))
        rest: List[Any] = [*top1, *top5, scores["loss"], data.num_val] if exact else [f"{top1[0]:.2f} to {top1[1]:.2f}"]
        rows.append((result.name, *shares, *size, *rest))
    more = ("top1_low", "top1_high", "top5_low", "top5_high", "loss", "images") if exact else ("top1, 95 %",)
    return Table([*_COLUMNS, *more], rows)


def ranked(results: Sequence[Result]) -> List[Result]:
    """Return the results, the best first: by top-1 accuracy, or mean average precision."""
    return sorted(results, key=lambda result: -(_known(result.scores["map" if result.metric else "top1"]) or 0))


def _of_detectors(results: Sequence[Result], exact: bool) -> Table:
    keys, rows = [key for key in results[0].scores if key != "AP"], []  # COCO's word for map
    for result in ranked(results):
        scores = [_percent(result.scores[key]) for key in keys]
        low, high = (_known(_percent(value)) for value in result.bounds["map"])
        size = (_millions(result), result.subject.data.image_size)
        rest: List[Any] = [low, high, result.subject.data.num_val] if exact else [_span(low, high)]
        rows.append((result.name, *map(_known, scores), *size, *rest))
    columns = ["model", *((key, ".2f") for key in keys), ("param_count", ".2f"), "img_size"]
    return Table([*columns, *(("map_low", "map_high", "images") if exact else ("map, 95 %",))], rows)


def _span(low: Optional[float], high: Optional[float]) -> Optional[str]:
    """An interval in percent as a text; None if it is unknown."""
    return None if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _millions(result: Result) -> Optional[float]:
    params = result.subject.num_params
    return None if params is None else params / 1e6


def _percent(share: float) -> float:
    """Without the noise of binary fractions."""
    return round(100 * share, 10)
