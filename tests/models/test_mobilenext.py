"""MobileNeXt, MobileNetV2 and their ablations: sizes, official outputs, identity divisor, checkpoints, recipes."""

from __future__ import annotations

import functools

import detrand
import mxnet as mx
import numpy as np
import pytest
import references
from mxnet import autograd
from references import OF_MOBILENEXT, UNUSED_BN, deviation, official

from gluon_effnets import get_model
from gluon_effnets.benchmarks.shortcut_variants import compare_shortcuts, shortcuts_table
from gluon_effnets.complexity import count, count_params
from gluon_effnets.deploy import export, load_exported
from gluon_effnets.deploy.to_mxnet.int8 import quantize
from gluon_effnets.evaluate.int8_accuracy import compare_quantized, quantized_table
from gluon_effnets.models.efficientnet import B0
from gluon_effnets.models.idle import compose
from gluon_effnets.models.mobilenetv3 import LARGE
from gluon_effnets.models.mobilenext import MobileNeXt, mobilenext_se, with_sandglass
from gluon_effnets.nn import ConvBN, ConvChain, NarrowShortcuts, SandGlass
from gluon_effnets.weights import convert, load_official
from gluon_effnets.weights.load import SOURCES

# Model, options, parameters, MAdds: exact where the official code was run, else to the printed digit.
SIZES = [
    ("mobilenext_x0_35", {}, 1913976, 75141032),
    ("mobilenext_x0_5", {}, 2152304, 103256448),
    ("mobilenext_x0_75", {}, 2766168, 207926720),
    ("mobilenext_x1_0", {}, 3535416, 311342592),
    ("mobilenext_x1_4", {}, 6126168, 588319256),
    ("mobilenext_x1_0", {"blocks": "paper"}, 3305720, 274.6),
    ("mobilenext_s", {}, 3937011 - UNUSED_BN, 330182144),
    ("mobilenext_l", {}, 4287498 - UNUSED_BN, 415.1),
    ("mobilenext_fig4a", {}, 3383704, 240.7),
    ("mobilenext_fig4b", {}, 3399016, 246131040),
    ("mobilenext_fig4c", {}, 3456472, 295.6),
    ("mobilenet_v2_extra_dw", {}, 3583368, 334445504),
    ("mobilenet_v2_extra_dw", {"extra_act": None}, 3583368, 334445504),
    ("mobilenext_extra_1x1", {}, 3722936, 334.3),
    ("mobilenext_bottleneck_se", {}, 3911032, 311.7),
    ("mobilenext_low_identity", {}, 3397080, 244.7),
    ("mobilenext_low_shortcut", {}, 3535416, 311.3),
    ("mobilenext_without_first_dw", {}, 3460440, 300843264),
    ("mobilenext_ratio_4", {}, 3591832, 303809920),
    ("mobilenet_v2_x0_35", {}, 1677128, 59.3),
    ("mobilenet_v2_x0_5", {}, 1968680, 97.1),
    ("mobilenet_v2_x0_75", {}, 2636424, 209.1),
    ("mobilenet_v2_x1_0", {}, 3504872, 300774272),
    ("mobilenet_v2_x1_4", {}, 6108776, 582.2),
]
# Bottleneck and output width of the 20 blocks in the official code.
WIDTHS = {
    "x0_35": "16 8>32 16>48 16>64 16>64 16>64 32>104 32>104 32>104 32>136 32>136 32>136 32>136 32>200 32>200 "
    "32>200 32>200 64>336 56>336 56>336 208>1280",
    "x0_5": "16 8>48 16>72 16>96 16>96 16>96 32>144 24>144 24>144 32>192 32>192 32>192 32>192 48>288 48>288 "
    "48>288 48>288 80>480 80>480 80>480 208>1280",
    "x0_75": "24 12>72 32>112 32>144 24>144 24>144 48>216 36>216 36>216 48>288 48>288 48>288 48>288 80>432 "
    "72>432 72>432 72>432 128>720 120>720 120>720 208>1280",
    "x1_0": "32 16>96 32>144 32>192 32>192 32>192 48>288 48>288 48>288 64>384 64>384 64>384 64>384 96>576 "
    "96>576 96>576 96>576 160>960 160>960 160>960 208>1280",
    "x1_4": "48 24>136 32>200 48>272 48>272 48>272 64>400 64>400 64>400 96>536 96>536 96>536 96>536 128>808 "
    "128>808 128>808 128>808 224>1344 224>1344 224>1344 304>1792",
}
# Parameters and M MAdds of the blocks at width 1.0.
BLOCKS = [(3680, 32.01), (10672, 30.86), (13312, 35.07), *[(16960, 12.34)] * 2, (26880, 18.57), *[(34656, 6.44)] * 2]
BLOCKS += [(43904, 8.43), *[(58496, 10.99)] * 3, (99840, 18.32), *[(124608, 5.93)] * 3]
BLOCKS += [(248000, 12.04), *[(330560, 15.90)] * 2, (493536, 23.82)]


