"""ShuffleNetV1 and V2: their costs, what the shuffle does, and the tables of the paper."""

import functools
import json
import math
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from networks import HE, initialized

from gluon_effnets import get_model, list_models, model_info
from gluon_effnets.__main__ import main
from gluon_effnets._gluoncv import import_gluoncv
from gluon_effnets.complexity import count, layer_costs
from gluon_effnets.models.shufflenetv1 import ARCH2_UNITS, SHALLOW_UNITS, Widths, shufflenet_v1
from gluon_effnets.models.structure_units import UNIT_OF, equal_cost_net
from gluon_effnets.models.structure_units import Widths as UnitWidths
from gluon_effnets.nn import ChannelShuffle, ResidualUnit, ShuffleUnit, ShuffleUnitV2, Unit
from gluon_effnets.paper_tables import computed_table, paper_tables, rounds_to

PUBLISHED = json.loads((Path(__file__).parents[2] / "results" / "published.json").read_text())["rows"]
README = "README of megvii-model/ShuffleNet-Series"

# Exact numbers as numbers, in M with the printed places as text: parameters, conv + fc, conv; None where none is known.
COUNTS = {
    "shufflenet_v1_g1_x1_0": (1_530_936, 143_078_976, 142_502_976),
    "shufflenet_v1_g2_x1_0": (1_732_848, 140_836_512, 140_036_512),
    "shufflenet_v1_g3_x1_0": (1_864_728, 137_460_672, 136_500_672),
    "shufflenet_v1_g4_x1_0": (1_967_344, 134_339_776, 133_251_776),
    "shufflenet_v1_g8_x1_0": (2_433_768, 138_365_952, 136_829_952),
    "shufflenet_v1_g3_x0_5": (717_324, 37_589_856, 37_109_856),
    "shufflenet_v1_g3_x1_5": (3_441_168, 292_443_552, 291_003_552),
    "shufflenet_v1_g3_x2_0": (5_449_776, 524_045_184, 522_125_184),
    "shufflenet_v1_g8_x0_5": (1_010_448, 40_469_760, 39_701_760),
    "shufflenet_v1_g8_x1_5": (4_268_952, 290_188_800, 287_884_800),
    "shufflenet_v1_g8_x2_0": (6_521_232, 521_942_016, 518_870_016),
    "shufflenet_v1_g1_x0_25": (208_908, "13.16", "13.02"),
    "shufflenet_v1_g2_x0_25": (252_732, "12.64", "12.45"),
    "shufflenet_v1_g3_x0_25": (305_124, "13.30", "13.06"),
    "shufflenet_v1_g4_x0_25": (314_004, "12.32", "12.07"),
    "shufflenet_v1_g8_x0_25": (453_504, "12.43", "12.04"),
    "shufflenet_v1_g1_x0_5": (533_484, "38.52", "38.23"),
    "shufflenet_v1_g2_x0_5": (677_520, "40.91", "40.49"),
    "shufflenet_v1_g4_x0_5": (834_984, "40.71", "40.13"),
    "shufflenet_v1_g1_x1_5": ("2.992", "308.10", "307.23"),
    "shufflenet_v1_g2_x1_5": ("3.200", "293.65", "292.47"),
    "shufflenet_v1_g4_x1_5": ("3.679", "295.09", "293.42"),
    "shufflenet_v1_g1_x2_0": ("4.918", "550.34", "549.18"),
    "shufflenet_v1_g2_x2_0": ("5.257", "539.14", "537.54"),
    "shufflenet_v1_g4_x2_0": ("5.593", "510.29", "508.11"),
    "shufflenet_v1_arch2_g8_x0_5": (1_089_104, "43.01", "42.18"),
    "shufflenet_v1_arch2_g1_x0_5": (None, "38.90", None),
    "shufflenet_v1_arch2_g2_x0_5": (None, "39.77", None),
    "shufflenet_v1_arch2_g3_x0_5": (None, "39.47", None),
    "shufflenet_v1_arch2_g4_x0_5": (None, "41.73", None),
    "shufflenet_v1_arch2_g1_x0_25": (None, "13.52", None),
    "shufflenet_v1_arch2_g2_x0_25": (None, "13.14", None),
    "shufflenet_v1_arch2_g3_x0_25": (None, "12.25", None),
    "shufflenet_v1_arch2_g4_x0_25": (None, "12.95", None),
    "shufflenet_v1_arch2_g8_x0_25": (None, "13.26", None),
    "shufflenet_v1_shallow_g3_x0_5": (873_666, "39.78", None),
    "shufflenet_v1_se_g3_x2_0": (None, 524_045_184 + 2_880_000, None),
    "vgg_like_140m": (None, "144.76", None),
    "vgg_like_38m": (None, "37.58", None),
    "vgg_like_13m": (None, "12.22", None),
    "resnet_like_140m": (None, "143.99", None),
    "resnet_like_38m": (None, "38.13", None),
    "resnet_like_13m": (None, "12.85", None),
    "resnext_like_140m": (None, "143.08", None),
    "resnext_like_38m": (None, "38.92", None),
    "resnext_like_13m": (None, "14.01", None),
    "shufflenet_v2_x0_5": (1_365_792, 40_476_448, 39_452_448),
    "shufflenet_v2_x1_0": (2_278_760, 145_814_296, 144_790_296),
    "shufflenet_v2_x1_5": (3_506_720, 298_970_656, 297_946_656),
    "shufflenet_v2_x2_0": (7_402_600, 590_783_000, 588_735_000),
}
# Other widths that were considered for networks whose widths the paper does not give.
CONSIDERED = [
    (shufflenet_v1, (Widths(12, (104, 200, 400)), 2), {}, ("0.643", "38.92", "38.52")),
    (shufflenet_v1, (Widths(16, (64, 128, 256)), 4), {}, (None, "13.87", "13.61")),
    (shufflenet_v1, (Widths(8, (144, 288, 576)), 4), {}, (None, "38.93", "38.36")),
    (shufflenet_v1, (Widths(16, (96, 192, 384)), 8), {}, (None, "15.72", "15.33")),
    (shufflenet_v1, (Widths(8, (80, 160, 320)), 1, ARCH2_UNITS), {}, (None, "39.66", None)),
    (shufflenet_v1, (Widths(24, (192, 384, 768)), 8, ARCH2_UNITS), {}, (None, "40.39", None)),
    (shufflenet_v1, (Widths(12, (180, 360, 720)), 3, SHALLOW_UNITS), {}, (None, "41.63", None)),
    (shufflenet_v1, (Widths(24, (156, 312, 624)), 3, SHALLOW_UNITS), {}, (None, "38.12", None)),
    (shufflenet_v1, (Widths(48, (480, 960, 1920)), 3), {"se_ratio": 4}, (None, "535.6", None)),
    (equal_cost_net, ("vgg_like", UnitWidths(24, (24, 48, 96))), {}, (None, "134.22", None)),
]


