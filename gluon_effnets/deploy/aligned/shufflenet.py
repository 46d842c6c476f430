"""ShuffleNets as they run fastest on a CPU: equal outputs, BN folded in, channels in multiples of 8."""

from __future__ import annotations

from functools import partial
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ...models.shufflenetv1 import ShuffleNet
from ...nn import ConvBN, ShuffleUnit, ShuffleUnitV2, SqueezeExcite, add_shortcut, concat_channels
from .filters import EMPTY, Filter, Slots, place
from .pieces import BLOCK, pieces_pay, stage_in_pieces

__all__ = ["has_reactivations", "is_second_version", "shufflenet_blocks"]

# Below 8 channels in a group oneDNN has no vectorized kernel.
LANES = 8


def shufflenet_blocks(net: ShuffleNet, form: str, format: str) -> Iterator[HybridBlock]:
    """The blocks of `aligned(net, form, format)`. Raises ValueError for a network with reactivations."""
    *stages, head = net.features._children.values()
    blocks = [block for stage in stages for block in stage._children.values()]
    units = _units(net)
    second = is_second_version(net)
    if has_reactivations(net):
        raise ValueError("a ShuffleNet with reactivations has no aligned form; export it as it is")
    stem = Filter.of(blocks[0])
    # ONNX Runtime pools whole blocks alone without a change of layout. V1 passes the stem's channels on, without zeros.
    multiple = 1 if format == "openvino" else BLOCK if format == "onnx" and second else LANES
    slots = _filled(range(len(stem.bias)), _up(len(stem.bias), multiple))
    yield stem.writing(slots).layer()
    for _ in blocks[1 : -len(units)]:
        yield nn.MaxPool2D(3, 2, 1)
    if second:
        made, slots = _units_v2(units, slots, form, format)
        yield from made
    else:
        for unit in units:
            yield _unit_v1(unit, slots, form)
            # Groups cross what is joined here: zeros between the channels of the trunk would be in the way.
            slots = np.arange(_width_behind(unit, slots))
    for layer in head._children.values():
        if isinstance(layer, ConvBN):
            folded = Filter.of(layer)
            yield folded.reading(slots).layer()
            slots = np.arange(len(folded.bias))
        elif not isinstance(layer, nn.Dropout):
            yield type(layer)()  # pooling, flattening
    yield _classifier(net.output, slots)


def _units(net: ShuffleNet) -> List[Union[ShuffleUnit, ShuffleUnitV2]]:
    blocks = [block for stage in net.stages for block in stage._children.values()]
    return [block for block in blocks if isinstance(block, (ShuffleUnit, ShuffleUnitV2))]


def has_reactivations(net: ShuffleNet) -> bool:
    """Whether a network is a ShuffleNetV2 with reactivations, which has no aligned form."""
    return any(getattr(unit, "update", None) is not None for unit in _units(net))


def is_second_version(net: ShuffleNet) -> bool:
    """Whether a network is a ShuffleNetV2."""
    return any(isinstance(unit, ShuffleUnitV2) for unit in _units(net))


def _classifier(dense: nn.Dense, slots: Slots) -> nn.Dense:
    layer = nn.Dense(dense.weight.shape[0], in_units=len(slots), use_bias=dense.bias is not None)
    layer.initialize()
    layer.weight.set_data(mx.nd.array(place(dense.weight.data().asnumpy(), slots)))
    if dense.bias is not None:
        layer.bias.set_data(dense.bias.data().as_in_context(mx.cpu()))
    return layer


def _filled(channels: Union[Sequence[int], np.ndarray], size: int) -> Slots:
    return np.array([*channels, *[EMPTY] * (size - len(channels))], int)