ABLATIONS = ["fig4a", "fig4b", "low_identity", "extra_1x1", "bottleneck_se", "without_first_dw"]


@pytest.mark.parametrize(
    "name, whole",
    [
        *((f"mobilenext_{name}", "mobilenext_x0_35") for name in ABLATIONS),
        *((name, "mobilenet_v2_x0_35") for name in ("mobilenext_fig4c", "mobilenet_v2_extra_dw")),
    ],
)
def test_ablations_have_the_widths_of_the_network_they_change(name, whole):
    widths = [net.tap_info(range(5)) for net in (get_model(name, width=0.35), get_model(whole))]
    assert widths[0] == widths[1] != get_model(name).tap_info(range(5))


# Networks of which outputs of every block are given: model, options, source.
TAPS = {
    "mobilenext_w100": ("mobilenext_x1_0", {}, "mobilenext"),
    "mobilenext_w100_id2": ("mobilenext_x1_0", {"identity_divisor": 2}, "mobilenext"),
    "mobilenext_w035": ("mobilenext_x0_35", {}, "mobilenext"),
    "mobilenext_s_b0": ("mobilenext_s", {}, "mobilenext_se"),
    "mobilenext_l_b1_g2": ("mobilenext_l", {}, "mobilenext_se"),
}


def made_up(net, source):
    """The state dict that `source` has for a network, filled by the rule of the references."""
    chosen = next(candidate for candidate in SOURCES if candidate.name == source)
    return {key: detrand.tensor(key, param.shape) for key, param in chosen.keys(net).items()}


def chains(net):
    return [block for stage in net.stages for block in stage._children.values() if isinstance(block, ConvChain)]


def images(*shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal(shape))


def initialized(name, **options):
    mx.random.seed(0)
    net = get_model(name, **options)
    net.initialize()
    return net


# Sizes


@pytest.mark.fast
@pytest.mark.parametrize("name, options, params, madds", SIZES)
def test_parameters_and_multiply_adds(name, options, params, madds):
    cost = count(get_model(name, **options))
    assert cost.params == params
    assert cost.madds == madds or round(cost.madds / 1e6, 1) == madds


@pytest.mark.fast
@pytest.mark.parametrize(
    "depth, groups, size, params, madds",
    [(1.0, 2, 224, 3349235, 264.7), (1.1, 1, 224, 5410698, 585.2), (1.1, 2, 240, 4287498, 464.1)],
)
def test_other_combinations_of_depth_and_groups(depth, groups, size, params, madds):
    # The static padding of the official code gives 7 x 7 where 15 x 15 is halved; counted without it.
    cost = count(mobilenext_se(depth, groups, padding="same"), size)
    assert cost.params == params - UNUSED_BN and round(cost.madds / 1e6, 1) == madds


@pytest.mark.fast
@pytest.mark.parametrize("width", WIDTHS)
def test_widths_of_all_blocks(width):
    net = get_model(f"mobilenext_{width}")
    found = [str(net.table.stem)]
    for block in chains(net):
        hidden = next(
            unit.conv._channels for unit in block.units if unit.act is None and unit.conv._kwargs["num_group"] == 1
        )
        found.append(f"{hidden}>{block.channels}")
    assert found == WIDTHS[width].split()


@pytest.mark.fast
def test_parameters_multiply_adds_and_shortcuts_of_each_block():
    net, side, width = get_model("mobilenext_x1_0"), 112, 32
    for block, row, (params, madds) in zip(chains(net), net.table.rows, BLOCKS):
        block.in_channels = width
        cost = count(block, side)
        assert (cost.params, round(cost.madds / 1e6, 2)) == (params, madds)
        side, width = side // row.stride, row.out
    with_shortcut = [number for number, block in enumerate(chains(net), 1) if block.has_residual]
    assert with_shortcut == [4, 5, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19]


