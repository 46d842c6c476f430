"""Pictures of evaluation images by the width that the gates of a network choose for them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..pictures import load_pyplot, save_picture
from ..train.tasks.width_scores import find_routes, require_slimmable
from .inputs import as_pixels
from .subject import open_pair

__all__ = ["DrawnRoute", "draw_routes"]

COLUMNS = 8


class DrawnRoute(NamedTuple):
    """A picture, and what its title says."""

    picture: Path
    title: str


class _Route:
    """What is known of the images of one route; of the first `keep` also how they look."""

    def __init__(self, keep: int):
        self._keep = keep
        self.count, self.easy, self.madds = 0, 0.0, 0.0
        self.images: List[np.ndarray] = []

    def add(self, image: np.ndarray, easy: float, madds: float) -> None:
        self.count, self.easy, self.madds = self.count + 1, self.easy + easy, madds
        if len(self.images) < self._keep:
            self.images.append(image)


def draw_routes(
    name: str,
    weights: str,
    source: str,
    prefix,
    images: int = 48,
    overrides: Sequence[str] = (),
    options: Optional[Dict[str, Any]] = None,
    most: int = 8,
) -> List[DrawnRoute]:
    """Draw the first `images` evaluation images of every route as a grid, PREFIX.route-<indices>.png; cheapest first.

    With several gates there can be many routes; the `most` frequent ones are drawn.
    The other arguments, and what is raised, are those of `open_pair`; ValueError too for a network without gates.
    """
    if images < 1:
        raise ValueError(f"the number of images in a picture is {images}; it must be at least 1")
    net, data = open_pair(name, weights, source, overrides, options)
    require_slimmable(net, "plot routes", gates=True)
    found: Dict[Tuple[int, ...], _Route] = {}
    for batch in data.val_batches():
        routes = find_routes(net, batch)
        arrays = (routes.candidates, batch.data[: batch.num_valid], routes.easy, routes.madds)
        for candidates, image, easy, madds in zip(*(array.asnumpy() for array in arrays)):
            path = tuple(int(k) + net.gating.first_candidate for k in candidates)
            found.setdefault(path, _Route(images)).add(image, float(easy), float(madds))
    total = sum(route.count for route in found.values())
    frequent = sorted(found, key=lambda path: -found[path].count)[:most]
    drawn = []
    for path in sorted(frequent, key=lambda path: found[path].madds):
        route, indices = found[path], "-".join(map(str, path))
        title = (
            f"subnet {indices}, {route.madds / 1e6:.2f} M MAdds: {route.count:,} of {total:,} images "
            f"({route.count / total:.1%}), {route.easy / route.count:.1%} of them easy"
        )
        picture = Path(f"{prefix}.route-{indices}.png")
        _draw([as_pixels(image, data.settings.preprocessing) for image in route.images], picture, title)
        drawn.append(DrawnRoute(picture, title))
    return drawn


def _draw(images: Sequence[np.ndarray], picture: Path, title: str) -> None:
    pyplot, rows = load_pyplot("the pictures of routes"), math.ceil(len(images) / COLUMNS)
    size = (COLUMNS, rows + 0.5)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=size, squeeze=False, constrained_layout=True)
    for panel in axes.flat:
        panel.axis("off")
    for panel, image in zip(axes.flat, images):
        panel.imshow(image, cmap="gray", vmin=0, vmax=255)
    figure.suptitle(title, fontsize=9)
    save_picture(figure, picture, dpi=100)
