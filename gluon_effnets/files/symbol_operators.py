"""The operators of MXNet that exports of this package have, with the form and the range of every setting."""

from __future__ import annotations

import math
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .text import shortened

__all__ = ["OPERATORS", "TRUSTED", "WITH_SUBGRAPH", "ForeignOperatorError", "Node", "Operator", "check_subgraph"]

Read = Callable[[str], Any]  # a setting's text -> its value; None if it is not allowed


class ForeignOperatorError(ValueError):
    """An operator, or a setting of one, that no export of this package has."""


class Node(NamedTuple):
    """One operator of a graph: its sources are (node, output), `attrs` its settings as values."""

    op: str
    name: str
    sources: Tuple[Tuple[int, int], ...]
    attrs: Dict[str, Any]
    outputs: int


class Operator(NamedTuple):
    """What is known of an operator.

    Args:
        inputs: Their number, for settings.
        settings: How each is read; others are not allowed.
        needed: Those that must be there.
        outputs: Their number, for settings.
        variables: Places of the inputs that must be variables, since MXNet may write into them.
        indices: Places of the inputs that must be whole numbers of the graph's own making: MXNet would read beyond its
            memory at one that is NaN.
    """

    inputs: Callable[[Mapping[str, Any]], int]
    settings: Mapping[str, Read] = {}
    needed: Tuple[str, ...] = ()
    outputs: Callable[[Mapping[str, Any]], int] = lambda attrs: 1
    variables: Tuple[int, ...] = ()
    indices: Tuple[int, ...] = ()

    def read(self, attrs: Mapping[str, str], where: str) -> Dict[str, Any]:
        """Return the values of settings. Raises ValueError for a setting that is missing, unknown, or out of range."""
        found = {}
        for key, value in attrs.items():
            if key not in self.settings:
                raise ForeignOperatorError(f"{where} has the setting {shortened(key)}")
            found[key] = self.settings[key](value)
            if found[key] is None:
                raise ForeignOperatorError(f"{where} has the setting {key}={shortened(value)}")
        for key in self.needed:
            if key not in found:
                raise ValueError(f"{where} lacks the setting {key}")
        return found

    def check_inputs(self, node: Node, before: Sequence[Node], where: str) -> None:
        """Raise ValueError for another number of inputs, or an operator where a variable must be."""
        wanted = self.inputs(node.attrs)
        if len(node.sources) != wanted:
            raise ValueError(f"{where} has {len(node.sources)} inputs; {node.op} takes {wanted}")
        for place in self.variables:
            if before[node.sources[place][0]].op != "null":
                raise ValueError(f"{where} has an operator for input {place}, where a variable must be")
        for place in self.indices:
            if not _are_indices(node.sources[place], before):
                raise ForeignOperatorError(f"{where} has indices that are no places of topk")


def _are_indices(entry: Tuple[int, int], before: Sequence[Node]) -> bool:
    """Whether an array comes from the places that topk gives, and from numbers of rows, alone."""
    waiting, seen = [entry[0]], set()
    while waiting:
        number = waiting.pop()
        node = before[number]
        if number in seen or node.op == "_contrib_arange_like":
            continue
        seen.add(number)
        if node.op == "topk" and node.attrs.get("ret_typ") == "indices":
            continue
        if node.op not in _OF_INDICES:
            return False
        # Of the array that another one is made as large as, no value is read.
        waiting += [source for source, _ in node.sources[: _OF_INDICES[node.op]]]
    return True


# What may be done to indices, and how many of its inputs are theirs.
_OF_INDICES: Dict[str, Optional[int]] = {
    **dict.fromkeys(("Cast", "Reshape", "_div_scalar", "broadcast_like", "expand_dims", "floor", "slice_axis"), 1),
    "stack": None,
}


def _whole(low: int, high: int) -> Read:
    def read(text: str) -> Optional[int]:
        fits = re.fullmatch(r"-?\d{1,9}", text) and low <= int(text) <= high
        return int(text) if fits else None

    return read


def _wholes(low: int, high: int, least: int, most: int) -> Read:
    def read(text: str) -> Optional[Tuple[int, ...]]:
        if not re.fullmatch(r"\((-?\d{1,9}(, ?-?\d{1,9})*,?)?\)", text):
            return None
        values = tuple(int(part) for part in text[1:-1].split(",") if part.strip())
        return values if least <= len(values) <= most and all(low <= value <= high for value in values) else None

    return read


