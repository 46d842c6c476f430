"""Card: what belongs to trained weights and is no number of theirs, and how class names are compared."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..class_names import identifier
from ..files.schema import flag, list_of, number, one_of, optional, record, table_of, text, whole
from ..files.text import shortened
from .info import ModelInfo
from .preprocessing import CHANNEL_ORDERS, Preprocessing

__all__ = [
    "CARD_MARKS",
    "Card",
    "HasCard",
    "check_marks",
    "compare_names",
    "complete_preprocessing",
    "order_of",
    "usual_size",
]

CARD_MARKS = _CLASSES, _PREPROCESSING, _ORIGIN = "classes", "preprocessing", "origin"


class Card(NamedTuple):
    """What travels with trained weights: names of the classes, preprocessing, and where the weights come from.

    Training sets it, files of parameters, checkpoints and exports hold it, and whatever shows images to a network
    applies it.

    Attributes:
        classes: None if they are unknown.
        preprocessing: What is done to images.
        origin: Of weights that others trained: `source`, `license`, `sha256` of their file, ...; empty for one's own.
    """

    classes: Optional[List[str]] = None
    preprocessing: Preprocessing = Preprocessing()
    origin: Mapping[str, str] = {}

    def marks(self) -> Dict[str, Any]:
        """Return what differs from the default, as JSON takes it.

        Raises ValueError for what no card can hold: a file with it could not be read again.
        """
        if not isinstance(self.preprocessing, Preprocessing):
            raise ValueError(f"the preprocessing of a network is a Preprocessing, not {shortened(self.preprocessing)}")
        found: Dict[str, Any] = {}
        if self.classes is not None:
            found[_CLASSES] = self.classes
        if self.preprocessing != Preprocessing():
            values = self.preprocessing._asdict().items()
            found[_PREPROCESSING] = {key: value for key, value in values if value not in (None, False)}
        if self.origin:
            found[_ORIGIN] = self.origin
        whole_card = {_CLASSES: None, _PREPROCESSING: {}, _ORIGIN: {}, **json.loads(_as_json(found))}
        _CARD(whole_card, "the card of the network")
        return found

    @classmethod
    def taken_from(cls, marks: Dict[str, Any], where: str) -> Card:
        """Return the card of which `marks` gives the entries, taking them out of a dictionary with others.

        `where` : what the marks are, for the text of the error. Raises ValueError for what is no card.
        """
        _MARKS(marks, where)
        found = {key: marks.pop(key, usual) for key, usual in ((_CLASSES, None), (_PREPROCESSING, {}), (_ORIGIN, {}))}
        _CARD(found, where)
        names, values, origin = found[_CLASSES], dict(found[_PREPROCESSING]), found[_ORIGIN]
        for key in values.keys() & {"mean", "std"}:
            values[key] = tuple(values[key])
        return cls(names, Preprocessing(**values), origin)


def _as_json(found: Dict[str, Any]) -> str:
    try:
        return json.dumps(found, default=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the card of the network: {error}") from None


def _refuse(value: Any) -> None:
    raise ValueError(f"{shortened(value)} cannot be written")


def check_marks(identity: Dict[str, Any], where: str) -> None:
    """Raise ValueError for what is no identity of a network: its name as `model`, and options."""
    _MARKS(identity, where)
    text(1000)(identity.get("model"), f"{where}: model")


_SCALE = {"mean": list_of(number(-1e6, 1e6), 1, 64), "std": list_of(number(0, 1e6, above=0), 1, 64)}
_MARKS = table_of(lambda value, where: None)
_RESIZING = {
    "interpolation": text(100),
    "crop": number(0, 1, above=0),
    "image_size": whole(1, 1 << 14),
    "crop_first": flag,
}
_CARD = record(
    {
        _CLASSES: optional(list_of(text())),
        _PREPROCESSING: record({}, {**_SCALE, "channel_order": one_of(*CHANNEL_ORDERS), **_RESIZING}),
        _ORIGIN: table_of(text()),
    }
)


class HasCard:
    """What networks and detectors have: a card that comes and goes with the weights. A subclass has `classes`."""

    classes: Optional[List[str]]
    preprocessing = Preprocessing()
    origin: Mapping[str, str] = {}
    info: Any = None

    @property
    def usual_preprocessing(self) -> Preprocessing:
        """What is usual for the model where the card leaves it open."""
        return _usual(self.info)

    @property
    def card(self) -> Card:
        """Names of the classes, preprocessing and origin together."""
        return Card(self.classes, self.preprocessing, self.origin)

    @card.setter
    def card(self, card: Card) -> None:
        self.classes, self.preprocessing, self.origin = card


def _usual(info: Optional[ModelInfo]) -> Preprocessing:
    known = info or ModelInfo
    return Preprocessing(interpolation=known.interpolation, crop=known.crop, image_size=known.input_size)


def complete_preprocessing(net) -> Preprocessing:
    """Return the preprocessing of a network, with what is usual for its model where it leaves something open."""
    # A graph that was cut out of a network has its card and its info alone.
    own, usual = net.card.preprocessing, net.usual_preprocessing if isinstance(net, HasCard) else _usual(net.info)
    return own._replace(**{key: getattr(usual, key) for key in _RESIZING if getattr(own, key) is None})


def usual_size(net) -> int:
    """Return the side of the images of a network: that of its preprocessing, or of its model."""
    size = complete_preprocessing(net).image_size
    assert size is not None, "a complete preprocessing has a size"
    return size


def compare_names(before: Optional[Sequence[str]], now: Optional[Sequence[str]]) -> Optional[str]:
    """Return how two lists of class names differ, as the end of a sentence; None if they do not, or one is unknown.

    Of names that begin with WordNet's numbers, these are compared.

    Example: `compare_names(["ant", "bee"], ["bee", "wasp"])` is "'ant' is gone, 'wasp' is new".
    """
    if before is None or now is None or [*map(identifier, before)] == [*map(identifier, now)]:
        return None
    gone, new = _without(before, now), _without(now, before)
    if gone or new:
        return ", ".join([f"{_some(names)} {what}" for names, what in ((gone, "gone"), (new, "new")) if names])
    if len(before) != len(now):
        return f"there were {len(before)}, now there are {len(now)}"
    place = next(place for place, pair in enumerate(zip(before, now)) if len({*map(identifier, pair)}) > 1)
    was, now_is = shortened(before[place]), shortened(now[place])
    return f"they stand in another order (class {place} was {was}, now it is {now_is})"


def order_of(names: Sequence[str], wanted: Sequence[str]) -> Optional[List[int]]:
    """Return the place among `names` of each wanted name; None if these are not the same names, each of them once.

    Example: `order_of(["ant", "bee", "wasp"], ["wasp", "ant", "bee"])` is [2, 0, 1].
    """
    places = {identifier(name): place for place, name in enumerate(names)}
    keys = [identifier(name) for name in wanted]
    if len(places) < len(names) or sorted(places) != sorted(keys):
        return None
    return [places[key] for key in keys]


def _without(names: Sequence[str], others: Sequence[str]) -> List[str]:
    known = {*map(identifier, others)}
    return [name for name in names if identifier(name) not in known]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(shortened, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"
