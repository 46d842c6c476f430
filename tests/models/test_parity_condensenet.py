"""CondenseNet and CondenseNetV2 against the authors' code: logits, every stage of the pruning, the conversion."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import NamedTuple

import detrand
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from references import deviation, path

from gluon_effnets import complexity, get_model
from gluon_effnets.models.condense import _convert, condense
from gluon_effnets.nn import (
    CondensedConv,
    CondensedReactivation,
    DenseLayer,
    LearnedGroupConv,
    MaskedConv,
    SparseFeatureReactivation,
    masked_layers,
)
from gluon_effnets.weights import load_official
from gluon_effnets.weights.condensenet import CONDENSENET

HALF = {"condensed": True, "condensed_classifier": True}


class Family(NamedTuple):
    """The references of one network: beginning of their names, our model, sources, options after the conversion."""

    begin: str
    model: str
    source: str
    condensed: dict

    def path(self, form: str) -> Path:
        return path(f"{self.begin}_{form}")


FAMILIES = [
    Family("condensenet_cifar10_tiny", "condensenet_tiny", "condensenet", HALF),
    Family("cdnv2_cifar10_tiny", "condensenet_v2_tiny", "condensenetv2", {"condensed": True}),
    Family("cdnv2_a", "condensenet_v2_a", "condensenetv2", {"condensed": True}),
]
V1, V2, A = FAMILIES
PRESENT = [pytest.param(family, id=family.begin) for family in FAMILIES if family.path("init").is_file()]


def read(where: Path) -> dict:
    return json.loads(where.read_text())


def loaded(family: Family, form: str, reference: dict):
    """Our network with the reference's state."""
    options = {} if form != "converted" else family.condensed
    net = get_model(family.model, **options)
    suffix = "_converted" if form == "converted" else ""
    assert load_official(net, detrand.state(reference)) == family.source + suffix
    return net


def logits(net, reference: dict, scale: float = 1) -> np.ndarray:
    return net(mx.nd.array(detrand.images(**reference["input"]) * scale)).asnumpy()