def _real(low: float = -1e30, high: float = 1e30) -> Read:
    def read(text: str) -> Optional[float]:
        if not re.fullmatch(r"[-+]?\d{0,40}\.?\d{0,40}(e[-+]?\d{1,3})?", text) or not any(map(str.isdigit, text)):
            return None
        value = float(text)
        return value if math.isfinite(value) and low <= value <= high else None

    return read


def _truth(text: str) -> Optional[bool]:
    return {"True": True, "true": True, "1": True, "False": False, "false": False, "0": False}.get(text)


def _choice(*words: str) -> Read:
    return lambda text: text if text in words else None


def _perhaps(read: Read) -> Read:
    """Also 'None', whose value is then a text."""
    return lambda text: text if text == "None" else read(text)


def _exactly(number: int) -> Callable[[Mapping[str, Any]], int]:
    return lambda attrs: number


def _weighted(attrs: Mapping[str, Any]) -> int:
    return 2 if attrs.get("no_bias") else 3


def _quantized_outputs(attrs: Mapping[str, Any]) -> int:
    return 3 if attrs.get("quantized") and not attrs.get("enable_float_output") else 1


_AXIS, _CHANNELS = _whole(-6, 6), _whole(1, 1 << 20)
_PAIR = {"kernel": _wholes(1, 1024, 2, 2), "stride": _wholes(1, 64, 2, 2), "pad": _wholes(0, 512, 2, 2)}
_LAYOUT = _choice("NCHW")
_RANGE = {"min_calib_range": _real(), "max_calib_range": _real()}
_CONVOLUTION = Operator(
    _weighted,
    {
        **_PAIR,
        "dilate": _wholes(1, 64, 2, 2),
        "num_filter": _CHANNELS,
        "num_group": _CHANNELS,
        "no_bias": _truth,
        "layout": _LAYOUT,
    },
    ("kernel", "num_filter"),
)
_DENSE = Operator(_weighted, {"num_hidden": _CHANNELS, "no_bias": _truth, "flatten": _truth}, ("num_hidden",))
_BN = {
    "eps": _real(1e-12, 10),
    "momentum": _real(0, 1),
    "fix_gamma": _truth,
    "use_global_stats": _truth,
    "axis": _choice("1"),
}
_POOLING = {
    **_PAIR,
    "pool_type": _choice("avg", "max"),
    "global_pool": _truth,
    "pooling_convention": _choice("valid", "full"),
    "count_include_pad": _truth,
    "layout": _LAYOUT,
}
_ACTIVATION = {"act_type": _choice("relu", "sigmoid", "tanh", "softrelu", "softsign")}
_CLIP = {"a_min": _real(), "a_max": _real()}
_SHAPE = {"shape": _wholes(-4, 1 << 30, 1, 8)}
_SLICE = {"axis": _AXIS, "begin": _whole(-(1 << 20), 1 << 20), "end": _perhaps(_whole(-(1 << 20), 1 << 20))}
_PLACES = {key: _perhaps(_whole(-8, 8)) for key in ("lhs_begin", "lhs_end", "rhs_begin", "rhs_end")}
_TOPK = {
    "axis": _AXIS,
    "k": _whole(1, 1 << 20),
    "ret_typ": _choice("indices", "value"),
    "dtype": _choice("float32", "float64"),
}
_PLACE = _whole(0, 8)
_SUPPRESSION = {
    "overlap_thresh": _real(0, 1),
    "valid_thresh": _real(0, 1),
    "topk": _whole(-1, 1 << 24),
    **dict.fromkeys(("coord_start", "id_index", "score_index"), _PLACE),
}
_INITS = _choice("zeros", "ones", '["one", {}]', '["zero", {}]', '["constant", {"value": 0.0001}]')
_FUSED = {"with_bn": _truth, "with_act": _truth, "with_sum": _truth, "with_postsum_act": _truth, "quantized": _truth}
_QUANTIZED_DENSE = {
    "with_eltwise": _truth,
    "quantized": _truth,
    "channel_wise_quantize": _truth,
    "enable_float_output": _truth,
}