def about(number, text):
    """Whether a count is the text in M; the text may have been rounded twice, to one place more first."""
    return abs(number / 1e6 - float(text)) < 0.55 * 10.0 ** -len(text.partition(".")[2])


def assert_counts(net, expected):
    conv_fc, conv = count(net), count(net, rule="conv")
    for seen, number in zip((conv_fc.params, conv_fc.madds, conv.madds), expected):
        assert about(seen, number) if isinstance(number, str) else number in (None, seen)


@pytest.mark.fast
@pytest.mark.parametrize("name", COUNTS)
def test_cost(name):
    assert_counts(get_model(name), COUNTS[name])


@pytest.mark.fast
@pytest.mark.parametrize(("build", "args", "options", "expected"), CONSIDERED)
def test_cost_of_other_widths(build, args, options, expected):
    assert_counts(build(*args, **options), expected)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "params", "madds"),
    [
        ("shufflenet_v2_x0_5", 1_366_792, 40_476_448),
        ("shufflenet_v2_x1_0", 2_278_604, 144_907_992),
        ("shufflenet_v2_x1_5", 3_503_624, 295_759_392),
        ("shufflenet_v2_x2_0", 7_393_996, 583_253_464),
    ],
)
def test_cost_in_torchvisions_definition(name, params, madds):
    assert_counts(get_model(name, definition="torchvision"), (params, madds, None))


def test_every_network_of_these_families_is_counted():
    families = ("shufflenetv1", "shufflenetv2", "structure_units")
    assert set(COUNTS) == {name for family in families for name in list_models(family=family)}


