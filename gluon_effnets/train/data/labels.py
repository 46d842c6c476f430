"""Class names beside record files, and labels that cannot be meant so."""

from __future__ import annotations

import logging
import os
from typing import List, Optional, Sequence

import numpy as np

from ...class_names import names_of_list, read_lines
from .records import RecordFile

__all__ = ["check_labels", "class_names", "read_class_names"]

_log = logging.getLogger("gluon_effnets")


def read_class_names(folder: str) -> Optional[List[str]]:
    """The lines of ``classes.txt`` in `folder`, or None where there is no such file."""
    path = os.path.join(folder, "classes.txt")
    return read_lines(path) if os.path.exists(path) else None


def class_names(folder: str, files: Sequence[RecordFile]) -> Optional[List[str]]:
    """Return the names in ``classes.txt``, else the class folders of im2rec's lists beside the records, or None.

    Args:
        folder: Where ``classes.txt`` is looked for.
        files: Record files; the list of ``train.rec`` is ``train.lst``.

    Raises:
        ValueError: ``classes.txt`` cannot be used, or gives a class folder's name to another class than the list does.
    """
    names = read_class_names(folder)
    for records in files:
        path = os.path.splitext(records.path)[0] + ".lst"
        folders = _names_of_list(path, records)
        if folders is None:
            continue
        if names is None:
            names = folders
            continue
        place = {name: index for index, name in enumerate(folders)}
        for index, name in enumerate(names):
            if place.get(name, index) != index:
                raise ValueError(
                    f"{folder}/classes.txt names class {index} {name!r}, but in {path} the images of {name} have label "
                    f"{place[name]}.\nWrite the names anew: python -m gluon_effnets classes {path} {folder}/classes.txt"
                )
    return names


def _names_of_list(path: str, records: RecordFile) -> Optional[List[str]]:
    """The names in a list, or None if there is none of im2rec's for these records."""
    if not os.path.exists(path):
        return None
    try:
        return names_of_list(path, dict(zip(records.keys.tolist(), records.labels.tolist())))
    except (OSError, ValueError):
        return None


def check_labels(
    train: RecordFile, val: Optional[RecordFile], num_classes: int, names: Optional[Sequence[str]]
) -> None:
    """Warn of classes without a training image, and of evaluation images of such classes.

    Args:
        train, val: The records; None for none.
        num_classes: Outputs of the network.
        names: Of the classes.
    """
    counts = np.bincount(train.labels, minlength=num_classes)
    missing = np.flatnonzero(counts == 0)
    if not len(missing):
        return
    lowest = int(train.labels.min())
    if len(missing) == lowest:
        _log.warning(
            "%s: labels begin at %d, so that the network gets %d output(s) without a training image; labels count "
            "from 0",
            train.path,
            lowest,
            lowest,
        )
    else:
        text = "%s: %d of %d classes have no training image: %s"
        _log.warning(text, train.path, len(missing), num_classes, _listed(missing, names))
    unknown = missing[np.isin(missing, val.labels)] if val else missing[:0]
    if val and len(unknown):
        _log.warning(
            "%s has images of %d class(es) that %s has none of: %s",
            val.path,
            len(unknown),
            train.path,
            _listed(unknown, names),
        )


def _listed(classes: np.ndarray, names: Optional[Sequence[str]]) -> str:
    shown = [f"{index} ({names[index]})" if names else str(index) for index in classes[:4]]
    return ", ".join(shown) + (", ..." if len(classes) > 4 else "")
