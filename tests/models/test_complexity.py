"""Parameters and multiply-adds: those of results/computed.json are true, and agree with what was published."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from gluon_effnets import get_model, list_models, model_info
from gluon_effnets.complexity import count, count_params, layer_costs
from gluon_effnets.models.idle import compose, idle_net
from gluon_effnets.models.mbnet import row_madds, table_madds
from gluon_effnets.models.mobilenetv3 import LARGE

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]
COMPUTED = json.loads((ROOT / "results" / "computed.json").read_text())

# Compositions of the IdleBlock paper's networks as reconstructed beforehand: baseline, options, M MAdds, M parameters.
COMPOSITIONS = [
    ("mobilenet_v3_large", {}, 216.59, 5.483),
    ("mobilenet_v3_large", {"composition": "maximum"}, 164.93, 5.043),
    ("mobilenet_v3_large", {"composition": dict.fromkeys([1, 3, 5, 6, 8, 9, 10, 12, 14, 15], 1)}, 163.33, 5.043),
    ("mobilenet_v3_large", {"composition": dict.fromkeys([8, 9, 10, 12, 14], 2)}, 220.64, 6.216),
    ("mobilenet_v3_large", {"composition": "maximum", "idle_per_swap": 2}, 229.03, 6.729),
    ("mobilenet_v3_large", {"append": {3: 4, 6: 4, 10: 5, 12: 4, 15: 3}}, 379.08, 8.818),
    ("mobilenet_v3_large", {"append": {3: 5, 6: 3, 10: 5, 12: 4, 15: 3}}, 380.40, 8.805),
    ("mobilenet_v3_large", {"append": {3: 3, 6: 4, 10: 5, 12: 4, 15: 4}}, 380.79, 9.459),
    ("mobilenet_v3_large", {"append": dict.fromkeys([3, 6, 10, 12, 15], 4)}, 385.0, 9.445),
    ("mobilenet_v3_large", {"composition": "maximum", "idle_fraction": 0.25}, 190.76, None),
    ("mobilenet_v3_large", {"composition": "maximum", "idle_fraction": 0.75}, 139.11, None),
    ("mobilenet_v3_small", {}, 56.51, 2.543),
    ("mobilenet_v3_small", {"composition": "maximum"}, 44.32, 2.404),
    ("mobilenet_v3_small", {"composition": "maximum", "idle_per_swap": 2}, 62.00, 3.002),
    ("mobilenet_v3_small", {"composition": "maximum", "idle_fraction": 0.25}, 50.41, None),
    ("mobilenet_v3_small", {"composition": "maximum", "idle_fraction": 0.75}, 38.22, None),
    ("efficientnet_b0", {}, 385.81, 5.289),
    ("efficientnet_b0", {"composition": "maximum"}, 290.15, 4.157),
    ("efficientnet_b0", {"composition": "maximum", "idle_se": "full"}, 290.38, 4.384),
    ("efficientnet_b0", {"composition": dict.fromkeys([7, 8, 13, 14, 15], 2)}, 391.74, 5.406),
    ("efficientnet_b0", {"composition": "maximum", "idle_per_swap": 2}, 407.10, 5.455),
    ("efficientnet_b0", {"composition": "maximum", "idle_fraction": 0.25}, 337.98, None),
    ("efficientnet_b0", {"composition": "maximum", "idle_fraction": 0.75}, 242.32, None),
]

# One block as an MBBlock and as an IdleBlock, in M MAdds, by its number in MobileNetV3-Large.
BLOCKS = {
    3: (12.870, 7.451),
    5: (9.886, 6.123),
    6: (9.886, 6.123),
    8: (6.625, 3.489),
    9: (6.095, 3.210),
    12: (30.915, 16.163),
    14: (16.690, 9.163),
}


def test_every_family_is_in_a_table(monkeypatch):
    """The table of all models leaves some families to their own pages: those must have it."""
    monkeypatch.syspath_prepend(str(ROOT / "dev"))
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "dev" / "make_tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    pages = "".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    shown = "".join(make() for name, make in tables.TABLES.items() if f"<!-- table {name} -->" in pages)
    assert [name for name in list_models() if f"`{name}`" not in shown] == []


def test_all_networks_are_counted():
    assert list(COMPUTED) == list_models(), "count anew: python dev/make_tables.py --count"


@pytest.mark.parametrize("name", list_models())
def test_computed_numbers_are_those_of_the_networks(name):
    assert name in COMPUTED, "not counted yet: python dev/make_tables.py --count"
    net, row = get_model(name), COMPUTED[name]
    assert count(net, row["image_size"])[:2] == (row["params"], row["madds"])
    assert count(net, row["image_size"], "conv_fc_relu_pool").madds == row["madds_conv_fc_relu_pool"]


# '3.50 M parameters, 300.8 M MAdds', with 'when condensed' behind it where the numbers are those of that network.
COSTS = re.compile(r".* (\d+\.\d+) M(?: parameters)?(?:,| and) (\d+\.\d+) M MAdds( when condensed)?")
WIDTHS = re.compile(r".* (\d+) M to (\d+) M MAdds in one of (\d+) M")
RELATIVE = re.compile(r"(?P<baseline>\S+) .*?(\b(?P<fewer>\d+) % fewer multiply-adds|\(\+(?P<more>\d+) %\))")
BASELINE_OF = {
    "MobileNetV3-Large,": "mobilenet_v3_large",
    "MobileNetV3-Small,": "mobilenet_v3_small",
    "MobileNetV3-Small": "mobilenet_v3_small",
    "EfficientNet-B0,": "efficientnet_b0",
}
# Their doc-strings tell no costs: many networks of one table, on a page of their own.
WITHOUT_COSTS = ("shufflenetv1", "structure_units", "condensenet", "condensenetv2", "idle", "dsnet")


def rounded(number, text):
    """A number in millions with the digits that a text has."""
    return f"{number / 1e6:.{len(text.partition('.')[2])}f}"


@pytest.mark.parametrize("name", list_models())
def test_costs_in_doc_strings_are_those_computed(name):
    assert name in COMPUTED, "not counted yet: python dev/make_tables.py --count"
    info, row = model_info(name), COMPUTED[name]
    costs, widths, relative = (pattern.match(info.summary) for pattern in (COSTS, WIDTHS, RELATIVE))
    if costs:
        params, madds, condensed = costs.groups()
        own = row["condensed"] if condensed else row
        assert (params, madds) == (rounded(own["params"], params), rounded(own["madds"], madds))
    if widths:
        shown = [row["widths"][0]["madds"], row["widths"][-1]["madds"], row["madds"]]
        assert list(widths.groups()) == [rounded(madds, "0") for madds in shown]
    if relative:
        change = row["madds"] / COMPUTED[BASELINE_OF[relative["baseline"]]]["madds"] - 1
        assert round(100 * change) == (int(relative["more"]) if relative["more"] else -int(relative["fewer"]))
    assert costs or widths or relative or info.family in WITHOUT_COSTS


@pytest.mark.parametrize(("baseline", "options", "madds", "params"), COMPOSITIONS)
def test_compositions(baseline, options, madds, params):
    net = idle_net(baseline, **options)
    cost = count(net)
    assert cost.madds == table_madds(net.arch)
    assert cost.madds / 1e6 == pytest.approx(madds, abs=0.05 if madds == 385.0 else 0.006)
    if params:
        assert cost.params / 1e6 == pytest.approx(params, abs=0.0006)


@pytest.mark.parametrize("number", BLOCKS)
def test_cost_of_one_block(number):
    idle = compose(LARGE, {number: 1}).rows[number - 1]
    side = {3: 56, 5: 28, 6: 28, 14: 7}.get(number, 14)
    width = LARGE.inputs()[number - 1]
    costs = [row_madds(width, row, side) / 1e6 for row in (LARGE.rows[number - 1], idle)]
    assert costs == pytest.approx(BLOCKS[number], abs=0.0006)
    assert 0.52 <= costs[1] / costs[0] <= 0.63  # two IdleBlocks cost about one MBBlock


@pytest.mark.parametrize(
    ("name", "options", "params", "madds"),
    [
        ("mobilenet_v3_large", {}, 5_483_032, 216.590),
        ("mobilenet_v3_small", {}, 2_542_856, 56.510),
        ("mobilenet_v3_small", {"head_hidden": 1280}, 2_945_288 + 1280, 56.914),  # GluonCV's has no bias there
        ("efficientnet_b0", {}, 5_288_548, 385.815),
        ("mobilenet_v1_x1_0", {}, 4_231_976, 568.740),
    ],
)
def test_baselines_are_exact(name, options, params, madds):
    cost = count(get_model(name, **options))
    assert cost.params == params
    assert cost.madds / 1e6 == pytest.approx(madds, abs=0.0006)


def test_howards_219_m_counts_relu_and_pooling():
    assert count(get_model("mobilenet_v3_large"), rule="conv_fc_relu_pool").madds / 1e6 == pytest.approx(
        219.56, abs=0.005
    )


def test_counts_follow_the_input_size_and_ignore_the_class_count_of_others():
    net = get_model("mobilenet_v3_small", classes=10)
    assert count(net, 160).madds < count(net, 224).madds
    assert count_params(get_model("mobilenet_v3_small")) - count_params(net) == 990 * 1025


def test_layer_costs_name_the_layers():
    layers = layer_costs(get_model("mobilenet_v3_small"))
    assert sum(layer.madds for layer in layers) == COMPUTED["mobilenet_v3_small"]["madds"]
    assert layers[0].op == "Convolution" and layers[0].output == (1, 16, 112, 112)
    assert layers[-1].op == "FullyConnected" and layers[-1].madds == 1024 * 1000


@pytest.mark.parametrize(
    ("name", "fully_connected"),
    [
        ("mobilenet_v3_small", 1024 * 1000),  # its hidden layer is written as a convolution
        ("mobilenext_x0_35", 1280 * 1000),
        ("alexnet_owt", 9216 * 4096 + 4096 * 4096 + 4096 * 1000),
    ],
)
def test_rule_conv_leaves_out_fully_connected_layers(name, fully_connected):
    net = get_model(name)
    assert count(net).madds - count(net, rule="conv").madds == fully_connected
    assert {layer.op for layer in layer_costs(net, rule="conv")} == {"Convolution"}
    assert count(net, rule="conv").params == count(net).params


def test_unknown_rule():
    with pytest.raises(ValueError, match="unknown counting rule 'flops'; choose one of conv_fc"):
        count(get_model("idle_tiny"), rule="flops")