def official_mask(layer: MaskedConv) -> np.ndarray:
    """Our mask as the authors' code holds it: of the weight's shape, uint8."""
    mask, (out, inputs) = layer.mask.data().asnumpy(), layer.weight.shape[:2]
    is_update = isinstance(layer, SparseFeatureReactivation)
    expanded = np.tile(mask.T, (1, inputs // layer.groups)) if is_update else np.tile(mask, (out // layer.groups, 1))
    return expanded.reshape(layer.weight.shape).astype(np.uint8)


def official_tensors(net) -> dict:
    """Our parameters under the authors' names, which are the same for both versions and forms."""
    return {key: param.data().asnumpy() for key, param in CONDENSENET.keys(net).items()}


def learned(net) -> dict:
    """The masked layers by their official names."""
    layers = {layer.mask: layer for layer in masked_layers(net).values()}
    return {key[: -len("._mask")]: layers[param] for key, param in CONDENSENET.keys(net).items() if param in layers}


def one_hot_columns(table: np.ndarray) -> list:
    """Our table as the columns in which the rows of the authors' matrix have their one."""
    rows = {int(row): column for group in table for column, row in enumerate(group)}
    return [rows[row] for row in range(table.max())]  # the last number means none


@pytest.mark.parametrize("form", ["init", "pruned"])
@pytest.mark.parametrize("family", PRESENT)
def test_masked_networks_give_the_official_logits(family, form):
    reference = read(family.path(form))
    net = loaded(family, form, reference)
    net.hybridize()
    assert deviation(logits(net, reference), np.array(reference["logits"])) < 1e-4
    if form == "pruned":
        extra = reference["extra"]
        assert deviation(logits(net, reference, extra["input_scale"]), np.array(extra["logits"])) < 1e-4
    counted = net if form == "init" else condense(net)
    assert complexity.count_params(net) == reference["params"]
    assert complexity.count(counted, reference["input"]["size"]).madds == reference["madds"]


@pytest.mark.parametrize("family", PRESENT)
def test_pruning_and_conversion_repeat_the_official_ones(family):
    """From the weights alone: the mask of every layer after every stage, then all tensors of the conversion."""
    start, end = read(family.path("init")), read(family.path("pruned"))
    net = loaded(family, "init", start)
    for name, layer in learned(net).items():
        seen = []
        while not layer.finished:
            layer.drop()
            seen.append(zlib.crc32(official_mask(layer).tobytes()))
        assert seen == end["stage_mask_crc32"][name], name
        assert layer.stage == len(seen) == layer.factor - 1
        explicit = detrand.decoded(end["explicit"][f"{name}._mask"])
        np.testing.assert_array_equal(official_mask(layer), explicit, name)
    assert end["stage_mask_crc32"].keys() == learned(net).keys()
    pruned = logits(net, end)
    assert deviation(pruned, np.array(end["logits"])) < 1e-4

    reference, full = read(family.path("converted")), condense(net)
    assert np.abs(logits(full, end) - pruned).max() <= 1e-6 * np.abs(pruned).max()
    net = condense(net, classifier=True) if family is V1 else full
    assert_converted(net, reference)
    scale = reference["extra"]["input_scale"]
    scaled = np.array(reference["extra"]["logits" if family is V1 else "logits_of_pruned_form"])
    assert deviation(logits(net, reference), np.array(reference["logits"])) < 1e-4
    assert deviation(logits(net, reference, scale), scaled) < 1e-4
    cost = complexity.count(net, reference["input"]["size"])
    assert (cost.params, cost.madds) == (reference["params"], reference["madds"])


def assert_converted(net, reference):
    """Every tensor under its official name equals the official conversion's, bit for bit."""
    ours, crc = official_tensors(net), reference["tensor_crc32"]
    indices = {key for key in ours if key.endswith("index")}
    assert ours.keys() - indices == crc.keys()
    different = [key for key, value in crc.items() if zlib.crc32(ours[key].tobytes()) != value]
    assert not different
    for key in indices:
        entry = reference["explicit"][key]
        if entry["enc"] == "onehot_rows":
            assert one_hot_columns(ours[key]) == entry["cols"], key
        else:
            assert ours[key].tolist() == entry["values"], key


@pytest.mark.parametrize("family", PRESENT)
def test_a_converted_checkpoint_is_imported(family):
    """Written from our conversion under the authors' names and in their layout, which the test before verifies."""
    reference = read(family.path("converted"))
    pruned = loaded(family, "pruned", read(family.path("pruned")))
    state = official_tensors(condense(pruned, classifier=family is V1))
    state.update({key: detrand.decoded(entry) for key, entry in reference["explicit"].items()})
    net = get_model(family.model, **family.condensed)
    assert load_official(net, {f"module.{key}": value for key, value in state.items()}) == f"{family.source}_converted"
    assert_converted(net, reference)
    assert deviation(logits(net, reference), np.array(reference["logits"])) < 1e-4


@pytest.mark.skipif(not path("converted_cdnv2_a").is_file(), reason="needs GLUON_EFFNETS_PARITY")
def test_the_published_checkpoints_layout_gives_the_official_logits():
    reference = read(path("converted_cdnv2_a"))
    net = loaded(A, "converted", reference)
    net.hybridize()
    assert deviation(logits(net, reference), np.array(reference["logits"])) < 1e-4
    cost = complexity.count(net, 224)
    assert (cost.params, cost.madds) == (reference["params"], reference["madds"])
    assert complexity.count(net, 224, "condensenetv2").madds == reference["official_measure"]["flops"]


# Known mistakes


def _groups_side_by_side(net, monkeypatch):
    def times_mask(self, F, weight, mask):
        return weight * F.reshape(F.repeat(mask, self.channels // self.groups, axis=0), weight.shape)

    monkeypatch.setattr(LearnedGroupConv, "_times_mask", times_mask)


def _update_groups_side_by_side(net, monkeypatch):
    def times_mask(self, F, weight, mask):
        return weight * F.reshape(F.repeat(F.transpose(mask), weight.shape[1] // self.groups, axis=1), weight.shape)

    monkeypatch.setattr(SparseFeatureReactivation, "_times_mask", times_mask)


def _update_of_the_features_before_se(net, monkeypatch):
    def forward(self, F, x):
        new = self.conv(self.act(self.bn(self.reduce(x))))
        x = x + self.update(new)
        return F.concat(x, new if self.se is None else self.se(new), dim=1)

    monkeypatch.setattr(DenseLayer, "hybrid_forward", forward)


def _activation_before_bn(net, monkeypatch):
    def forward(self, F, x, weight, mask):
        weight = self._times_mask(F, weight, mask)
        return F.Convolution(self.bn(self.act(x)), weight, kernel=(1, 1), num_filter=self.channels, no_bias=True)

    monkeypatch.setattr(MaskedConv, "hybrid_forward", forward)


def _unmasked(net, monkeypatch):
    for layer in masked_layers(net).values():
        layer.mask.set_data(mx.nd.ones(layer.mask.shape))


def _epsilon_of_tensorflow(net, monkeypatch):
    net.apply(lambda block: block._kwargs.update(eps=1e-3) if isinstance(block, nn.BatchNorm) else None)


@pytest.mark.parametrize(
    "mistake, least",
    [
        (_groups_side_by_side, 0.3),
        (_update_groups_side_by_side, 0.1),
        (_update_of_the_features_before_se, 0.01),
        (_activation_before_bn, 0.3),
        (_unmasked, 0.3),
        (_epsilon_of_tensorflow, 0.003),
    ],
)
def test_every_known_mistake_is_far_above_the_tolerance(mistake, least, monkeypatch):
    reference = read(V2.path("pruned"))
    net, official = loaded(V2, "pruned", reference), np.array(reference["logits"])
    assert deviation(logits(net, reference), official) < 1e-4
    mistake(net, monkeypatch)
    assert deviation(logits(net, reference), official) > least


# Single layers, whose weights move between the stages


CASES = {case["name"]: case for case in read(path("unit_lgc_sfr"))["cases"]}
JUMPS = [name for name in CASES if name.endswith("_jump")]


def _layer(case: dict, condensed: bool = False):
    types = {"lgc": (LearnedGroupConv, CondensedConv), "sfr": (SparseFeatureReactivation, CondensedReactivation)}
    act = {"ReLU": "relu", "HS": "hard_swish"}[case["activation"]]
    numbers = {"groups": case["groups"], "factor": case["condense_factor"]}
    layer = types[case["kind"]][condensed](case["in"], case["out"], act=act, **numbers)
    layer.initialize()
    return layer


def _masked_layer(case: dict) -> MaskedConv:
    layer = _layer(case)
    leaves = {"gamma": "weight", "beta": "bias"}
    for tensor, param in layer.bn._reg_params.items():
        param.set_data(mx.nd.array(detrand.tensor(f"{case['name']}.norm.{leaves.get(tensor, tensor)}", param.shape)))
    return layer


def _set_weight(layer: MaskedConv, case: dict, stage: int) -> np.ndarray:
    weight = detrand.tensor(f"{case['name']}.stage{stage}.conv.weight", layer.weight.shape)
    layer.weight.set_data(mx.nd.array(weight))
    return weight


def _input(case: dict) -> mx.nd.NDArray:
    size = case["in"]
    return mx.nd.array(detrand.images(2, 4 * size, 7).ravel()[: 2 * size * 9].reshape(2, size, 3, 3))


def _lasso(case: dict, masked: np.ndarray) -> float:
    """The sum over the pairs that are dropped together, written as loops."""
    masked, groups, total = masked[:, :, 0, 0].astype(np.float64), case["groups"], 0.0
    for group in range(groups):
        part = masked[group::groups] if case["kind"] == "lgc" else masked[:, group::groups].T
        total += sum(max(np.square(column).sum(), 1e-6) ** 0.5 for column in part.T)
    return total


@pytest.mark.parametrize("name", [name for name in CASES if name not in JUMPS])
def test_layers_prune_as_the_official_ones(name):
    case = CASES[name]
    layer, x = _masked_layer(case), _input(case)
    for number, stage in enumerate(case["stages"]):
        weight = _set_weight(layer, case, number)
        if number:
            layer.drop()
            np.testing.assert_array_equal(official_mask(layer), detrand.decoded(stage["mask"]))
        assert layer.stage == stage["stage"] == number
        assert layer.mask.shape[1] - layer.kept == stage["count"]
        lasso = _lasso(case, weight * official_mask(layer))
        assert layer.lasso() == pytest.approx(lasso, rel=1e-6)
        # The authors' switch compares with the groups where it means the factor; from there on theirs is 0.
        assert stage["lasso"] == (0 if number >= case["groups"] - 1 else pytest.approx(lasso, rel=1e-5))
        if "output" in stage:
            output = np.array(stage["output"]).reshape(2, case["out"], 3, 3)
            np.testing.assert_allclose(layer(x).asnumpy(), output, atol=1e-5 * np.abs(output).max())
    assert layer.finished
    with pytest.raises(ValueError, match="pruned to 1/"):
        layer.drop()

    twin, converted = _layer(case, condensed=True), case["converted"]
    _convert(layer, twin)
    expected = layer(x).asnumpy()
    np.testing.assert_allclose(twin(x).asnumpy(), expected, atol=1e-6 * np.abs(expected).max())
    if "error" in converted:  # the authors' reactivation cannot be converted unless its factor is its groups
        assert case["kind"] == "sfr" and case["groups"] != case["condense_factor"]
        return
    assert list(twin.conv.weight.shape) == converted["conv_weight_shape"]
    np.testing.assert_allclose(twin.conv.weight.data().asnumpy().ravel(), converted["conv_weight"], rtol=1e-6)
    if case["kind"] == "lgc":
        assert twin.index.data().asnumpy().tolist() == converted["index"]
    else:
        assert [[c] for c in one_hot_columns(twin.table.data().asnumpy())] == converted["index_row_targets"]


@pytest.mark.parametrize("name", JUMPS)
def test_a_jumped_stage_is_caught_up_here(name):
    """The authors' code drops one quota where two are due, and converts what is left wrongly."""
    case = CASES[name]
    layer, x, last = _masked_layer(case), _input(case), case["stages"][-1]
    _set_weight(layer, case, 0)
    for number, stage in enumerate(case["stages"][1:], 1):
        _set_weight(layer, case, number)
        layer.drop()
        np.testing.assert_array_equal(official_mask(layer), detrand.decoded(stage["mask"]))
    assert last["stage"] == layer.factor - 1 and layer.stage == layer.factor - 2 and not layer.finished
    assert case["converted"]["max_abs_diff"] > 2
    layer.drop()
    assert layer.finished and layer.kept == layer.mask.shape[1] // layer.factor
    twin = _layer(case, condensed=True)
    _convert(layer, twin)
    np.testing.assert_allclose(twin(x).asnumpy(), layer(x).asnumpy(), atol=1e-5)


@pytest.mark.parametrize("name, key", [("lgc_jump", "conv_1"), ("sfr_jump", "sfr")])
def test_the_official_unfinished_state_is_loaded_but_not_condensed(name, key):
    case, at = CASES[name], f"features.denseblock_1.denselayer_2.{key}"
    state = detrand.state(read(V2.path("pruned")))
    # The same groups for as many rows or columns as this layer has.
    mask = {**case["stages"][-1]["mask"], "shape": state[f"{at}._mask"].shape, "crc32_full_u8": None}
    state.update(
        {f"{at}._mask": detrand.decoded(mask), f"{at}._count": np.array([12.0]), f"{at}._stage": np.array([3.0])}
    )
    net = get_model(V2.model)
    load_official(net, state)
    np.testing.assert_array_equal(official_mask(learned(net)[at]), state[f"{at}._mask"])
    with pytest.raises(ValueError, match=r"not finished: features.0.2.\w+ \(stage 2 of 3\)"):
        condense(net)
