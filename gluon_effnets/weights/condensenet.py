"""Names of the authors' CondenseNet and CondenseNetV2, before and after their conversion, and what their masks mean."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Iterator, Mapping, Tuple, Union

import numpy as np
from mxnet.gluon import Parameter, nn
from mxnet.gluon.block import HybridBlock

from ..models.condensenet import CondenseNet
from ..models.preprocessing import TORCH_IMAGENET, Preprocessing
from ..nn import (
    CondensedConv,
    CondensedLinear,
    CondensedReactivation,
    DenseLayer,
    MaskedConv,
    SparseFeatureReactivation,
    SqueezeExcite,
)
from .mbnet import PLAIN
from .source import BICUBIC, BILINEAR, PYTORCH, Source, Translation, explain_ends

__all__ = ["CONDENSENET", "CONDENSENET_CONVERTED", "CONDENSENET_V2", "CONDENSENET_V2_CONVERTED"]

Learned = Union[MaskedConv, CondensedConv, CondensedReactivation, CondensedLinear]
Named = Iterator[Tuple[str, Union[HybridBlock, Dict[str, Parameter]]]]

FIRST = "features.denseblock_1.denselayer_1."
DEPTHS = (50, 74, 86, 98, 110, 122, 182)
CIFAR = tuple(f"cifar_condensenet_{depth}" for depth in DEPTHS)
CONDENSED = {"condensed": True}
# Of 10 and of 100 classes.
CIFAR_COLORS = {
    10: Preprocessing((125.307, 123.012, 113.9085), (63.0105, 62.0925, 66.708), crop=1.0, image_size=32),
    100: Preprocessing((129.3105, 124.1085, 112.404), (68.2125, 65.4075, 70.4055), crop=1.0, image_size=32),
}


def _dense_layers(net: CondenseNet) -> Iterator[Tuple[str, DenseLayer]]:
    for number, stage in enumerate(net.stages, 1):
        dense = [block for block in stage._children.values() if isinstance(block, DenseLayer)]
        yield from ((f"features.denseblock_{number}.denselayer_{index}", layer) for index, layer in enumerate(dense, 1))


def _learned_layers(net: CondenseNet) -> Iterator[Tuple[str, Learned]]:
    """All that the conversion changes or has changed."""
    for at, layer in _dense_layers(net):
        yield f"{at}.conv_1", layer.reduce
        if layer.update is not None:
            yield f"{at}.sfr", layer.update
    if isinstance(net.output, CondensedLinear):
        yield "classifier", net.output


def _squeeze_excite(se: SqueezeExcite, at: str) -> Named:
    yield f"{at}.fc.0", se.reduce
    yield f"{at}.fc.2", se.expand


def _learned(layer: Learned, at: str) -> Named:
    yield at, {name: param for name, param in layer._reg_params.items() if name != "weight"}
    if isinstance(layer, CondensedLinear):
        yield f"{at}.linear", layer.linear
        return
    yield f"{at}.norm", layer.bn
    yield f"{at}.conv", {"weight": layer.weight} if isinstance(layer, MaskedConv) else layer.conv


def _layers(net: CondenseNet) -> Named:
    yield "features.init_conv", net.stages[0][0]
    for at, layer in _learned_layers(net):
        yield from _learned(layer, at)
    for at, layer in _dense_layers(net):
        yield f"{at}.conv_2.norm", layer.bn
        yield f"{at}.conv_2.conv", layer.conv
        if layer.se is not None:
            yield from _squeeze_excite(layer.se, f"{at}.se")
    head = list(net.features[-1]._children.values())
    yield "features.norm_last", head[0]
    for block in head:
        if isinstance(block, SqueezeExcite):
            yield from _squeeze_excite(block, "features.se_last")
        if isinstance(block, nn.Dense):
            yield "fc", block
    if not isinstance(net.output, CondensedLinear):
        yield "classifier", net.output


@dataclasses.dataclass(frozen=True)
class _Mask:
    """The official mask, of the weight's shape, as one row per group."""

    at: str
    layer: MaskedConv

    def __call__(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        key, layer = f"{self.at}._mask", self.layer
        mask = state[key][:, :, 0, 0]
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(
                f"{key} has values between 0 and 1: a moving average must copy the masks, not average them.\n"
                "Take the weights themselves (without ema), or an average made as the authors make it."
            )
        rows = _rows_by_group(mask, layer)
        if (rows != rows[:1]).any():
            raise ValueError(
                f"{key} is not the same within each of its {layer.groups} interleaved groups.\n"
                "It was not made by the authors' pruning, or belongs to another number of groups."
            )
        dropped = rows.shape[2] - rows[0].sum(axis=1)
        quota = rows.shape[2] // layer.factor
        if (dropped != dropped[0]).any() or dropped[0] % quota or dropped[0] > quota * (layer.factor - 1):
            raise ValueError(
                f"{key} drops {_range(dropped)} of {rows.shape[2]} channels in a group; pruning to 1/{layer.factor} "
                f"drops {quota} at a time, {quota * (layer.factor - 1)} in the end.\n"
                "It belongs to another condensation factor, or is damaged."
            )
        count = state.get(f"{self.at}._count")
        if count is not None and count.ravel()[0] != dropped[0]:
            raise ValueError(
                f"{self.at}._count says {count.ravel()[0]:g} dropped channels, {key} {dropped[0]:g}.\n"
                "One of them is damaged; get the file again."
            )
        return rows[0]


def _rows_by_group(mask: np.ndarray, layer: MaskedConv) -> np.ndarray:
    """(out, in) -> (members of a group, groups, prunable); output rows or, of a reactivation, input columns."""
    if isinstance(layer, SparseFeatureReactivation):
        return mask.T.reshape(-1, layer.groups, mask.shape[0])
    return mask.reshape(-1, layer.groups, mask.shape[1])


def _range(numbers: np.ndarray) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


@dataclasses.dataclass(frozen=True)
class _Index:
    """The inputs that every group selects, checked."""

    key: str
    groups: int
    inputs: int

    def __call__(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        index = state[self.key]
        if (index % 1).any() or index.min() < 0 or index.max() >= self.inputs:
            raise ValueError(f"{self.key} names channels that do not exist: they are 0 to {self.inputs - 1}")
        if any(len(set(group)) < len(group) for group in index.reshape(self.groups, -1).tolist()):
            raise ValueError(f"{self.key} selects a channel twice in one of its {self.groups} groups")
        return index


@dataclasses.dataclass(frozen=True)
class _Table:
    """The official matrix of zeros and ones, a row for each channel of the convolution, as our table."""

    key: str
    groups: int

    def __call__(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        matrix = state[self.key]
        updates, channels = matrix.shape
        if not np.isin(matrix, (0, 1)).all() or (matrix.sum(axis=1) != 1).any():
            raise ValueError(f"{self.key} has rows that do not point to one channel (a single 1, and 0 elsewhere)")
        targets = matrix.argmax(axis=1).reshape(self.groups, -1)
        if any(len(set(group)) < len(group) for group in targets.tolist()):
            raise ValueError(f"{self.key} updates a channel twice from one of its {self.groups} groups")
        table = np.full((self.groups, channels), updates)
        np.put_along_axis(table, targets, np.arange(updates).reshape(targets.shape), axis=1)
        return table


def _translations(net: CondenseNet) -> Dict[str, Translation]:
    return dict(_translation(net, at, layer) for at, layer in _learned_layers(net))


def _translation(net: CondenseNet, at: str, layer: Learned) -> Tuple[str, Translation]:
    if isinstance(layer, MaskedConv):
        return f"{at}._mask", Translation(layer.weight.shape, _Mask(at, layer))
    key = f"{at}.index"
    if isinstance(layer, CondensedReactivation):
        groups, channels = layer.table.shape
        return key, Translation((layer.conv.weight.shape[0], channels), _Table(key, groups))
    if isinstance(layer, CondensedLinear):
        return key, Translation(layer.index.shape, _Index(key, 1, net.num_features))
    groups, factor = net.plan.learned
    return key, Translation(layer.index.shape, _Index(key, groups, layer.index.shape[0] // groups * factor))


def _colors(net: CondenseNet, definition: Mapping[str, Any]) -> Preprocessing:
    small = net.stage_info[0].stride == 1
    return CIFAR_COLORS.get(net.num_classes, TORCH_IMAGENET) if small else BILINEAR


CONDENSENET = Source(
    name="condensenet",
    mark=f"{FIRST}conv_1._mask",
    network=CondenseNet,
    layers=_layers,
    definition=lambda net: PLAIN,
    explain=explain_ends,
    models=tuple((name, {}) for name in ("condensenet_74_c4", "condensenet_74_c8", *CIFAR)),
    tensor_names={**PYTORCH, "mask": "_mask", "table": "index"},
    translations=_translations,
    implied=("_count", "_stage"),
    preprocessing=_colors,
)
CONDENSENET_CONVERTED = CONDENSENET._replace(
    name="condensenet_converted",
    mark=f"{FIRST}conv_1.index",
    # The authors' conversion always drops half of the classifier.
    models=tuple((name, {**CONDENSED, "condensed_classifier": True}) for name, _ in CONDENSENET.models),
)
# No number of the second version's CIFAR training is known.
CONDENSENET_V2 = CONDENSENET._replace(
    name="condensenetv2",
    mark=f"{FIRST}sfr._mask",
    models=tuple((f"condensenet_v2_{size}", {}) for size in "abc"),
    # The authors evaluate A and B with the other filter.
    preprocessing=lambda net, definition: BICUBIC if net.info and net.info.interpolation != "bilinear" else BILINEAR,
)
CONDENSENET_V2_CONVERTED = CONDENSENET_V2._replace(
    name="condensenetv2_converted",
    mark=f"{FIRST}sfr.index",
    models=tuple((name, CONDENSED) for name, _ in CONDENSENET_V2.models),
)