@pytest.mark.fast
def test_last_stage_and_names():
    assert get_model("mobilenext_x0_35").num_features == get_model("mobilenext_x0_75").num_features == 1280
    assert get_model("mobilenext_x1_4").num_features == 1792
    for name, registered in {"MobileNeXt_1.0": "mobilenext_x1_0", "mobilenetv2_0.75": "mobilenet_v2_x0_75"}.items():
        assert get_model(name).info.name == registered


# Official outputs


@pytest.mark.parametrize("name", references.present(OF_MOBILENEXT))
def test_logits_and_sizes_equal_the_official_ones(name):
    reference, data = OF_MOBILENEXT[name], references.read(name)
    net = get_model(reference.model, **reference.options)
    assert load_official(net, official(name)) == reference.source
    net.cast("float64")  # leaves the rounding of the reference alone
    net.hybridize()
    logits = net(mx.nd.array(detrand.images(**data["input"]), dtype="float64")).asnumpy()
    # References in float64 leave no rounding but that of the digits that were written.
    tolerance = 1e-4 if data.get("precision") == "float64" else reference.tolerance
    assert deviation(logits, np.array(data["logits"])) < tolerance
    cost = count(net, data["input"]["size"])
    assert (cost.params, cost.madds) == (data["params"] - reference.unused, data["madds"])


@pytest.mark.parametrize("name", TAPS)
def test_every_block_gives_the_official_output(name):
    model, options, source = TAPS[name]
    net = get_model(model, **options)
    load_official(net, made_up(net, source))
    net.cast("float64")
    x = mx.nd.array(detrand.images(2, 224, 0), dtype="float64")
    taps = references.read("mobilenext_taps")[name]
    blocks = [block for stage in net.stages for block in stage._children.values()]
    assert len(blocks) == len(taps)
    for block, tap in zip(blocks, taps):
        x = block(x)
        assert list(x.shape) == tap["shape"], tap["name"]
        if "before" in tap["name"]:  # the activation of the stem, which is a part of the block here
            continue
        size = np.abs(x.asnumpy()).mean()
        assert abs(size / tap["absmean"] - 1) < 1e-3, tap["name"]
        assert np.abs(x.asnumpy().ravel()[:6] - tap["first"]).max() < 5e-3 * size, tap["name"]


def test_released_padding_keeps_7_pixels_of_an_image_of_240():
    """It was fixed for even sides; SAME would make 8 of the 15 before the last stride."""
    net = get_model("mobilenext_l", bn_epsilon=1e-3, padding="same")
    maps = mx.sym.Group(net.extract(mx.sym.var("data"))).infer_shape(data=(1, 3, 240, 240))[1]
    assert [shape[2] for shape in maps] == [120, 60, 30, 15, 7]


# Blocks


