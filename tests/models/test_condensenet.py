"""CondenseNet and CondenseNetV2: what they cost in training and condensed, and the commands that condense them."""

from __future__ import annotations

import json
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from gluon_effnets import get_model, list_models, model_info
from gluon_effnets.__main__ import main
from gluon_effnets.complexity import condensed_options, count, layer_costs
from gluon_effnets.deploy import load_exported
from gluon_effnets.models.condense import condense
from gluon_effnets.nn import CondensedConv, CondensedReactivation, DenseLayer, SqueezeExcite, masked_layers
from gluon_effnets.weights import convert
from gluon_effnets.weights.condensenet import CONDENSENET, CONDENSENET_V2

pytestmark = pytest.mark.fast

RESULTS = Path(__file__).parents[2] / "results"
HALF = {"condensed": True, "condensed_classifier": True}
FULL = {"condensed": True}

# Model, options of the condensed form, its parameters, MAdds by conv_fc and by the authors' rule; as measured with the
# authors' code.
CONDENSED = [
    ("condensenet_v2_a", FULL, 2_038_444, 43_143_776, 45_874_350),
    ("condensenet_v2_b", FULL, 3_592_662, 140_468_656, 146_469_057),
    ("condensenet_v2_c", FULL, 6_177_512, 295_787_552, 309_740_977),
    ("condensenet_74_c4", FULL, None, None, 530_360_264),
    ("condensenet_74_c4", HALF, 4_773_944, 516_640_576, 529_328_264),
    ("condensenet_74_c8", FULL, None, None, 275_265_480),
    ("condensenet_74_c8", HALF, 2_935_416, 261_545_792, 274_233_480),
    ("cifar_condensenet_86", FULL, 520_202, None, 65_816_394),
    ("cifar_condensenet_86", HALF, 516_202, 62_377_888, 65_812_394),
]
# Model, parameters and MAdds of the network that is trained, all of its weights counted.
TRAINED = [
    ("condensenet_v2_a", 3_350_244, 150_269_536),
    ("condensenet_v2_b", 6_311_412, 457_518_256),
    ("condensenet_v2_c", 15_097_752, 1_389_875_232),
    ("condensenet_74_c4", 11_922_680, 1_267_904_128),
    ("condensenet_74_c8", 11_103_608, 1_137_847_936),
    ("cifar_condensenet_86", 1_451_594, 173_858_624),
]
# M MAdds by the authors' rule and M parameters, rounded as measured with their code.
CIFAR = {50: (28.64, 0.2165), 74: (51.90, 0.4055), 98: (81.26, 0.6484), 110: (98.24, 0.7902), 122: (116.74, 0.9454)}
CIFAR[182] = (512.67, 4.2219)
# Parameters and MAdds of every part of the condensed networks A, B and C.
PARTS = {
    "a": {
        "stem": (432, 5_419_008),
        "learned": (149_920, 12_242_944),
        "grouped": (180_288, 20_772_864),
        "update": (37_480, 3_060_736),
        "se": (77_824, 77_824),
        "last_se": (80_000, 80_000),
        "dense": (663_228, 662_400),
        "classifier": (829_000, 828_000),
        "bn": (20_272, 0),
    },
    "b": {
        "stem": (324, 4_064_256),
        "learned": (435_000, 50_727_936),
        "grouped": (466_992, 70_447_104),
        "update": (108_750, 12_681_984),
        "se": (147_456, 147_456),
        "last_se": (171_696, 171_696),
        "dense": (1_205_248, 1_204_224),
        "classifier": (1_025_000, 1_024_000),
        "bn": (32_196, 0),
    },
    "c": {
        "stem": (432, 5_419_008),
        "learned": (1_019_456, 125_038_592),
        "grouped": (819_072, 130_056_192),
        "update": (254_864, 31_259_648),
        "se": (344_064, 344_064),
        "last_se": (532_512, 532_512),
        "dense": (2_114_560, 2_113_536),
        "classifier": (1_025_000, 1_024_000),
        "bn": (67_552, 0),
    },
}


@pytest.mark.parametrize(("name", "options", "params", "madds", "by_authors"), CONDENSED)
def test_costs_of_condensed_networks_are_the_official_ones(name, options, params, madds, by_authors):
    info, net = model_info(name), get_model(name, **options)
    cost = count(net, info.input_size)
    assert cost.params == (params or cost.params) and cost.madds == (madds or cost.madds)
    assert count(net, info.input_size, info.family).madds == by_authors


