"""Boxes that cannot be meant so: left out and counted, or refused."""

from __future__ import annotations

import logging
from typing import List, Sequence, Tuple

from ....files.text import shown

__all__ = ["BadBoxes"]

_NAMED = 3
_log = logging.getLogger("gluon_effnets")


class BadBoxes:
    """What is done about the bad boxes of a source, and how many there were.

    Args:
        policy: ``drop``: they are left out and counted; ``raise``: the first of them is an error.

    Attributes:
        num_boxes, num_images: Boxes that were left out, and the images that they are of.
        num_whole: Images that were left out with all that is on them.
        num_cut: Boxes that stood out of their images by more than half a pixel and were cut to them.
    """

    def __init__(self, policy: str):
        self._policy = policy
        self.num_boxes = self.num_images = self.num_whole = self.num_cut = 0
        self._examples: List[str] = []

    def leave_out(self, where: str, faults: Sequence[Tuple[int, str]]) -> None:
        """Leave out boxes of an image.

        Args:
            where: How messages name its annotation.
            faults: Number of each box, from 1, and what is wrong with it, as the rest of a sentence.

        Raises:
            ValueError: With the policy ``raise``.
        """
        self._note(f"{where}, object {faults[0][0]} {faults[0][1]}")
        self.num_boxes += len(faults)
        self.num_images += 1

    def leave_out_image(self, where: str, reason: str) -> None:
        """Leave out an image with all that is on it. Raises as `leave_out` does."""
        self._note(f"{where} {reason}")
        self.num_whole += 1

    def report(self, source: str) -> None:
        """Say in one line what was left out, if anything was."""
        parts = [f"{self.num_boxes:,} boxes of {self.num_images:,} images"] if self.num_boxes else []
        parts += [f"{self.num_whole:,} whole images"] if self.num_whole else []
        if parts:
            more = "; ..." if self.num_images + self.num_whole > len(self._examples) else ""
            _log.warning("%s: %s were left out: %s%s", source, " and ".join(parts), "; ".join(self._examples), more)
        if self.num_cut:
            _log.info("%s: %s boxes stood out of their images and were cut to them", source, f"{self.num_cut:,}")

    def _note(self, text: str) -> None:
        text = shown(text, 4096)
        if self._policy == "raise":
            raise ValueError(f"{text}.\nCorrect it, or set data.bad_boxes=drop to do without it.")
        if len(self._examples) < _NAMED:
            self._examples.append(text)