@pytest.mark.fast
def test_sandglass_is_its_definition():
    """Depthwise, reduce, expand, depthwise; two activations; the identity; written out here once more."""
    block = SandGlass(8, 4, 8, 3)
    block.initialize(mx.init.Normal(0.5))
    x = y = images(2, 8, 6, 6)
    for unit, (groups, active) in zip(block.units, [(8, True), (1, False), (1, True), (8, False)]):
        kernel = unit.conv.weight.shape[2]
        y = mx.nd.Convolution(
            y, unit.conv.weight.data(), no_bias=True, kernel=(kernel,) * 2, pad=(kernel // 2,) * 2,
            num_filter=unit.conv.weight.shape[0], num_group=groups,
        ) / np.sqrt(1 + 1e-5)  # fmt: skip
        y = y.clip(0, 6) if active else y
    np.testing.assert_allclose(block(x).asnumpy(), (y + x).asnumpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.fast
def test_blocks_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="stride=2 needs the last"):
        SandGlass(8, 4, 8, stride=2, last_depthwise=False)
    with pytest.raises(ValueError, match="choose one of slice, mask"):
        SandGlass(8, 4, 8, shortcut="add")
    with pytest.raises(ValueError, match="identity_divisor=9"):
        SandGlass(8, 4, 8, identity_divisor=9)
    with pytest.raises(ValueError, match="choose one of official, paper"):
        get_model("mobilenext_x1_0", blocks="text")


@pytest.mark.parametrize("arch, numbers", [(LARGE, range(4, 16)), (B0, [3, 5, 7])])
def test_sandglass_takes_the_place_of_blocks_in_other_networks(arch, numbers):
    net = MobileNeXt(with_sandglass(arch, numbers), classes=3)
    net.initialize()
    kinds = [type(block).__name__ for stage in net.stages for block in stage._children.values()]
    assert [i for i, kind in enumerate(kinds) if kind == "SandGlass"] == list(numbers)
    net.hybridize()
    with autograd.record():
        loss = (net(images(2, 3, 64, 64)) ** 2).sum()
    loss.backward()
    assert all(np.abs(p.grad().asnumpy()).sum() > 0 for p in net.collect_params().values() if p.grad_req != "null")
    with pytest.raises(ValueError, match=r"cannot exchange \[99\]"):
        with_sandglass(arch, [99])
    with pytest.raises(ValueError, match="IdleBlocks"):
        with_sandglass(compose(LARGE, "maximum"), [1])


@pytest.mark.fast
def test_exchanging_no_block_changes_nothing():
    for arch, name in ((LARGE, "mobilenet_v3_large"), (B0, "efficientnet_b0")):
        assert count(MobileNeXt(with_sandglass(arch, ())))[:2] == count(get_model(name))[:2]


@pytest.mark.fast
def test_shortcuts_between_bottlenecks_are_their_definition():
    """The sum of all bottlenecks before runs through the row; a wider bottleneck adds to its first channels."""
    makes = [
        functools.partial(SandGlass, hidden=4, channels=8, residual=False),
        functools.partial(SandGlass, hidden=4, channels=8, residual=False),
        functools.partial(SandGlass, hidden=6, channels=12, stride=2, first_depthwise=False, residual=False),
    ]
    row = NarrowShortcuts(8, makes)
    row.initialize(mx.init.Normal(0.5))
    x = y = images(2, 8, 6, 6)
    total = mx.nd.zeros((2, 4, 6, 6))
    for block in row.blocks:
        units = list(block.units)
        for unit in units[: block.num_reducing]:
            y = unit(y)
        y = total = mx.nd.concat(y[:, :4] + total, y[:, 4:], dim=1) if y.shape[1] > 4 else y + total
        for unit in units[block.num_reducing :]:
            y = unit(y)
    seen = row(x)
    assert seen.shape == (2, 12, 3, 3)
    np.testing.assert_allclose(seen.asnumpy(), y.asnumpy(), rtol=1e-5, atol=1e-6)
    hidden, output = row.tapped(mx.nd, x)
    assert hidden.shape == (2, 12, 6, 6)  # what the depthwise convolution with the stride reads
    np.testing.assert_array_equal(output.asnumpy(), seen.asnumpy())
    row.hybridize()
    np.testing.assert_allclose(row(x).asnumpy(), y.asnumpy(), rtol=1e-5, atol=1e-6)


# Identity divisor


@pytest.mark.fast
@pytest.mark.parametrize("shortcut", ["slice", "mask"])
@pytest.mark.parametrize("divisor", [2, 3, 6])
def test_only_the_first_channels_get_the_identity(divisor, shortcut):
    block = SandGlass(20, 4, 20, identity_divisor=divisor, shortcut=shortcut)
    block.initialize()
    x = images(2, 20, 5, 5)
    expected = block.units(x).asnumpy()
    expected[:, : 20 // divisor] += x.asnumpy()[:, : 20 // divisor]
    np.testing.assert_allclose(block(x).asnumpy(), expected, rtol=1e-6, atol=1e-6)
    block.hybridize()
    np.testing.assert_allclose(block(x).asnumpy(), expected, rtol=1e-6, atol=1e-6)


def test_both_forms_give_equal_gradients_at_widths_that_the_divisor_does_not_divide():
    gradients = []
    for form in ("slice", "mask"):
        net = initialized("mobilenext_x0_35", identity_divisor=6, shortcut=form, dropout=0.0)
        net.hybridize(static_alloc=True)
        with autograd.record():
            loss = (net(images(4, 3, 96, 96)) * images(4, 1000)).sum()
        loss.backward()
        params = net._collect_params_with_prefix().items()
        gradients.append({key: param.grad().asnumpy() for key, param in params if param.grad_req != "null"})
    largest = max(map(np.linalg.norm, gradients[0].values()))
    for key, gradient in gradients[0].items():
        assert np.abs(gradient).sum() > 0, key
        # Rounding is magnified by BN over few values; that of a shift that BN takes back is nothing else.
        error = np.linalg.norm(gradients[1][key] - gradient)
        assert error <= 5e-2 * np.linalg.norm(gradient) + 1e-4 * largest, key


@pytest.mark.fast
def test_weights_of_another_divisor_are_refused_unless_asked_for(tmp_path):
    half = initialized("mobilenext_x0_35", identity_divisor=2)
    half.save_parameters(str(tmp_path / "half.params"))
    whole = initialized("mobilenext_x0_35")
    with pytest.raises(ValueError, match=r"identity_divisor=2 \(here 1\)"):
        whole.load_parameters(str(tmp_path / "half.params"))
    with pytest.raises(ValueError, match=r"identity_divisor=2 \(here 1\)"):
        get_model("mobilenext_x0_35", pretrained=str(tmp_path / "half.params"), identity_divisor=1)

    # Left open, it is that of the file; and it can be changed afterwards.
    net = get_model("mobilenext_x0_35", pretrained=str(tmp_path / "half.params"))
    x = images(1, 3, 64, 64)
    net.hybridize()
    np.testing.assert_array_equal(net(x).asnumpy(), half(x).asnumpy())
    net.set_identity_divisor(1)
    for key, param in whole._collect_params_with_prefix().items():
        param.set_data(net._collect_params_with_prefix()[key].data())
    np.testing.assert_array_equal(net(x).asnumpy(), whole(x).asnumpy())
    assert net.identity["identity_divisor"] == 1
    with pytest.raises(ValueError, match="no identity divisor"):
        get_model("mobilenext_fig4a").set_identity_divisor(2)


@pytest.mark.parametrize("shortcut", ["slice", "mask"])
def test_a_divided_identity_is_exported(shortcut, tmp_path):
    net = initialized("mobilenext_x0_5", identity_divisor=3, shortcut=shortcut)
    exported = export(net, tmp_path / "net", 64)
    x = images(2, 3, 64, 64)
    again = load_exported(exported.symbol, exported.params)
    np.testing.assert_allclose(again(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-4)


def test_forms_of_the_shortcut_are_timed_on_equal_networks():
    rows = compare_shortcuts("mobilenext_x0_35", (1, 2), image_size=64, repeats=2)
    assert [(row.divisor, row.variant) for row in rows] == [(0, "none"), (1, "plain add"), (2, "slice"), (2, "mask")]
    assert all(row.plain > 0 and row.fused > 0 for row in rows) and rows[-1].difference < 1e-5
    assert len(shortcuts_table(rows).split("\n")) == 6


# Checkpoints


@pytest.mark.parametrize("width, features", [("x0_35", 1280), ("x1_0", 1280), ("x1_4", 1792)])
def test_names_of_mobilenetv2_in_timm_and_torchvision(width, features):
    net = get_model(f"mobilenet_v2_{width}")
    timm, torchvision = made_up(net, "timm"), made_up(net, "torchvision")
    assert load_official(net, timm) == "timm" and load_official(net, torchvision) == "torchvision"
    # timm: 7 stages of 1, 2, 3, 4, 3, 3, 1 blocks, also where two stages have equal widths (0.35).
    blocks = {tuple(map(int, key.split(".")[1:3])) for key in timm if key.startswith("blocks.")}
    assert sorted(blocks) == [(stage, i) for stage, n in enumerate((1, 2, 3, 4, 3, 3, 1)) for i in range(n)]
    assert timm["blocks.0.0.conv_pw.weight"].shape[1] == timm["blocks.0.0.conv_dw.weight"].shape[0]
    assert {"blocks.6.0.conv_pwl.weight", "blocks.6.0.bn3.running_var", "bn2.bias", "classifier.bias"} <= timm.keys()
    assert timm["conv_head.weight"].shape[0] == torchvision["features.18.0.weight"].shape[0] == features
    assert {"features.1.conv.1.weight", "features.17.conv.2.weight", "classifier.1.bias"} <= torchvision.keys()


@pytest.mark.fast
def test_names_of_figure_4c():
    net = get_model("mobilenext_fig4c")
    state = made_up(net, "mobilenext_fig4c")
    assert load_official(net, state) == "mobilenext_fig4c"
    assert [k for k in state if k.startswith("features.1.") and k.endswith(".weight")] == [
        f"features.1.conv.{position}.weight" for position in (0, 1, 2, 3, 5, 6)
    ]
    assert {"features.17.conv.9.running_var", "conv.0.weight", "conv.1.bias", "classifier.bias"} <= state.keys()


def test_wrong_networks_are_told_the_right_one():
    state = official("mobilenext_w100_id2")
    with pytest.raises(ValueError, match=r"They fit get_model\('mobilenext_x1_0'\)"):
        load_official(get_model("mobilenext_x0_5"), state)
    with pytest.raises(ValueError, match=r"They fit get_model\('mobilenext_s'\)"):
        load_official(get_model("mobilenext_l"), official("mobilenext_s_b0"))
    with pytest.raises(ValueError, match="Build the network with classes=1000"):
        load_official(get_model("mobilenext_x1_0", classes=10), state)
    with pytest.raises(ValueError, match="need bn_epsilon=0.001"):
        load_official(get_model("mobilenext_s", bn_epsilon=1e-5), official("mobilenext_s_b0"))


def test_an_official_file_is_converted_with_its_divisor(tmp_path):
    state = {f"module.{key}": value for key, value in official("mobilenext_w100_id2").items()}
    np.savez(tmp_path / "half.npz", **state)
    convert("mobilenext_x1_0", tmp_path / "half.npz", tmp_path / "half.params", identity_divisor=2)
    net = get_model("mobilenext_x1_0", pretrained=str(tmp_path / "half.params"))
    assert net.identity["identity_divisor"] == 2 and count_params(net) == 3535416
    assert {block.identity_channels / block.channels for block in chains(net) if block.has_residual} == {0.5}


# Use on small images


def test_it_learns_images_of_32_pixels():
    net = initialized("mobilenext_x0_35", classes=4, stem_stride=1, dropout=0.0)
    net.hybridize()
    trainer = mx.gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.01, "momentum": 0.9})
    loss_of, x, label = mx.gluon.loss.SoftmaxCrossEntropyLoss(), images(16, 3, 32, 32), mx.nd.arange(16) % 4
    losses = []
    for _ in range(20):
        with autograd.record():
            loss = loss_of(net(x), label).mean()
        loss.backward()
        trainer.step(1)
        losses.append(loss.asscalar())
    assert net.extract(x)[-1].shape == (16, 1280, 2, 2)
    assert losses[0] > 1 and losses[-1] < 0.3


# 8 bits


def test_quantized_networks_are_8_bit_and_compared_with_float32():
    net = get_model("mobilenet_v2_x0_35", classes=5, stem_stride=1)
    # Keeps the size of the signal through a network whose BN layers have seen nothing.
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    batches = [images(4, 3, 32, 32, seed=seed) for seed in (0, 1)]
    before = net(batches[0]).asnumpy()
    block = quantize(net, batches, "tensor-wise")
    quantized = [node for node in block(mx.sym.var("data")).get_internals().list_outputs() if "quantized_" in node]
    assert len(quantized) > 50
    labels = [mx.nd.array(net(batch).asnumpy().argmax(axis=1)) for batch in batches]
    rows = compare_quantized({"v2": net}, batches, list(zip(batches, labels)))
    assert [row.granularity for row in rows] == ["tensor-wise", "channel-wise"]
    for row in rows:
        # The labels are the answers in float32.
        assert row.float_top1 == 1 and row.top1 == row.agreement
        assert 0 < row.difference < 0.5
    np.testing.assert_array_equal(net(batches[0]).asnumpy(), before)
    assert len(quantized_table(rows).split("\n")) == 4


def test_a_shortcut_from_an_activation_is_right_in_8_bits():
    """MXNet 1.9.1 adds unsigned to signed values wrongly; such a sum must not be quantized."""
    net = mx.gluon.nn.HybridSequential()
    net.add(ConvBN(3, 32, 3, act="relu6"), SandGlass(32, 16, 32), mx.gluon.nn.GlobalAvgPool2D())
    mx.random.seed(1)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    x = images(8, 3, 16, 16)
    expected = net(x).asnumpy()
    difference = quantize(net, [x])(x).asnumpy() - expected
    assert np.sqrt((difference**2).mean()) < 0.05 * expected.std()


@pytest.mark.fast
def test_quantization_refuses_what_it_does_not_know():
    net = initialized("mobilenet_v2_x0_35", classes=5)
    with pytest.raises(ValueError, match="choose one of tensor-wise, channel-wise"):
        quantize(net, [images(1, 3, 32, 32)], "per-tensor")
    with pytest.raises(ValueError, match="choose one of naive, entropy"):
        quantize(net, [images(1, 3, 32, 32)], calibration_mode="kl")
    with pytest.raises(ValueError, match="at least one batch"):
        quantize(net, [])