@pytest.mark.parametrize(("name", "params", "madds"), TRAINED)
def test_costs_of_trained_networks_are_the_official_ones(name, params, madds):
    assert count(get_model(name), model_info(name).input_size)[:2] == (params, madds)


@pytest.mark.parametrize("depth", CIFAR)
def test_costs_for_cifar_are_the_official_ones(depth):
    cost = count(get_model(f"cifar_condensenet_{depth}", condensed=True), 32, "condensenet")
    assert (round(cost.madds / 1e6, 2), round(cost.params / 1e6, 4)) == CIFAR[depth]


def _weights(block) -> set:
    return {param for param in block.collect_params().values() if param.grad_req != "null"}


def _parts(net) -> dict:
    """The parameters of every part, by the blocks they belong to."""
    found = {part: set() for part in PARTS["a"]}

    def look(block):
        kinds = {CondensedConv: "learned", CondensedReactivation: "update", SqueezeExcite: "se"}
        if type(block) in kinds:
            found[kinds[type(block)]] |= _weights(block)
        if isinstance(block, DenseLayer):
            found["grouped"] |= _weights(block.conv)
        if isinstance(block, mx.gluon.nn.BatchNorm):
            found["bn"] |= _weights(block)

    net.apply(look)
    last_se, dense = net.features[-1][3], net.features[-1][5]
    found["stem"], found["classifier"] = _weights(net.stages[0][0]), _weights(net.output)
    found["last_se"], found["dense"] = _weights(last_se), _weights(dense)
    found["se"] -= found["last_se"]
    for part in ("learned", "update"):
        found[part] -= found["bn"]
    return found


@pytest.mark.parametrize("size", PARTS)
def test_costs_of_every_part(size):
    net = get_model(f"condensenet_v2_{size}", condensed=True)
    parts = _parts(net)
    assert sum(map(len, parts.values())) == len(_weights(net)) == len(set().union(*parts.values()))
    # An operator's name is that of its weight.
    part_of = {param.name[: -len("_weight")]: part for part, params in parts.items() for param in params}
    madds = dict.fromkeys(parts, 0)
    for layer in layer_costs(net):
        madds[part_of[layer.name.replace("_fwd", "")]] += layer.madds
    seen = {part: (sum(int(np.prod(p.shape)) for p in params), madds[part]) for part, params in parts.items()}
    assert seen == PARTS[size]


def test_published_costs_are_those_by_the_authors_rule():
    rows = json.loads((RESULTS / "published.json").read_text())["rows"]
    # Networks without a module are ours: nothing is published of them.
    official = [name for name in list_models("condensenet_v2_*") if not model_info(name).reconstruction]
    assert len(official) == 3
    for name in [*list_models(family="condensenet"), *official]:
        info = model_info(name)
        net = get_model(name, **condensed_options(get_model(name)))
        cost = count(net, info.input_size, info.family)
        for what, ours in (("parameters", cost.params), ("MAdds", cost.madds)):
            text = next(row["value"] for row in rows if (row["model"], row["what"]) == (name, what))
            printed, digits = float(text.split()[0]), len(text.split()[0].partition(".")[2])
            # 6.178 M parameters are printed as 6.1 M, and 309.7 M multiply-adds as 309 M: cut off.
            cut = int(ours / 1e6 * 10**digits) / 10**digits
            assert printed in (round(ours / 1e6, digits), cut), (name, what)


@pytest.mark.parametrize(
    "name", [n for f in ("condensenet", "condensenetv2", "sfr_shufflenetv2") for n in list_models(family=f)]
)
def test_computed_costs_of_the_deployed_form_are_true(name):
    row, info = json.loads((RESULTS / "computed.json").read_text())[name], model_info(name)
    net = get_model(name, **condensed_options(get_model(name)))
    cost = count(net, row["image_size"])
    seen = {"params": cost.params, "madds": cost.madds}
    if info.family != "sfr_shufflenetv2":
        seen["madds_by_authors"] = count(net, row["image_size"], info.family).madds
    assert row["condensed"] == seen


def test_only_networks_that_are_not_condensed_have_a_deployed_form():
    assert condensed_options(get_model("mobilenet_v3_small")) == {}
    assert condensed_options(get_model("condensenet_v2_tiny")) == FULL
    assert condensed_options(get_model("condensenet_v2_tiny", condensed=True)) == {}