_ONE, _TWO = Operator(_exactly(1)), Operator(_exactly(2))
OPERATORS: Dict[str, Operator] = {
    "null": Operator(
        _exactly(0),
        {
            "__dtype__": _whole(0, 7),
            "__shape__": _wholes(0, 1 << 24, 0, 6),
            "__lr_mult__": _real(),
            "__wd_mult__": _real(),
            "__storage_type__": _choice("0"),
            "__init__": _INITS,
        },
    ),
    "Activation": Operator(_exactly(1), _ACTIVATION, ("act_type",)),
    "BatchNorm": Operator(_exactly(5), _BN, variables=(1, 2, 3, 4)),
    "Cast": Operator(_exactly(1), {"dtype": _choice("int32", "float32", "float64")}, ("dtype",)),
    "Concat": Operator(lambda attrs: attrs["num_args"], {"dim": _AXIS, "num_args": _whole(1, 1000)}, ("num_args",)),
    "Convolution": _CONVOLUTION,
    "Dropout": Operator(
        _exactly(1),
        {"p": _real(0, 0.999), "axes": _wholes(0, 6, 0, 6), "cudnn_off": _truth, "mode": _choice("training")},
    ),
    "Flatten": _ONE,
    "FullyConnected": _DENSE,
    "GroupNorm": Operator(_exactly(3), {"eps": _real(1e-12, 10), "num_groups": _CHANNELS}, ("num_groups",)),
    "LRN": Operator(
        _exactly(1), {"alpha": _real(), "beta": _real(), "knorm": _real(1e-6), "nsize": _whole(1, 99)}, ("nsize",)
    ),
    "Pad": Operator(
        _exactly(1),
        {"mode": _choice("constant"), "constant_value": _real(), "pad_width": _wholes(0, 512, 8, 8)},
        ("mode", "pad_width"),
    ),
    "Pooling": Operator(_exactly(1), _POOLING),
    "Reshape": Operator(_exactly(1), _SHAPE, ("shape",)),
    "SliceChannel": Operator(
        _exactly(1),
        {"axis": _AXIS, "num_outputs": _whole(1, 1000), "squeeze_axis": _truth},
        ("num_outputs",),
        lambda attrs: attrs["num_outputs"],
    ),
    "SwapAxis": Operator(_exactly(1), {"dim1": _whole(0, 6), "dim2": _whole(0, 6)}),
    "UpSampling": Operator(
        _exactly(1),
        {"num_args": _choice("1"), "sample_type": _choice("nearest"), "scale": _whole(1, 64)},
        ("sample_type", "scale"),
    ),
    "add_n": Operator(lambda attrs: attrs["num_args"], {"num_args": _whole(1, 1000)}, ("num_args",)),
    "argmax": Operator(_exactly(1), {"axis": _AXIS, "keepdims": _truth}, ("axis",)),
    "broadcast_axis": Operator(_exactly(1), {"axis": _AXIS, "size": _CHANNELS}, ("axis", "size")),
    "clip": Operator(_exactly(1), _CLIP, ("a_min", "a_max")),
    "expand_dims": Operator(_exactly(1), {"axis": _AXIS}, ("axis",)),
    "gather_nd": Operator(_exactly(2), indices=(1,)),
    "hard_sigmoid": Operator(_exactly(1), {"alpha": _real(), "beta": _real()}),
    "reshape_like": Operator(_exactly(2), _PLACES),
    "slice_axis": Operator(_exactly(1), _SLICE, ("axis", "begin", "end")),
    "slice_like": Operator(_exactly(2), {"axes": _wholes(0, 6, 1, 6)}, ("axes",)),
    "softmax": Operator(_exactly(1), {"axis": _AXIS}),
    "stack": Operator(lambda attrs: attrs["num_args"], {"axis": _AXIS, "num_args": _whole(1, 10)}, ("num_args",)),
    "take": Operator(_exactly(2), {"axis": _AXIS, "mode": _choice("clip")}),
    "topk": Operator(_exactly(1), _TOPK, tuple(_TOPK)[:3]),
    "transpose": Operator(_exactly(1), {"axes": _wholes(0, 6, 0, 6)}),
    "_contrib_AdaptiveAvgPooling2D": Operator(_exactly(1), {"output_size": _whole(1, 1024)}, ("output_size",)),
    "_contrib_BilinearResize2D": Operator(
        _exactly(1), {"height": _whole(1, 4096), "width": _whole(1, 4096)}, ("height", "width")
    ),
    "_contrib_arange_like": Operator(_exactly(1), {"axis": _whole(0, 6), "start": _choice("0")}, ("axis",)),
    "_contrib_box_nms": Operator(_exactly(1), _SUPPRESSION, ("overlap_thresh", "valid_thresh", "topk")),
    "_contrib_dequantize": Operator(_exactly(3)),
    "_contrib_quantize_v2": Operator(
        _exactly(1), {**_RANGE, "out_type": _choice("auto")}, ("min_calib_range", "max_calib_range"), _exactly(3)
    ),
    "_contrib_quantized_act": Operator(_exactly(3), {"act_type": _choice("relu")}, ("act_type",), _exactly(3)),
    "_contrib_quantized_batch_norm": Operator(
        _exactly(7), {**_BN, **_RANGE}, tuple(_RANGE), _exactly(3), variables=(1, 2, 3, 4)
    ),
    "_contrib_quantized_flatten": Operator(_exactly(3), outputs=_exactly(3)),
    "_contrib_quantized_pooling": Operator(_exactly(3), _POOLING, outputs=_exactly(3)),
    "_div_scalar": Operator(_exactly(1), {"scalar": _real(1e-6)}, ("scalar",)),
    **dict.fromkeys(
        (
            *("_greater_equal_scalar", "_greater_scalar", "_lesser_scalar"),
            *("_minimum_scalar", "_mul_scalar", "_plus_scalar", "_rminus_scalar"),
        ),
        Operator(_exactly(1), {"scalar": _real()}, ("scalar",)),
    ),
    "_sg_mkldnn_conv": Operator(_exactly(0), {**_FUSED, **_RANGE}, outputs=_quantized_outputs),
    "_sg_mkldnn_fully_connected": Operator(_exactly(0), {**_QUANTIZED_DENSE, **_RANGE}, outputs=_quantized_outputs),
    "where": Operator(_exactly(3)),
    "prod": Operator(_exactly(1), {"axis": _AXIS, "keepdims": _truth}, ("axis",)),
    "repeat": Operator(_exactly(1), {"axis": _AXIS, "repeats": _CHANNELS}, ("axis", "repeats")),
    "_maximum": _TWO,
    **dict.fromkeys(("broadcast_add", "broadcast_div", "broadcast_like", "broadcast_mul", "broadcast_sub"), _TWO),
    "broadcast_equal": _TWO,
    **dict.fromkeys(("BlockGrad", "exp", "floor", "ones_like", "relu", "sigmoid", "zeros_like"), _ONE),
    **dict.fromkeys(("elemwise_add", "elemwise_mul", "elemwise_sub"), _TWO),
}
# What an export of this package has, but nobody can say of a file that it is harmless.
TRUSTED = {"_contrib_ROIAlign": "reads memory wherever its regions are"}
WITH_SUBGRAPH = ("_sg_mkldnn_conv", "_sg_mkldnn_fully_connected")
_ACTS = ("Activation", "clip")