def _up(number: int, multiple: int = LANES) -> int:
    return -(-number // multiple) * multiple


class _UnitV1(HybridBlock):
    """`filters`: of the branch. `blocks`: the shuffle exchanges as many blocks of channels in each group; 0: none.

    `passing`: how many channels of the input a unit with a stride passes on; 0: all.
    """

    def __init__(self, filters: Sequence[Filter], blocks: int, passing: int, source: ShuffleUnit):
        super().__init__()
        self._blocks, self._passing = blocks, passing
        with self.name_scope():
            self.reduce, self.depthwise, self.expand = (part.layer() for part in filters)
            self.pool = nn.AvgPool2D(3, 2, 1) if source.pool is not None else None
            self.se = _copy_of(source.se) if source.se is not None else None
            self.act = nn.Activation("relu")

    def hybrid_forward(self, F, x):
        y = self.depthwise(self.reduce(x))
        if self._blocks:
            y = F.reshape_like(F.swapaxes(F.reshape(y, (0, self._blocks, self._blocks, -1)), 1, 2), y)
        y = self.expand(y)
        if self.pool is not None:
            pooled = self.pool(x)
            if self._passing:
                pooled = F.slice_axis(pooled, axis=1, begin=0, end=self._passing)
            y = concat_channels(F, pooled, self.act(y))
            return self.se(y) if self.se is not None else y
        return self.act(add_shortcut(F, self.se(y) if self.se is not None else y, x))


def _copy_of(se: SqueezeExcite) -> SqueezeExcite:
    reduced, channels = se.reduce.weight.shape[:2]
    copy = SqueezeExcite(channels, reduced, "relu", "sigmoid")
    copy.initialize()
    for key, param in copy._collect_params_with_prefix().items():
        param.set_data(se._collect_params_with_prefix()[key].data())
    return copy


def _width_behind(unit: ShuffleUnit, slots: Slots) -> int:
    branch = unit.expand.bn.gamma.shape[0]
    return branch if unit.pool is None else branch + np.count_nonzero(slots != EMPTY)


def _unit_v1(unit: ShuffleUnit, slots: Slots, form: str) -> _UnitV1:
    reduce, depthwise, expand = (Filter.of(part) for part in (unit.reduce, unit.depthwise, unit.expand))
    hidden, passing = len(reduce.bias), 0
    if EMPTY in slots:  # behind the stem, where the first convolution is not grouped
        reduce, passing = reduce.reading(slots), np.count_nonzero(slots != EMPTY)
    order = np.arange(hidden)  # position behind the shuffle of every channel of the first convolution
    if unit.shuffle is not None:
        rows, columns = unit.shuffle._shape[1:3]
        order = order % columns * rows + order // columns
    if unit.before:
        depthwise = depthwise.writing(order)
    table = _table(order, reduce.groups, expand.groups)
    whole = _filled(range(hidden), _up(hidden))
    if _prefers_dense(form, reduce, expand, table.size, len(whole)):
        expand = expand.ungrouped().reading(order).reading(whole)
        return _UnitV1((reduce.ungrouped().writing(whole), depthwise.channelwise(whole), expand), 0, passing, unit)
    flat, exchanged = table.reshape(-1), table.shape[0] if table.shape[0] > 1 else 0
    behind = table.transpose(1, 0, 2).reshape(expand.groups, -1)
    inside = np.where(behind == EMPTY, EMPTY, order[behind] % (hidden // expand.groups))
    weights = np.split(expand.weight, expand.groups)
    expand = expand._replace(weight=np.concatenate([place(*pair) for pair in zip(weights, inside)]))
    return _UnitV1((reduce.writing(flat), depthwise.channelwise(flat), expand), exchanged, passing, unit)


def _table(order: np.ndarray, first_groups: int, groups: int) -> np.ndarray:
    """Channels, (group of the first convolution, group of the second, place).

    The first axis has size 1 if there is nothing to exchange, else both have the number of groups.
    """
    hidden = len(order)
    source, target = np.arange(hidden) // (hidden // first_groups), order // (hidden // groups)
    if first_groups == groups and (source == target).all():
        source = np.zeros_like(source)
    shape = source.max() + 1, groups
    members = [[np.flatnonzero((source == p) & (target == a)) for a in range(shape[1])] for p in range(shape[0])]
    size = max(len(cell) for row in members for cell in row)
    while size * shape[0] % LANES:
        size += 1
    return np.array([[_filled(cell, size) for cell in row] for row in members])


def _prefers_dense(form: str, reduce: Filter, expand: Filter, grouped: int, dense: int) -> bool:
    if form != "auto":
        return form == "dense"
    hidden = len(reduce.bias)
    into, out = reduce.weight.shape[1] * reduce.groups, len(expand.bias)
    # A trunk that is four times as wide as the bottleneck: if its groups are no multiples of 8, nothing can fill them.
    if 4 * hidden // expand.groups % LANES:
        return True
    # Measured: the shuffle and the lower rate of grouped convolutions cost as much as twice the multiply-adds.
    return dense * (into + out) <= 2 * grouped * (into / reduce.groups + out / expand.groups)


class _UnitV2(HybridBlock):
    """Even channels pass, odd ones go through the branch; with `proj` all go through both."""

    def __init__(self, proj: Sequence[Filter], branch: Sequence[Filter]):
        super().__init__()
        with self.name_scope():
            self.proj, self.branch = nn.HybridSequential(), nn.HybridSequential()
            for part, filters in ((self.proj, proj), (self.branch, branch)):
                for folded in filters:
                    part.add(folded.layer())
        self._half = branch[0].weight.shape[1]

    def hybrid_forward(self, F, x):
        if len(self.proj):
            return concat_channels(F, self.proj(x), self.branch(x))
        # Every second channel, by a slice across pairs: one copy less than a shuffle and two slices.
        pairs = F.reshape(x, (0, self._half, 2, -1))
        passing, branch = (
            F.reshape_like(part, x, lhs_begin=2, lhs_end=4, rhs_begin=2, rhs_end=4)
            for part in F.split(pairs, num_outputs=2, axis=2)
        )
        return concat_channels(F, passing, self.branch(branch))


class _FoldedUnitV2(HybridBlock):
    """The branch reads all channels, with zeros for those that pass, and writes over the ones it has read."""

    def __init__(self, branch: Sequence[Filter], kept: np.ndarray):
        super().__init__()
        keep = Filter(kept.reshape(-1, 1, 1, 1).astype(float), np.zeros(len(kept)), 1, len(kept), False)
        with self.name_scope():
            self.branch = nn.HybridSequential()
            for folded in branch:
                self.branch.add(folded.layer())
            self.keep = keep.layer()
            self.act = nn.Activation("relu")

    def hybrid_forward(self, F, x):
        # What passes is an output of ReLU, which a second one leaves as it is.
        return self.act(self.branch(x) + self.keep(x))


StageV2 = Tuple[List[HybridBlock], Slots]  # and the slots of its output


def _units_v2(units: Sequence[ShuffleUnitV2], slots: Slots, form: str, format: str) -> StageV2:
    starts = [number for number, unit in enumerate(units) if unit.proj is not None]
    stages = [units[start:end] for start, end in zip(starts, [*starts[1:], None])]
    histories = [_history(stage) for stage in stages]
    if form == "auto":
        form = _fastest(histories, format)
    result: List[HybridBlock] = []
    for stage, history in zip(stages, histories):
        made, slots = STAGES_V2[form](_branches(stage), history, slots)
        result += made
    return result, slots


def _fastest(histories: Sequence[_History], format: str) -> str:
    if format == "openvino":
        return "cut"
    return "pieces" if all(pieces_pay(history.readers, format) for history in histories) else "grouped"


class _History(NamedTuple):
    """A stage of ShuffleNetV2 followed channel by channel; a channel is (part that made it, index).

    inputs : for every unit with stride 1 the channels that its branch reads, in order.
    output : the channels of the last unit, in order.
    """

    inputs: List[list]
    output: list

    @property
    def readers(self) -> List[list]:
        """The channels of every input, and at last those of the output; each channel stands in one of them."""
        return [*self.inputs, self.output]

    def lives(self) -> Dict[tuple, int]:
        """The unit that reads a channel, or their number for those that leave the stage."""
        return {channel: number for number, channels in enumerate(self.readers) for channel in channels}


def _branches(units: Sequence[ShuffleUnitV2]) -> List[List[Filter]]:
    """Those of a stage: both sides of the unit with stride, then one for every further unit."""
    return [[Filter.of(part) for part in branch] for branch in (_side(units[0]), *(unit.branch for unit in units))]


def _side(unit: ShuffleUnitV2) -> nn.HybridSequential:
    """The layers beside the branch of a unit with stride."""
    assert unit.proj is not None, "a stage begins with a unit with stride"
    return unit.proj


def _history(units: Sequence[ShuffleUnitV2]) -> _History:
    parts = [branch[-1].bn.gamma.shape[0] for branch in (_side(units[0]), units[0].branch)]
    return _follow(parts, len(units) - 1, units[0].last is not None)


def _follow(parts: Sequence[int], num_units: int, shuffle_last: bool) -> _History:
    """Parts 0 and 1 are the sides of the unit with stride, part n + 1 the branch of the n-th unit behind it."""
    half = sum(parts) // 2
    trunk = [(part, index) for part in (0, 1) for index in range(parts[part])]
    inputs = []
    for number in range(num_units):
        if shuffle_last:
            trunk = [trunk[side * half + index] for index in range(half) for side in (0, 1)]
        else:
            trunk = trunk[::2] + trunk[1::2]
        inputs.append(trunk[half:])
        trunk = trunk[:half] + [(number + 2, index) for index in range(half)]
    if shuffle_last:
        trunk = [trunk[side * half + index] for index in range(half) for side in (0, 1)]
    return _History(inputs, trunk)


def _match(history: _History, physical: _History) -> Optional[Dict[tuple, tuple]]:
    """Which channel stands in each slot: of the same part, and read by the same unit. None if slots are missing."""
    free: Dict[tuple, list] = {}
    for slot, life in sorted(physical.lives().items()):
        free.setdefault((slot[0], life), []).append(slot)
    standing = {}
    for channel, life in sorted(history.lives().items()):
        slots = free.get((channel[0], life), [])
        if not slots:
            return None
        standing[slots.pop(0)] = channel
    return standing


def _stage_v2(branches: Sequence[Sequence[Filter]], history: _History, slots: Slots) -> StageV2:
    proj, branch, *rest = branches
    real = len(proj[-1].bias), len(branch[-1].bias)
    parts = [_up(real[0]), _up(sum(real), 2 * LANES) - _up(real[0])]
    physical = _follow(parts, len(rest), False)
    standing = _match(history, physical)
    while standing is None:
        parts[1] += 2 * LANES
        physical = _follow(parts, len(rest), False)
        standing = _match(history, physical)

    def rows(part: int, size: int) -> Slots:
        return np.array([standing.get((part, slot), (part, EMPTY))[1] for slot in range(size)])

    result = [_UnitV2(_projection(proj, slots, rows(0, parts[0])), _branch(branch, slots, rows(1, parts[1])))]
    half = sum(parts) // 2
    for number, branch in enumerate(rest):
        column = {channel: index for index, channel in enumerate(history.inputs[number])}
        read = np.array([column.get(standing.get(slot), EMPTY) for slot in physical.inputs[number]])
        result.append(_UnitV2((), _branch(branch, read, rows(number + 2, half))))
    position = {channel: index for index, channel in enumerate(history.output)}
    return result, np.array([position.get(standing.get(slot), EMPTY) for slot in physical.output])


def _folded_stage_v2(branches: Sequence[Sequence[Filter]], history: _History, slots: Slots) -> StageV2:
    proj, branch, *rest = branches
    rows = [_filled(range(number), _up(number)) for number in (len(proj[-1].bias), len(branch[-1].bias))]
    standing = [(part, index) for part in (0, 1) for index in rows[part]]
    result = [_UnitV2(_projection(proj, slots, rows[0]), _branch(branch, slots, rows[1]))]
    for number, branch in enumerate(rest):
        column = {channel: index for index, channel in enumerate(history.inputs[number])}
        read = np.array([column.get(channel, EMPTY) for channel in standing])
        written = np.full(len(read), EMPTY)
        written[read != EMPTY] = np.arange(len(column))
        filters = _branch(branch, read, written)
        filters[-1] = filters[-1]._replace(relu=False)
        result.append(_FoldedUnitV2(filters, read == EMPTY))
        standing = [channel if new == EMPTY else (number + 2, new) for channel, new in zip(standing, written)]
    position = {channel: index for index, channel in enumerate(history.output)}
    return result, np.array([position.get(channel, EMPTY) for channel in standing])


def _stage_of_pieces_v2(
    branches: Sequence[Sequence[Filter]], history: _History, slots: Slots, block: int = BLOCK
) -> StageV2:
    stage, slots = stage_in_pieces(branches, history.readers, slots, block)
    return [stage], slots


STAGES_V2: Dict[str, Callable[..., StageV2]] = {
    "grouped": _stage_v2,
    "dense": _folded_stage_v2,
    "pieces": _stage_of_pieces_v2,
    # OpenVINO computes with the channels of a pixel together, in any number, so that nothing has to be whole blocks.
    "cut": partial(_stage_of_pieces_v2, block=1),
}


def _projection(filters: Sequence[Filter], read: Slots, written: Slots) -> List[Filter]:
    depthwise, project = filters
    return [depthwise.channelwise(read), project.reading(read).writing(written)]


def _branch(filters: Sequence[Filter], read: Slots, written: Slots) -> List[Filter]:
    reduce, depthwise, expand = filters
    hidden = _filled(range(len(reduce.bias)), _up(len(reduce.bias)))
    return [
        reduce.reading(read).writing(hidden),
        depthwise.channelwise(hidden),
        expand.reading(hidden).writing(written),
    ]