# Commands


def pruned(name="condensenet_v2_tiny", **options):
    mx.random.seed(0)
    net = get_model(name, **options)
    net.initialize()
    for layer in masked_layers(net).values():
        while not layer.finished:
            layer.drop()
    return net


def saved(net, path) -> str:
    net.save_parameters(str(path))
    return str(path)


def images(size=32):
    return mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, size, size)))


def test_export_condenses(tmp_path, capsys):
    net = pruned()
    weights, out = saved(net, tmp_path / "w.params"), tmp_path / "m"
    assert main(["export", "condensenet_v2_tiny", weights, str(out), "--condense"]) == 0
    assert "loaded again" in capsys.readouterr().out
    expected = net(images()).asnumpy()
    block = load_exported(f"{out}-symbol.json", f"{out}-0000.params")
    np.testing.assert_allclose(block(images()).asnumpy(), expected, atol=1e-5 * np.abs(expected).max())
    stored = mx.nd.load(f"{out}-0000.params")
    assert any(key.endswith("_index") for key in stored) and not any(key.endswith("_mask") for key in stored)


def test_export_condenses_the_classifier(tmp_path):
    net = pruned("condensenet_tiny")
    weights, out = saved(net, tmp_path / "w.params"), tmp_path / "m"
    assert main(["export", "condensenet_tiny", weights, str(out), "--condense-classifier"]) == 0
    expected = condense(net, classifier=True)(images()).asnumpy()
    block = load_exported(f"{out}-symbol.json", f"{out}-0000.params")
    np.testing.assert_allclose(block(images()).asnumpy(), expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected - net(images()).asnumpy()).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "source"), [("condensenet_tiny", CONDENSENET), ("condensenet_v2_tiny", CONDENSENET_V2)]
)
@pytest.mark.parametrize("half", [False, True])
def test_convert_condenses_official_checkpoints_and_our_files(name, source, half, tmp_path, capsys):
    net = pruned(name, classes=7)
    state = {key: param.data().asnumpy() for key, param in source.keys(net).items()}
    for key, translation in source.translations(net).items():
        mask, (out, inputs) = state[key], translation.shape[:2]
        times = (out // len(mask), 1) if key.endswith("conv_1._mask") else (1, inputs // len(mask))
        state[key] = np.tile(mask if times[1] == 1 else mask.T, times).reshape(translation.shape)
    np.savez(str(tmp_path / "official.npz"), **state)
    flags = ["--condense-classifier"] if half else ["--condense"]
    expected = condense(net, classifier=half)(images()).asnumpy()
    for file in (str(tmp_path / "official.npz"), saved(net, tmp_path / "ours.params")):
        written = str(tmp_path / "condensed.params")
        assert main(["convert", "--model", name, file, written, *flags]) == 0
        assert "condensed=True" in capsys.readouterr().out
        again = get_model(name, pretrained=written)
        assert again.num_classes == 7 and again.condensed and again.condensed_classifier == half
        np.testing.assert_array_equal(again(images()).asnumpy(), expected)


def test_our_own_files_are_converted_for_condensing_only(tmp_path):
    weights = saved(pruned(), tmp_path / "w.params")
    with pytest.raises(ValueError, match="a file of this package already"):
        convert("condensenet_v2_tiny", weights, tmp_path / "out.params")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        convert("condensenet_v2_tiny", tmp_path / "none.params", tmp_path / "out.params", condense=True)
    assert not (tmp_path / "out.params").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["export", "condensenet_v2_tiny", "{unfinished}", "{out}", "--condense"], "(stage 2 of 3)"),
        (["convert", "--model", "condensenet_v2_tiny", "{unfinished}", "{out}.params", "--condense"],
         "is not finished"),
        (["export", "mobilenet_v3_small", "{other}", "{out}", "--condense"], "has no masked layers to condense"),
        (["convert", "--model", "condensenet_tiny", "{unfinished}", "{out}.params", "--condense"],
         "holds the weights of condensenet_v2_tiny"),
    ],
)  # fmt: skip
def test_what_cannot_be_condensed_is_said_in_one_message(command, message, tmp_path, capsys):
    net = pruned()
    layer = list(masked_layers(net).values())[0]
    layer.mask.set_data(mx.nd.concat(mx.nd.ones((4, 8)), mx.nd.zeros((4, 8)), dim=1))
    other = get_model("mobilenet_v3_small")
    other.initialize()
    files = {"unfinished": saved(net, tmp_path / "w.params"), "other": saved(other, tmp_path / "other.params")}
    assert main([word.format(**files, out=tmp_path / "out") for word in command]) == 1
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err and len(err.splitlines()) <= 3
    assert not list(tmp_path.glob("out*"))