def test_only_what_is_not_published_is_called_a_reconstruction():
    official = {f"shufflenet_v1_g{g}_x{s}" for g in (3, 8) for s in ("0_5", "1_0", "1_5", "2_0")}
    table_1 = {f"shufflenet_v1_g{g}_x1_0" for g in (1, 2, 4)}
    known = {name for name in list_models(family="shufflenetv1") if not model_info(name).reconstruction}
    # Half of table 1's g = 1 divides: 288 in stage 4, as the paper says for the Xception-like network.
    assert known == official | table_1 | {"shufflenet_v1_g1_x0_5"}
    assert all(model_info(name).reconstruction for name in list_models(family="structure_units"))


def test_published_costs_are_those_counted_but_for_two():
    """The authors' README and V2's table 5 against conv + fc and the parameters, rounded as printed."""
    sources = (README, "arXiv 1807.11164, table 5")
    rows = [row for row in PUBLISHED if row["source"] in sources and row["what"] in ("parameters", "MAdds")]
    counted = {name: count(get_model(name)) for name in {row["model"] for row in rows}}
    other = {
        (row["model"], row["value"])
        for row in rows
        if not rounds_to(
            getattr(counted[row["model"]], {"parameters": "params", "MAdds": "madds"}[row["what"]]), row["value"]
        )
    }
    # 137.46 M printed as 138, and 40.48 M printed as 41.
    assert len(rows) == 24 and other == {("shufflenet_v1_g3_x1_0", "138 M"), ("shufflenet_v2_x0_5", "41 M")}


# --- the paper's formulas and claims ---


def unit_madds(unit, channels, side):
    unit.in_channels = channels
    return [layer.madds for layer in layer_costs(unit, side)]


def bottleneck(channels, hidden, groups=1):
    return ResidualUnit(
        channels, [Unit(hidden, act="relu"), Unit(hidden, 3, act="relu", groups=groups), Unit(channels)]
    )


