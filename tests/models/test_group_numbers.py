"""Numbers of groups and factors: refused in a sentence where they cannot be had, and never replaced in silence."""

from __future__ import annotations

import pytest

from gluon_effnets.models import get_model
from gluon_effnets.models.condensenet import condensenet
from gluon_effnets.models.condensenetv2 import condensenet_v2
from gluon_effnets.models.mobilenext import mobilenext_se
from gluon_effnets.models.shufflenetv1 import WIDTHS, shufflenet_v1
from gluon_effnets.nn import ConvBN, ShuffleUnit, masked_layers

pytestmark = pytest.mark.fast

MAKERS = {
    "condensenet_v2_a": ("update_groups", "update_factor", "factor"),
    "condensenet_74_c4": ("factor",),
    "sfr_shufflenet_v2_x1_0": ("groups", "factor"),
}
REGISTERED = [(name, option) for name, options in MAKERS.items() for option in options]
BUILT = {
    "condensenet": lambda groups: condensenet((1, 1), (8, 8), groups),
    "condensenet_v2": lambda groups: condensenet_v2((1, 1), (8, 8), groups),
    "shufflenet_v1": lambda groups: shufflenet_v1(WIDTHS[3, 1.0], groups),
    "mobilenext_se": lambda groups: mobilenext_se(1.0, groups),
    "ConvBN": lambda groups: ConvBN(16, 16, groups=groups),
    "ShuffleUnit": lambda groups: ShuffleUnit(240, 240, 3, first_groups=groups),
}


@pytest.mark.parametrize("condensed", [False, True])
@pytest.mark.parametrize("value", [0, -1, -2, 7, 1.5])
@pytest.mark.parametrize(("name", "option"), REGISTERED)
def test_options_of_models(name, option, value, condensed):
    with pytest.raises(ValueError, match="whole number of at least 1|must divide the channels"):
        get_model(name, **{option: value}, **({"condensed": True} if condensed and "condense" in name else {}))


@pytest.mark.parametrize("value", [0, -1, 7, 1.5])
@pytest.mark.parametrize("make", BUILT.values(), ids=BUILT)
def test_groups_of_builders_and_blocks(make, value):
    with pytest.raises(ValueError, match=r"whole number of at least 1|must divide"):
        make(value)


@pytest.mark.parametrize(("name", "option"), [("condensenet_v2_a", "last_se"), ("shufflenet_v1_g3_x1_0", "se_ratio")])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_reductions_of_squeeze_and_excitation(name, option, value):
    with pytest.raises(ValueError, match=rf"{option} is {value}; it must be a whole number of at least 1"):
        get_model(name, **{option: value})


def test_what_is_given_counts_and_the_default_is_the_groups():
    def numbers(**options):
        layers = masked_layers(get_model("condensenet_v2_a", **options)).values()
        return {(type(layer).__name__, layer.groups, layer.factor) for layer in layers}

    assert numbers() == {("LearnedGroupConv", 8, 8), ("SparseFeatureReactivation", 8, 8)}
    assert numbers(update_groups=4, update_factor=2, factor=4) == {
        ("LearnedGroupConv", 8, 4),
        ("SparseFeatureReactivation", 4, 2),
    }