def check_subgraph(node: Node, inner: Sequence[Node], where: str) -> None:
    """Raise ValueError unless oneDNN's fused operator holds what its settings say, in the order that it runs them.

    Args:
        node: The operator, whose inputs are those of the graph within it, and in 8 bits their ranges.
        inner: The nodes of that graph, which ends in the last one.
        where: The place of the operator.
    """
    attrs, conv = node.attrs, node.op == "_sg_mkldnn_conv"
    steps = [number for number, part in enumerate(inner) if part.op != "null"]
    wanted: List[Tuple[str, ...]] = [("Convolution",) if conv else ("FullyConnected",)]
    wanted += [("BatchNorm",)] * bool(attrs.get("with_bn"))
    wanted += [_ACTS] * bool(attrs.get("with_act") or attrs.get("with_eltwise"))
    wanted += [("elemwise_add",)] * bool(attrs.get("with_sum"))
    wanted += [_ACTS] * bool(attrs.get("with_postsum_act"))
    if len(steps) != len(wanted) or any(inner[step].op not in ops for step, ops in zip(steps, wanted)):
        raise ValueError(f"{where} has another graph within it than its settings say")
    used: List[int] = []
    for before, step in zip([None, *steps], steps):
        OPERATORS[inner[step].op].check_inputs(inner[step], inner[:step], where)
        sources = [source for source, _ in inner[step].sources]
        used += [source for source in sources if inner[source].op == "null"]
        if [source for source in sources if inner[source].op != "null"] != ([] if before is None else [before]):
            raise ValueError(f"{where} has a graph within it that is no chain")
    variables = len(inner) - len(steps)
    if sorted(used) != [number for number in range(len(inner)) if number not in steps]:
        raise ValueError(f"{where} has a graph within it with variables that are read twice, or never")
    if attrs.get("quantized") and not conv and not attrs.get("channel_wise_quantize"):
        raise ValueError(f"{where} lacks the setting channel_wise_quantize")
    ranges = 2 * (1 + bool(attrs.get("with_sum"))) if attrs.get("quantized") else 0
    if len(node.sources) != variables + ranges:
        raise ValueError(f"{where} has {len(node.sources)} inputs; its graph takes {variables + ranges}")