@pytest.mark.parametrize(("c", "m", "g", "side"), [(240, 60, 3, 28), (384, 96, 8, 14), (272, 68, 4, 7)])
def test_cost_of_the_units_is_that_of_the_papers_formulas(c, m, g, side):
    area = side * side
    assert sum(unit_madds(bottleneck(c, m), c, side)) == area * (2 * c * m + 9 * m * m)
    assert sum(unit_madds(bottleneck(c, m, g), c, side)) == area * (2 * c * m + 9 * m * m // g)
    assert sum(unit_madds(ShuffleUnit(c, c, g), c, side)) == area * (2 * c * m // g + 9 * m)


@pytest.mark.parametrize(("channels", "side"), [(256, 56), (512, 28), (1024, 14), (2048, 7)])
def test_pointwise_convolutions_are_93_4_percent_of_a_resnext_unit(channels, side):
    first, middle, last = unit_madds(bottleneck(channels, channels // 2, 32), channels, side)
    assert (first + last) / (first + middle + last) == pytest.approx(4 / (4 + 9 / 32))
    assert f"{(first + last) / (first + middle + last):.1%}" == "93.4%"


@pytest.mark.parametrize(("channels", "groups"), [(240, 3), (272, 4), (384, 8)])
@pytest.mark.parametrize("shuffle", ["official", "paper", "none"])
def test_without_a_shuffle_an_output_sees_one_group_of_the_inputs(channels, groups, shuffle):
    unit = ShuffleUnit(channels, channels, groups, shuffle=shuffle)
    unit.initialize(mx.init.One())  # nothing cancels, no ReLU is shut
    for group in range(groups):
        x = mx.nd.ones((1, channels, 4, 4))
        x.attach_grad()
        with autograd.record(train_mode=False):
            y = unit(x)[:, group * channels // groups].sum()
        y.backward()
        seen = np.flatnonzero(x.grad.asnumpy().sum(axis=(0, 2, 3)))
        if shuffle == "none":
            assert seen.tolist() == list(range(group * channels // groups, (group + 1) * channels // groups))
        else:
            assert len(seen) == channels


def test_the_two_shuffles_are_inverse_and_order_channels_as_paper_and_code():
    groups, per_group = 3, 20
    x = mx.nd.arange(60).reshape((1, 60, 1, 1))
    paper, official = ChannelShuffle(60, groups), ChannelShuffle(60, per_group)
    channels = np.arange(60)
    # Paper: out[b g + a] = in[a n + b]; code: out[a n + b] = in[b g + a].
    expected = {paper: channels.reshape(groups, per_group).T, official: channels.reshape(per_group, groups).T}
    for shuffle, order in expected.items():
        np.testing.assert_array_equal(shuffle(x).asnumpy().ravel(), order.ravel())
    np.testing.assert_array_equal(official(paper(x)).asnumpy(), x.asnumpy())
    assert ShuffleUnit(240, 240, 3, shuffle="paper").shuffle._shape == paper._shape
    assert ShuffleUnit(240, 240, 3).shuffle._shape == official._shape


@pytest.mark.parametrize("stride", [1, 2])
def test_the_place_of_the_shuffle_only_permutes_the_depthwise_convolution(stride):
    mx.random.seed(0)
    channels = 60 * stride**2
    behind = ShuffleUnit(60, channels, 3, stride=stride)
    before = ShuffleUnit(60, channels, 3, stride=stride, shuffle="paper")
    behind.initialize(mx.init.Normal(0.3))
    before.initialize()
    for param in behind.collect_params(".*(gamma|beta|mean|var)").values():
        param.set_data(mx.nd.random.uniform(0.5, 1.5, param.shape))
    hidden = channels // 4
    before.shuffle = ChannelShuffle(hidden, hidden // 3)  # the place of the paper, the order of the code
    order = before.shuffle(mx.nd.arange(hidden).reshape((1, hidden, 1, 1))).reshape((hidden,))
    values = behind._collect_params_with_prefix()
    for key, param in before._collect_params_with_prefix().items():
        value = values[key].data()
        param.set_data(mx.nd.take(value, order) if key.startswith("depthwise.") else value)
    x = mx.nd.random.normal(shape=(2, 60, 8, 8))
    np.testing.assert_allclose(before(x).asnumpy(), behind(x).asnumpy(), rtol=1e-5, atol=1e-5)
    before.shuffle = ChannelShuffle(hidden, 3)  # and the order of the paper: another function
    assert not np.allclose(before(x).asnumpy(), behind(x).asnumpy(), rtol=1e-2)


# --- options ---


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: get_model("shufflenet_v1_g3_x1_0", shuffle="random"), "shuffle is 'random'; choose one of official"),
        (lambda: shufflenet_v1(Widths(24, (200, 400, 800)), 3), "3 groups must divide"),
        (lambda: shufflenet_v1(Widths(12, (192, 384, 768)), 8), "8 groups must divide .* the 180 of the branch"),
        (lambda: ShuffleUnit(64, 128, 2), "stride 1 cannot make 128 channels of 64"),
        (lambda: ShuffleUnit(64, 64, 2, stride=2), "stride 2 cannot make 64 channels of 64"),
        (lambda: get_model("shufflenet_v2_x0_5", definition="keras"), "definition is 'keras'; choose one of megvii"),
        (lambda: get_model("shufflenet_v2_x0_5", drop_connect=0.1), "no branch for drop_connect"),
        (lambda: ShuffleUnitV2(64, 64, split="thirds"), "split is 'thirds'; choose one of interleaved"),
        (lambda: ShuffleUnitV2(64, 63, stride=2), "cannot make 63 channels of 64"),
        (lambda: equal_cost_net("dense_like", UnitWidths(24, (24, 48, 96))), "unit is 'dense_like'; choose one of"),
    ],
)
def test_mistakes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


KINDS = [
    ("shufflenet_v1_g3_x0_5", {}),
    ("shufflenet_v1_g8_x0_25", {"shuffle": "paper"}),
    ("shufflenet_v1_g4_x0_25", {"shuffle": "none", "se_ratio": 16}),
    ("shufflenet_v2_x0_5", {}),
    ("shufflenet_v2_x0_5", {"definition": "torchvision"}),
    ("vgg_like_13m", {}),
    ("resnet_like_13m", {}),
    ("resnext_like_13m", {}),
]


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_any_image_size_hybridized_or_not(name, options):
    net = initialized(name, classes=10, **options)
    images = [mx.nd.random.normal(shape=(2, 3, *size)) for size in ((224, 224), (96, 160), (33, 47))]
    expected = [net(x).asnumpy() for x in images]
    net.hybridize()
    for x, logits in zip(images, expected):
        assert logits.shape == (2, 10) and np.isfinite(logits).all()
        np.testing.assert_allclose(net(x).asnumpy(), logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_32_pixels_without_pooling_train(name, options):
    net = initialized(name, classes=10, stem_stride=1, stem_pool=False, **options)
    net.hybridize()
    x = mx.nd.random.normal(shape=(4, 3, 32, 32))
    assert [stage.stride for stage in net.stage_info] == [1, 2, 4, 8]
    assert [m.shape[2] for m in net.extract(x)] == [32, 16, 8, 4]
    with autograd.record():
        loss = (net(x) * mx.nd.random.normal(shape=(4, 10))).sum()
    loss.backward()
    gradients = [p.grad() for p in net.collect_params().values() if p.grad_req != "null"]
    assert all(np.isfinite(gradient.asnumpy()).all() for gradient in gradients)
    assert all(gradient.abs().sum().asscalar() > 0 for gradient in gradients)


def test_the_shuffles_and_the_pooling_are_kept_with_the_weights(tmp_path):
    path = str(tmp_path / "w.params")
    initialized("shufflenet_v1_g3_x0_25", shuffle="paper", stem_pool=False).save_parameters(path)
    net = get_model("shufflenet_v1_g3_x0_25", pretrained=path)
    assert (net.identity["shuffle"], net.identity["stem_pool"]) == ("paper", False)
    with pytest.raises(ValueError, match=r"shuffle='paper' \(here 'official'\)"):
        get_model("shufflenet_v1_g3_x0_25", stem_pool=False).load_parameters(path)


def test_one_group_has_no_shuffle():
    units = [unit for stage in get_model("shufflenet_v1_g1_x0_25").stages[2:] for unit in stage._children.values()]
    assert len(units) == 16 and all(unit.shuffle is None for unit in units)


def test_drop_connect_drops_the_units_of_samples():
    unit = ResidualUnit(8, [Unit(4, act="relu"), Unit(8)], drop_connect=0.5)
    unit.initialize(HE)
    x = mx.nd.random.uniform(shape=(64, 8, 4, 4))
    with autograd.train_mode():
        branch = unit.chain(x)
        y = unit(x).asnumpy()
    dropped = [np.array_equal(ours, theirs) for ours, theirs in zip(y, x.asnumpy())]
    assert 10 < sum(dropped) < 54
    kept = np.maximum(x.asnumpy() + 2 * branch.asnumpy(), 0)
    assert np.allclose(y[~np.array(dropped)], kept[~np.array(dropped)], atol=1e-4)
    assert ResidualUnit(8, [Unit(16, stride=2)], drop_connect=0.5).drop is None


def test_residual_unit_projects_where_shapes_differ():
    assert ResidualUnit(8, [Unit(8)]).proj is None
    strided, wider = ResidualUnit(8, [Unit(8, 3, 2)]), ResidualUnit(8, [Unit(16)])
    assert strided.proj.conv._kwargs["stride"] == (2, 2) and wider.proj.conv.weight.shape == (16, 8, 1, 1)
    wider.initialize(HE)
    x = mx.nd.random.normal(shape=(1, 8, 4, 4))
    expected = mx.nd.relu(wider.chain(x) + wider.proj(x))
    np.testing.assert_array_equal(wider(x).asnumpy(), expected.asnumpy())


@pytest.mark.parametrize("name", ["shufflenet_v1_g3_x1_0", "shufflenet_v2_x1_0", "resnet_like_38m"])
def test_the_initializer_is_that_of_the_authors(name):
    mx.random.seed(0)
    net = get_model(name)
    net.initialize()
    values = {key: param.data().asnumpy() for key, param in net._collect_params_with_prefix().items()}
    beta = np.float32(1e-4 if name.startswith("shufflenet") else 0)
    assert all((value == beta).all() for key, value in values.items() if key.endswith("beta"))
    assert all((value == 1).all() for key, value in values.items() if key.endswith("gamma"))
    weights = {key: value for key, value in values.items() if key.endswith("weight")}
    stem = next(key for key in weights if key.startswith("features.0.0."))
    assert len(weights) >= 50
    for key, weight in weights.items():
        expected = 0.01 if key in (stem, "output.weight") else 1 / weight.shape[1]
        assert abs(weight.mean()) < 5 * expected / math.sqrt(weight.size)
        assert weight.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.size))
    assert "output.bias" not in values


# --- the tables ---


@functools.lru_cache(maxsize=None)
def cells(number):
    (table,) = paper_tables("shufflenet", number)
    return computed_table(table).records()


@pytest.mark.parametrize("number", range(1, 9))
def test_every_row_of_a_table_has_its_published_numbers(number):
    rows = cells(number)
    # Not in the paper: no VGG-like network below 140 MFLOPs was reported, tables 3 and 7 repeat no complexity.
    unreported = ("vgg_like_38m", "vgg_like_13m")
    for row in rows:
        quoted = [value for key, value in row.items() if "error" in key or "COCO" in key or "Snapdragon" in key]
        if row["model"] not in unreported:
            assert all(quoted) and bool(row["published MAdds"]) == (number not in (3, 7))
        assert bool(row["model"]) == bool(row["conv"]) == bool(row["params"])


def test_all_published_rows_of_the_paper_are_in_a_table():
    printed = sum(
        len(value.split(", "))
        for number in range(1, 9)
        for row in cells(number)
        for key, value in row.items()
        if value and (key == "published MAdds" or any(word in key for word in ("error", "COCO", "Snapdragon")))
    )
    assert printed == sum(
        "1707.01083, table" in row["source"] for row in PUBLISHED if row["model"] != "ShuffleNet"
    )  # no ranges


def test_table_1_leaves_the_classifier_out_and_table_5_counts_it():
    assert all("conv" in row["counted by"].split(", ") for row in cells(1))
    assert [
        row["counted by"] for row in cells(1) if row["model"] in ("shufflenet_v1_g2_x1_0", "shufflenet_v1_g8_x1_0")
    ] == ["conv"] * 2
    # But for the two that only have the round numbers of table 2.
    assert [row["model"] for row in cells(5) if "conv_fc" not in row["counted by"].split(", ")] == [
        "shufflenet_v1_g8_x1_0",
        "shufflenet_v1_g4_x0_5",
    ]


def test_alexnet_has_about_18_times_the_cost():
    alexnet = count(get_model("alexnet_caffe")).madds
    ratios = [alexnet / count(get_model(f"shufflenet_v1_g{groups}_x0_5")).madds for groups in (3, 4, 8)]
    assert [round(ratio, 1) for ratio in ratios] == [19.3, 17.8, 17.9]


@pytest.mark.parametrize("width", ["1_0", "0_75", "0_5", "0_25"])
def test_mobilenet_is_gluoncvs(width):
    gluoncv_model = import_gluoncv("model_zoo").get_model
    theirs, ours = (
        gluoncv_model(f"mobilenet{width.replace('_', '.')}", pretrained=False),
        get_model(f"mobilenet{width}"),
    )
    assert ours.info.name == f"mobilenet_v1_x{width}"
    x = mx.nd.random.normal(shape=(2, 3, 64, 64))
    for net in (theirs, ours):
        net.initialize(HE)
        net(x)
    pairs = list(zip(theirs.collect_params().values(), ours.collect_params().values()))
    assert len(pairs) == len(list(theirs.collect_params())) == len(list(ours.collect_params()))
    for param, value in pairs:
        param.set_data(value.data())
    logits = ours(x).asnumpy()
    np.testing.assert_allclose(theirs(x).asnumpy(), logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())


def test_the_shuffle_costs_nothing():
    for row in cells(3):
        assert count(get_model(row["model"], shuffle="none")) == count(get_model(row["model"]))


def test_table_command(capsys):
    assert main(["table", "shufflenet", "--number", "6"]) == 0
    out = capsys.readouterr().out
    assert "arXiv 1707.01083, table 6" in out and "VGG-16" in out and "524.05 M" in out and "table 5" not in out
    assert main(["table", "shufflenet", "--number", "12"]) == 1
    assert "no table 12 here; its tables are 1, 2," in capsys.readouterr().err
    assert main(["table", "resnet"]) == 1
    assert "there are tables of idleblock, mobilenext, condensenetv2, dsnet, shufflenet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "printed", "rounds"),
    [
        (137_460_672, "137 M", True),
        (137_460_672, "138 M", False),
        (1_864_728, "1.9 M", True),
        (1_864_728, "1.8 M", False),
    ],
)
def test_rounding(number, printed, rounds):
    assert rounds_to(number, printed) is rounds


def test_units_of_table_4_are_all_there():
    assert {name.rsplit("_", 1)[0] for name in list_models(family="structure_units")} == set(UNIT_OF)
