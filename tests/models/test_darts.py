"""Networks of cells: published parameters, genotypes of files, what a cell computes, the auxiliary classifier."""

import json
import warnings

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from networks import initialized

from gluon_effnets import get_model
from gluon_effnets.complexity import count_params
from gluon_effnets.models.cellnet import Place
from gluon_effnets.models.darts import DARTS_V2, MOBILENEXT_CELLS, FixedCell
from gluon_effnets.models.darts_search import chosen_edges
from gluon_effnets.models.genotype import Edge, read_genotype
from gluon_effnets.nn import Norm

TINY = {"channels": 4, "layers": 5}
ONE_NODE = {"normal": [["skip_connect", 0], ["max_pool_3x3", 1]], "reduce": [["max_pool_3x3", 0], ["skip_connect", 1]]}


def images(n=2, size=16, seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal((n, 3, size, size)))


@pytest.mark.fast
def test_parameters_of_the_published_cells():
    """3.349 M by the README of quark0/darts, which does not count the auxiliary classifier."""
    assert count_params(get_model("cifar_darts_v2")) == 3_349_342
    assert count_params(get_model("cifar_darts_v2", auxiliary=True)) == 3_349_342


@pytest.mark.fast
@pytest.mark.parametrize(("ratio", "millions"), [(1, 3.93), (2, 2.94), (4, 2.45), (6, 2.28)])
def test_a_quarter_of_the_parameters_is_saved_by_a_bottleneck_of_a_quarter_alone(ratio, millions):
    params = count_params(get_model("cifar_darts_sandglass", sandglass_ratio=ratio))
    assert round(params / 1e6, 2) == millions
    assert (0.23 < 1 - params / 3_349_342 < 0.28) == (ratio == 4)


@pytest.mark.fast
def test_reductions_stand_at_a_third_and_at_two_thirds():
    rows = [list(stage._children.values())[-1] for stage in get_model("cifar_darts_v2").stages]
    reduces = [cell.reduces for row in rows for cell in row.cells._children.values()]
    assert [number for number, yes in enumerate(reduces) if yes] == [6, 13] and len(reduces) == 20