def test_info_shows_both_forms(capsys):
    assert main(["info", "condensenet_v2_a"]) == 0
    out = capsys.readouterr().out
    for number in ("3,350,244", "150,269,536", "2,038,444", "43,143,776", "45,874,350", "46 M", "with condensed"):
        assert number in out, number
    assert main(["info", "condensenet_v2_a", "-o", "condensed=true"]) == 0
    assert "3,350,244" not in capsys.readouterr().out


def test_list_shows_both_forms(capsys):
    assert main(["list", "condensenet_v2_*"]) == 0
    out = capsys.readouterr().out
    assert "3.35 M (2.04 M)" in out and "150.3 M (43.1 M)" in out and "in brackets: condensed" in out
    assert main(["list", "idle_mbv3"]) == 0
    assert "brackets" not in capsys.readouterr().out


def test_evaluation_interpolates_as_the_authors_do():
    filters = [model_info(f"condensenet_v2_{size}").interpolation for size in "abc"]
    assert filters == ["pillow_bicubic", "pillow_bicubic", "bilinear"]


# --- the modules, one by one ---


@pytest.mark.parametrize(
    "name, params, madds",
    [
        # Without the 37,480 weights and 3,060,736 multiply-adds of PARTS, and the BN of 784 channels before them.
        ("condensenet_v2_a_without_sfr", 2_038_444 - 37_480 - 2 * 784, 43_143_776 - 3_060_736),
        ("condensenet_v2_a_without_se", 2_038_444 - 77_824 - 80_000, 43_143_776 - 77_824 - 80_000),
        ("condensenet_v2_a_without_hard_swish", 2_038_444, 43_143_776),
        ("condensenet_v2_a_growth_16", 1_215_908, 46_814_816),
    ],
)
def test_networks_without_a_module_cost_what_is_left(name, params, madds):
    cost = count(get_model(name, **FULL))
    assert (cost.params, cost.madds) == (params, madds)
    assert model_info(name).reconstruction


def test_modules_are_options_of_every_network():
    with_all = get_model("condensenet_v2_tiny")
    operators = {node["op"] for node in json.loads(with_all(mx.sym.var("data")).tojson())["nodes"]}
    assert "hard_sigmoid" in operators
    plain = get_model("condensenet_v2_tiny", use_sfr=False, use_se=False, use_hard_swish=False, head_hidden=None)
    operators = {node["op"] for node in json.loads(plain(mx.sym.var("data")).tojson())["nodes"]}
    assert "hard_sigmoid" not in operators and "FullyConnected" in operators
    kinds = {type(block) for block in _blocks(plain)}
    assert SqueezeExcite not in kinds and not any(getattr(block, "update", None) for block in _blocks(plain))
    grown = get_model("condensenet_v2_b", growth=[12, 12, 12, 12, 12])
    assert grown.stage_info[-1].channels == 24 + 12 * 26


@pytest.mark.parametrize("options", [{"use_sfr": False}, {"update_factor": 1}, {"update_factor": 2}])
def test_networks_without_reactivations_or_with_other_factors_condense(options):
    net = get_model("condensenet_v2_tiny", **options)
    mx.random.seed(0)
    net.initialize()
    for layer in masked_layers(net).values():
        while not layer.finished:
            layer.drop()
    x = mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, 32, 32)))
    expected = net(x).asnumpy()
    np.testing.assert_allclose(condense(net)(x).asnumpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_weights_of_a_network_without_a_module_are_refused_by_the_whole(tmp_path):
    plain = get_model("condensenet_v2_tiny", use_hard_swish=False)  # equal shapes
    plain.initialize()
    plain.save_parameters(str(tmp_path / "plain.params"))
    with pytest.raises(ValueError, match=r"use_hard_swish=False \(here None\)"):
        get_model("condensenet_v2_tiny").load_parameters(str(tmp_path / "plain.params"))


def _blocks(net):
    found = []
    net.apply(found.append)
    return found
