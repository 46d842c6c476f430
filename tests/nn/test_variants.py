"""Variants of training and of inference: equal numbers and gradients, and each where it belongs."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets import get_model
from gluon_effnets.deploy import initialize_like_trained
from gluon_effnets.deploy.graph.inference import inference_graph
from gluon_effnets.nn.variants import inference_variants, training_on_cpu

NAMES = ["mobilenet_v2_x0_35", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v1_g3_x0_5", "ds_mobilenet_tiny"]


def operators(symbol) -> set:
    return {node["op"] for node in json.loads(symbol.tojson())["nodes"]}


def traced(net) -> set:
    return operators(net(mx.sym.var("data")))


def step(net, x):
    """Logits and gradients of one step."""
    with autograd.record():
        y = net(x)
        loss = (y * y).mean()
    loss.backward()
    grads = {name: p.grad().asnumpy() for name, p in net.collect_params().items() if p.grad_req != "null"}
    return y.asnumpy(), grads


@pytest.mark.parametrize("name", NAMES)
def test_variants_give_equal_logits_and_gradients(name):
    net = get_model(name, classes=10, dropout=0.0)
    initialize_like_trained(net)
    x = mx.nd.random.normal(shape=(8, 3, 96, 96))
    if mx.context.num_gpus():
        assert traced(net) == operators(inference_graph(net))
    logits, grads = step(net, x)
    with inference_variants():
        other_logits, other_grads = step(net, x)
    np.testing.assert_allclose(logits, other_logits, atol=1e-3 * logits.std())
    largest = max(map(np.linalg.norm, grads.values()))
    for key, grad in grads.items():
        # A wrong formula changes a gradient by as much as it is; rounding is magnified by BN and the kinks of ReLU.
        assert np.linalg.norm(grad - other_grads[key]) <= 5e-2 * np.linalg.norm(grad) + 1e-4 * largest, key


@pytest.mark.skipif(mx.context.num_gpus() > 0, reason="with a GPU there is one form alone")
def test_the_graph_of_training_has_no_clip_and_those_of_inference_have():
    net = get_model("mobilenet_v2_x0_35", classes=10)
    net.initialize()
    assert "clip" not in traced(net)
    assert "clip" in operators(inference_graph(net))
    x = mx.nd.zeros((1, 3, 32, 32))
    net.hybridize()
    net(x)
    assert "clip" not in operators(net._cached_graph[1])
    net.optimize_for(x, backend="MKLDNN")
    assert "_minimum_scalar" not in operators(net._cached_graph[1]), "oneDNN cannot fuse it"


def test_the_context_ends_with_its_block_also_by_an_error():
    before = training_on_cpu()
    with pytest.raises(KeyError), inference_variants():
        assert not training_on_cpu()
        with inference_variants(False):
            assert not training_on_cpu(), "an inner block does not turn an outer one off"
        raise KeyError
    assert training_on_cpu() == before