def test_a_cell_is_the_sum_of_its_edges():
    """Of a cell whose operations have no weights: the nodes in NumPy, from the maps that the cell begins with."""
    genotype = {
        "normal": [["skip_connect", 0], ["max_pool_3x3", 1], ["skip_connect", 2], ["avg_pool_3x3", 0]],
        "reduce": ONE_NODE["reduce"] * 2,
    }
    net = initialized("darts_cells", genotype=genotype, channels=4, layers=6)
    cell = net.stages[0][1].cells[0]
    one, two = images(1, 8), images(1, 8, seed=1)
    one, two = (mx.nd.concat(*[x] * 4, dim=1) for x in (one, two))
    s0, s1 = cell.first(one).asnumpy(), cell.second(two).asnumpy()

    def pooled(x, how, pad):
        wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=pad)
        windows = [wide[:, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
        return how(np.stack(windows), axis=0)

    first = s0 + pooled(s1, np.max, -np.inf)
    # Pixels beyond the border do not count.
    second = first + pooled(s0, np.nanmean, np.nan)
    expected = np.concatenate([first, second], axis=1)
    np.testing.assert_allclose(cell(one, two).asnumpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_factorized_reduction_reads_all_pixels():
    from gluon_effnets.nn import FactorizedReduce

    block = FactorizedReduce(2, 4)
    block.initialize(mx.init.Normal(1))
    x = np.abs(np.random.RandomState(0).standard_normal((1, 2, 6, 6)))
    even, odd = (conv.weight.data().asnumpy()[:, :, 0, 0] for conv in (block.even, block.odd))
    expected = np.concatenate(
        [np.einsum("oc,nchw->nohw", even, x[:, :, ::2, ::2]), np.einsum("oc,nchw->nohw", odd, x[:, :, 1::2, 1::2])], 1
    )
    np.testing.assert_allclose(block(mx.nd.array(x)).asnumpy() * np.sqrt(1 + 1e-5), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.fast
def test_the_rule_that_chooses_edges():
    """Two edges for each node, by their strongest operation; 'none' counts in the softmax, but is never chosen."""
    operations = ("none", "max_pool_3x3", "skip_connect")
    weights = [
        [9, 1, 0],  # nearly all is for none: the weakest edge of its node, but one of only two
        [0, 2, 1],
        [0, 0, 3],
        [0, 1, 1],  # of equals the first one
        [8, 7, 0],  # the largest weight, but not the largest share
    ]
    expected = (
        Edge("max_pool_3x3", 1),
        Edge("max_pool_3x3", 0),
        Edge("skip_connect", 0),
        Edge("max_pool_3x3", 1),
    )
    assert chosen_edges(np.array(weights, np.float32), operations) == expected
    assert chosen_edges(np.zeros((2, 3)), operations) == (Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1))


def test_a_search_network_of_decided_weights_is_the_chosen_network():
    """Both cells then have one operation on every edge: that of the largest weight."""
    net = initialized("darts_search", space="darts_sandglass", nodes=1, **TINY)
    for param, place in zip(net.architecture, (3, 1)):
        values = np.full(param.shape, -40.0)
        values[:, place] = 40
        param.set_data(mx.nd.array(values))
    assert net.genotype.as_dict() == {
        "normal": [["skip_connect", 0], ["skip_connect", 1]],
        "reduce": [["max_pool_3x3", 0], ["max_pool_3x3", 1]],
    }
    chosen = initialized("darts_cells", genotype=net.genotype, **TINY)
    of_search = net._collect_params_with_prefix()
    for key, param in chosen._collect_params_with_prefix().items():
        same = of_search.get(key)
        if same is not None:
            same.set_data(param.data())
    x = images()
    # A search puts BN behind pooling, which at running statistics of 0 and 1 divides by sqrt(1 + epsilon) alone.
    np.testing.assert_allclose(net(x).asnumpy(), chosen(x).asnumpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.fast
@pytest.mark.parametrize("genotype", [DARTS_V2, MOBILENEXT_CELLS])
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_genotypes_go_through_files(tmp_path, genotype, form):
    path = tmp_path / f"cells.{form}"
    path.write_text(genotype.text() if form == "yaml" else json.dumps(genotype.as_dict()))
    assert read_genotype(str(path)) == read_genotype(path) == genotype == read_genotype(genotype.as_dict())


def test_a_network_of_a_file_knows_its_cells_without_it(tmp_path):
    path = tmp_path / "cells.yaml"
    path.write_text(read_genotype(ONE_NODE).text())
    net = initialized("darts_cells", genotype=str(path), **TINY)
    assert net.genotype.normal[1] == Edge("max_pool_3x3", 1)
    weights, x = str(tmp_path / "net.params"), images()
    net.save_parameters(weights)
    path.unlink()
    again = get_model("darts_cells", weights=weights)
    assert again.genotype == net.genotype
    np.testing.assert_array_equal(again(x).asnumpy(), net(x).asnumpy())
    other = {**ONE_NODE, "normal": [["max_pool_3x3", 0], ["max_pool_3x3", 1]]}
    with pytest.raises(ValueError, match="genotype"):
        get_model("darts_cells", weights=weights, genotype=other)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {**ONE_NODE, "normal": [["conv_7x7", 0], ["skip_connect", 1]]},
            "'conv_7x7'; there are max_pool_3x3",
        ),
        ({**ONE_NODE, "normal": [["none", 0], ["skip_connect", 1]]}, "operation 'none'; there are max_pool_3x3"),
        ({**ONE_NODE, "normal": [["skip_connect", 2], ["skip_connect", 1]]}, "reads map 2; node 0 can read 0 to 1"),
        ({**ONE_NODE, "normal": [["skip_connect", True], ["skip_connect", 1]]}, "must be .operation, number of a map."),
        ({**ONE_NODE, "normal": [["skip_connect", 0]] * 3}, "has 3 edges; there must be two for each node"),
        ({**ONE_NODE, "normal": [["skip_connect", 0]] * 4}, "both cells must have as many nodes; they have 2, 1"),
        ({**ONE_NODE, "normal": []}, "normal has 0 entries"),
        ({"normal": ONE_NODE["normal"]}, "lacks 'reduce'"),
        ({**ONE_NODE, "concat": [2]}, "key 'concat', which is not known"),
        (["normal"], "must be an object with keys"),
        ("DARTS_V2", "must be a YAML or JSON file"),
    ],
)
def test_genotypes_of_strangers(given, message):
    with pytest.raises(ValueError, match=message) as error:
        read_genotype(given)
    assert "\n" not in str(error.value)


@pytest.mark.fast
def test_a_genotype_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        get_model("darts_cells", genotype="nowhere.yaml")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "message"),
    [({"layers": 4}, "layers is 4.*at least 5"), ({"channels": 7}, "even number"), ({"sandglass_ratio": 0}, "ratio")],
)
def test_bad_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        get_model("darts_tiny", **options)


