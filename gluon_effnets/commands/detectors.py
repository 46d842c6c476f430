"""What commands show of detectors."""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .. import _resources
from ..tables import Table, natural_order
from .options import EXPORTED

__all__ = ["detector_facts", "detector_rows", "detectors_table", "is_detector", "names_detector"]


def is_detector(name: str) -> bool:
    """Whether a name is a detector's; the room of the detectors is imported when it is asked."""
    from .. import detection

    return detection.is_detector(name)


def names_detector(word: str) -> bool:
    """Whether the name of a model, or the JSON file of an export, is a detector's; not, where that cannot be read."""
    from ..evaluate.detector import describes_detector

    return describes_detector(word) if word.endswith(EXPORTED) else is_detector(word)


def detectors_table(patterns: Sequence[str], exact: bool, has_recipe: bool = False) -> Table:
    """The detectors that match a wildcard, with their costs; `exact`: not in millions.

    Raises ValueError if there are none.
    """
    from ..detection import detector_info, list_detectors

    rows: List[Tuple[Any, ...]] = []
    for pattern in patterns:
        if not fnmatch.filter(list_detectors(), pattern.lower()):
            raise ValueError(f"no detector matches {pattern!r}; python -m gluon_effnets list --detectors shows all")
    for name in sorted(list_detectors(), key=natural_order):
        if not any(fnmatch.fnmatch(name, pattern.lower()) for pattern in patterns):
            continue
        if has_recipe and not _resources.recipes(name):
            continue
        info = detector_info(name)
        for row in info.computed or ({},):
            costs = [row.get(key) for key in ("params", "madds")]
            if not exact:
                costs = [f"{cost / 1e6:.{digits}f} M" if cost else "" for cost, digits in zip(costs, (2, 1))]
            rows.append((name, row.get("classes", info.classes), *costs, row.get("anchors"), info.base))
    if not rows:
        raise ValueError("none of these detectors has a recipe of its own; python -m gluon_effnets recipes lists all")
    params, madds = ("params", "madds") if exact else ("params", "MAdds")
    return Table(["detector", "classes", params, madds, "anchors", "base"], rows)


def detector_facts(name: str, classes: Optional[int], options: Dict[str, Any]) -> Dict[str, Any]:
    """All about one detector, for JSON."""
    from ..complexity import count
    from ..detection import detector_info, get_detector

    info = detector_info(name)
    net = get_detector(name, classes, **options)
    cost = count(net, net.image_size)
    return {
        "detector": info.name,
        "summary": info.summary,
        "base": info.base,
        "source": info.source,
        "reconstruction": info.reconstruction,
        "image_size": net.image_size,
        "num_classes": net.num_classes,
        "params": cost.params,
        "madds": cost.madds,
        "anchors": len(net.anchors),
        "selection": net.detections.choice.as_table(),
        "preprocessing": str(net.preprocessing),
    }


def detector_rows(facts: Dict[str, Any]) -> List[Tuple[str, str]]:
    """The same as rows of a table."""
    rows = [("detector", facts["detector"]), ("", facts["summary"]), ("network", facts["base"])]
    rows += [(key, facts[key]) for key in ("source", "reconstruction") if facts[key]]
    size, choice = facts["image_size"], facts["selection"]
    rows += [("parameters", f"{facts['params']:,}"), ("MAdds", f"{facts['madds']:,} at {size} x {size}")]
    rows.append(("anchors", f"{facts['anchors']:,}"))
    rows.append(("classes", f"{facts['num_classes']}, the background not counted"))
    best = "".join(
        f", among the {limit['best']:,} best of each class" * limit["per_class"] for limit in choice["limits"]
    )
    chosen = f"scores above {choice['score_above']:g}, overlaps of at most {choice['overlap']:g}{best}"
    rows.append(("detections", f"{chosen}, {choice['per_image']} for an image"))
    rows.append(("images", f"resized to {size} x {size}, {facts['preprocessing']}"))
    return rows
