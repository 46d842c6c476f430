"""The maps of which earlier features a CondenseNet reads: against loops over channels, and the same when condensed."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from gluon_effnets.__main__ import main
from gluon_effnets.evaluate import feature_reuse as reuse
from gluon_effnets.models import get_model
from gluon_effnets.models.condense import condense
from gluon_effnets.nn import masked_layers

# Two layers in each of three blocks, growth 8-16-32: the channels that every source adds.
WIDTHS = [16, 8, 8, 16, 16, 32, 32]


@pytest.fixture(params=["condensenet_tiny", "condensenet_v2_tiny"])
def net(request):
    mx.random.seed(1)
    net = get_model(request.param)
    net.initialize(mx.init.Normal(0.3))
    for layer in masked_layers(net).values():
        while not layer.finished:
            layer.drop()
    return net


def learned(net):
    """(weight, mask) of every learned group convolution, written out from the stored arrays."""
    layers = [layer for path, layer in masked_layers(net).items() if path.endswith("reduce")]
    for layer in layers:
        mask = layer.mask.data().asnumpy()
        weight = layer.weight.data().asnumpy()[:, :, 0, 0]
        yield np.array([np.abs(row) * mask[number % layer.groups] for number, row in enumerate(weight)])


def test_map_against_loops(net):
    cells = reuse.reuse_map(net)
    weights = list(learned(net))
    assert cells.shape == (6, 6)
    for target in range(6):
        for source in range(6):
            if source > target:
                assert np.isnan(cells[source, target])
                continue
            begin = sum(WIDTHS[:source])
            norms = [weights[target][:, begin + i].sum() for i in range(WIDTHS[source])]
            assert cells[source, target] == pytest.approx(np.mean(norms), rel=1e-5)


def test_the_condensed_network_has_the_same_map(net):
    before, after = reuse.reuse_map(net), reuse.reuse_map(condense(net))
    assert after == pytest.approx(before, rel=1e-6, nan_ok=True)
    assert reuse.early_feature_share(condense(net)) == pytest.approx(reuse.early_feature_share(net))
    for trained, condensed in zip(reuse.layer_weights(net), reuse.layer_weights(condense(net))):
        assert (trained == condensed).all()


def test_columns_are_scaled_as_in_the_authors_script(net):
    cells = reuse.reuse_map(net)
    seen = reuse.normalized(cells)
    for target in range(5):
        column = cells[: target + 1, target]
        assert seen[: target + 1, target] == pytest.approx(column / column.max())
    last = cells[:, 5]
    assert seen[:, 5] == pytest.approx((last - last.min()) / (last.max() - last.min()))
    assert (np.isnan(seen) == np.isnan(cells)).all()


def test_early_share_against_loops(net):
    far = every = alike = 0.0
    for target, weight in enumerate(learned(net)):
        readable = sum(WIDTHS[: target + 1])
        for source in range(target + 1):
            begin = sum(WIDTHS[:source])
            mass = weight[:, begin : begin + WIDTHS[source]].sum()
            every += mass
            # Layer number target + 1 reads what layer number source made.
            if target + 1 - source >= 3:
                far += mass
                alike += weight.sum() * WIDTHS[source] / readable
    assert reuse.early_feature_share(net) == pytest.approx((far / every, alike / every), rel=1e-5)


def test_early_share_of_known_weights(net):
    for layer in masked_layers(net).values():
        layer.mask.set_data(mx.nd.ones(layer.mask.shape))
        layer.weight.set_data(mx.nd.ones(layer.weight.shape))
    share, uniform = reuse.early_feature_share(net)
    assert share == pytest.approx(uniform) and 0 < share < 1
    for path, layer in masked_layers(net).items():
        if path.endswith("reduce"):
            weight = np.zeros(layer.weight.shape, np.float32)
            weight[:, -1] = 1  # the newest feature alone
            layer.weight.set_data(mx.nd.array(weight))
    assert reuse.early_feature_share(net).share == 0


@pytest.mark.parametrize("options", [[], ["--normalize", "none"], ["--layer", "1"], ["--layer", "6"]])
def test_command(net, tmp_path, capsys, options):
    net.save_parameters(str(tmp_path / "net.params"))
    picture = tmp_path / "new" / "map.png"
    assert main(["plot", "reuse", net.info.name, str(tmp_path / "net.params"), str(picture), *options]) == 0
    share = reuse.early_feature_share(net).share
    assert f"early-feature share: {share:.2%} of the weights" in capsys.readouterr().out
    assert np.asarray(Image.open(picture)).std() > 10


@pytest.mark.parametrize("normalize", reuse.NORMALIZATIONS)
def test_the_picture_shows_the_map(net, tmp_path, monkeypatch, normalize):
    from matplotlib.axes import Axes

    shown, imshow = [], Axes.imshow
    monkeypatch.setattr(Axes, "imshow", lambda self, data, **kw: shown.append(data) or imshow(self, data, **kw))
    reuse.draw_reuse(net, tmp_path / "map.png", normalize)
    cells = reuse.reuse_map(net)
    expected = reuse.normalized(cells) if normalize == "column" else cells
    assert shown[0] == pytest.approx(expected, nan_ok=True)


def test_the_picture_of_a_layer_shows_its_groups(net, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    shown, imshow = [], Axes.imshow
    monkeypatch.setattr(Axes, "imshow", lambda self, data, **kw: shown.append(data) or imshow(self, data, **kw))
    reuse.draw_layer(net, tmp_path / "layer.png", 3)
    weight = list(learned(net))[2]
    rows = len(weight) // 4
    for group in range(4):
        part = shown[0][group * rows : (group + 1) * rows]
        assert np.nan_to_num(part) == pytest.approx(weight[group::4], rel=1e-6)
        kept = ~np.isnan(part)
        assert (kept == kept[0]).all(), "a group keeps the same inputs in all its filters"
        assert kept[0].sum() == weight.shape[1] // 4


def test_mistakes(net, tmp_path):
    with pytest.raises(ValueError, match="no layer 7; the dense layers of this network are 1 to 6"):
        reuse.draw_layer(net, tmp_path / "layer.png", 7)
    with pytest.raises(ValueError, match="normalize is 'row'; it must be one of column, none"):
        reuse.draw_reuse(net, tmp_path / "map.png", "row")
    other = get_model("idle_tiny")
    other.initialize()
    with pytest.raises(ValueError, match="idle_tiny has no dense layers"):
        reuse.reuse_map(other)