def test_the_auxiliary_classifier_trains_beside_the_network():
    net, x = initialized("darts_tiny", auxiliary=True, **TINY), images(2, 32)
    net.train_auxiliary()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.hybridize(static_alloc=True, static_shape=True)
        expected = net(x).asnumpy()
    logits, auxiliary = net.with_auxiliary(x)
    assert logits.shape == auxiliary.shape == (2, 10)
    np.testing.assert_allclose(logits.asnumpy(), expected, rtol=1e-5, atol=1e-5)
    with autograd.record():
        logits, auxiliary = net.with_auxiliary(x)
        loss = (logits.square() + auxiliary.square()).sum()
    loss.backward()
    grads = {key: p.grad() for key, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}
    assert not [key for key, grad in grads.items() if not grad.abs().sum().asscalar() > 0]
    net.reset_class(3)
    assert [part.shape for part in net.with_auxiliary(x)] == [(2, 3), (2, 3)] and net(x).shape == (2, 3)


def test_an_exported_graph_has_no_auxiliary_classifier(tmp_path):
    net, x = initialized("darts_tiny", auxiliary=True, **TINY), images(2, 32)
    net.hybridize()
    net(x)
    net.export(str(tmp_path / "net"))
    assert not [key for key in mx.nd.load(str(tmp_path / "net-0000.params")) if "auxiliary" in key]


@pytest.mark.parametrize(("operation", "drops"), [("skip_connect", False), ("max_pool_3x3", True)])
def test_drop_path_drops_operations_of_samples_but_no_identities(operation, drops):
    cell = FixedCell((Edge(operation, 0), Edge("skip_connect", 1)), 4, Place((3, 3), 4, False, False), Norm())
    cell.initialize()
    one, two = images(64, 4), images(64, 4, seed=1)
    cell.set_drop_path(0.5)
    with autograd.train_mode():
        seen = cell(one, two).asnumpy() - cell.second(two).asnumpy()
        term = cell.first(one)
    kept = np.abs(seen).sum(axis=(1, 2, 3)) > 1e-4
    assert (0 < kept.sum() < 64) == drops and kept.any()
    expected = (2 * mx.nd.Pooling(term, kernel=(3, 3), pad=(1, 1), pool_type="max") if drops else term).asnumpy()
    np.testing.assert_allclose(seen[kept], expected[kept], rtol=1e-4, atol=1e-4)


def test_another_rate_of_drop_path_reaches_a_hybridized_network():
    net, x = initialized("darts_tiny", **TINY), images(4)
    net.hybridize(static_alloc=True, static_shape=True)
    answers = []
    for rate in (0.0, 0.9, 0.0):
        net.set_drop_path(rate)
        mx.random.seed(0)
        with autograd.record():
            answers.append(net(x).asnumpy())
    np.testing.assert_array_equal(answers[0], answers[2])
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    evaluated = net(x).asnumpy()
    net.set_drop_path(0.9)
    np.testing.assert_allclose(net(x).asnumpy(), evaluated, rtol=1e-5, atol=1e-5)
