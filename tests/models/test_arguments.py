"""Arguments that cannot be meant: the error names them, and no library sees them."""

import mxnet as mx
import pytest

from gluon_effnets import get_model, list_models, model_info
from gluon_effnets.complexity import count
from gluon_effnets.deploy import export, export_routed, export_subnet
from gluon_effnets.models import small_model
from gluon_effnets.weights import load_official

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: get_model(1), "name is 1, of type int"),
        (lambda: get_model(None), "name is None"),
        (lambda: get_model("idle_tiny", classes="3"), "classes is '3'"),
        (lambda: get_model("idle_tiny", pretrained=3), "pretrained is 3"),
        (lambda: get_model("idle_tiny", weights=3), "weights is 3"),
        (lambda: model_info(None), "name is None"),
        (lambda: list_models(3), "pattern is 3"),
        (lambda: list_models(family=1), "family is 1"),
        (lambda: list_models(has_recipe="yes"), "has_recipe is 'yes'"),
        (lambda: list_models(exclude=None), "exclude is None"),
        (lambda: small_model(3), "family is 3"),
        (lambda: count("x"), "net is 'x'"),
        (lambda: count(get_model("idle_tiny"), "x"), "image_size is 'x'"),
        (lambda: export("x", "out"), "net is 'x'"),
        (lambda: export_subnet(3, 0, "out"), "net is 3"),
        (lambda: export_routed(mx.gluon.nn.Dense(3), "out"), "it must be a network of get_model"),
        (lambda: load_official(3, {}), "net is 3"),
        (lambda: load_official(get_model("idle_tiny"), {}, 3), "source is 3"),
    ],
)
def test_wrong_types_are_named(call, said):
    with pytest.raises(TypeError, match=said):
        call()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: get_model("x" * 10**6), "unknown model 'xxx"),
        (lambda: get_model("idle_tiny", classes=0), "classes is 0"),
        (lambda: get_model("idle_tiny", classes=-3), "classes is -3"),
        (lambda: get_model("idle_tiny", classes=10**12), "classes is 1000000000000"),
        (lambda: get_model("idle_tiny", prefix=[1]), "option prefix"),
        (lambda: get_model("idle_tiny", bn_epsilon="x"), "option bn_epsilon"),
        (lambda: get_model("idle_tiny", bn_epsilon=float("nan")), "option bn_epsilon"),
        (lambda: get_model("idle_tiny", dropout=2), "option dropout"),
        (lambda: get_model("idle_tiny", in_channels=10**30), "option in_channels"),
        (lambda: get_model("idle_tiny", in_channels=9_999_999, classes=9_999_999), "parameters; at most"),
        (lambda: count(get_model("idle_tiny"), 0), "image_size is 0"),
        (lambda: count(get_model("idle_tiny"), 10**9), "image_size is 1000000000"),
        (lambda: export(get_model("idle_tiny"), "out"), "net has no weights yet"),
        (lambda: load_official(get_model("mobilenet_v2_x0_35"), 3), "state is a int"),
    ],
)
def test_values_that_cannot_be_meant_are_named(call, said):
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [0, -1, "x", [1], None, 0.5, {"a": 1}, 10**6])
def test_a_stride_that_no_convolution_has_never_ends_the_process(value):
    try:
        count(get_model("mobilenet_v2_x0_35", stem_stride=value), 32)
    except (ValueError, TypeError, mx.base.MXNetError) as error:
        assert len(str(error)) < 5000


def test_weights_are_named_once():
    with pytest.raises(ValueError, match="pretrained and weights name two files; give one of them"):
        get_model("idle_tiny", pretrained=True, weights="a.params")
