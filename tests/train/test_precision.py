"""Mixed precision on a CPU, in a process of its own: MXNet changes its operators for good."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import mxnet as mx
import numpy as np
import pytest
from recipes import TINY
from waiting import PATIENCE_S

from gluon_effnets.deploy import load_exported
from gluon_effnets.train.dist import ScaledFloat16
from gluon_effnets.train.precision import Precision

CODE = """
    import json, math, sys
    from pathlib import Path
    import mxnet as mx
    from gluon_effnets.train import loop
    from gluon_effnets.train.config import load_recipe
    from gluon_effnets.train.dist import Workers
    from gluon_effnets.train.hooks import Hook
    from gluon_effnets.train.run import build, resume

    recipe = load_recipe(sys.argv[1], ["precision=bfloat16", "optimizer.lr=0.1", "duration=6it"])
    out = Path(sys.argv[2])
    seen = {"norms": [], "weights": [], "losses": []}

    class Watch(Hook):
        poison = None

        def before_update(self, state):
            grads = [p.grad() for p in state.net.collect_params().values() if p.grad_req != "null"]
            squares = sum(float((g * state.grad_scale).square().sum().asscalar()) for g in grads)
            seen["norms"].append(math.sqrt(squares))
            if state.update == self.poison:
                grads[0][:] = math.inf

        def batch_end(self, state):
            seen["weights"].append(float(state.net.output.weight.data().norm().asscalar()))
            seen["losses"].append(float(state.scalars["loss"].asscalar()))

    state, task, hooks = build(recipe, out, Workers())
    seen["first"] = float(state.net.output.weight.data().norm().asscalar())
    watch = Watch()
    watch.poison = 2
    loop.train(state, task, [watch, *hooks])
    params = state.net.collect_params().values()
    seen["dtypes"] = sorted({str(p.data().dtype.__name__) for p in params})
    again, _, more = build(recipe, out, Workers())
    resume(again, more, recipe)
    seen["end"], seen["resumed"] = vars(state.trainer._amp_loss_scaler), vars(again.trainer._amp_loss_scaler)
    seen["scores"] = state.scores
    print("SEEN" + json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a run in bfloat16 of six updates, the third with an infinite gradient, looked like."""
    folder = tmp_path_factory.mktemp("bfloat16")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "out").mkdir()
    command = [sys.executable, "-c", textwrap.dedent(CODE), str(folder / "tiny.yaml"), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("SEEN"))
    return json.loads(line[4:])


def test_bfloat16_trains_with_float32_weights(seen):
    assert seen["dtypes"] == ["float32"]
    assert len(seen["losses"]) == 6
    assert all(1 < loss < 4 for loss in seen["losses"])
    assert seen["weights"][0] != seen["first"]
    assert 0 <= seen["scores"]["top1"] <= 1


def test_gradients_come_without_the_loss_scale(seen, start):
    from gluon_effnets.train.hooks import Hook

    norms = []

    class Watch(Hook):
        def before_update(self, state):
            grads = [p.grad() for p in state.net.collect_params().values() if p.grad_req != "null"]
            squares = sum(float((g * state.grad_scale).square().sum().asscalar()) for g in grads)
            norms.append(squares**0.5)

    start("optimizer.lr=0.1", "duration=1it").train(Watch())
    assert seen["norms"][0] == pytest.approx(norms[0], rel=0.1)


def test_an_infinite_gradient_skips_the_update_and_halves_the_scale(seen):
    weights = [seen["first"], *seen["weights"]]
    changed = [before != after for before, after in zip(weights, weights[1:])]
    assert changed == [True, True, False, True, True, True]
    assert seen["end"]["_loss_scale"] == 2.0**15


def test_the_loss_scale_is_resumed(seen):
    fields = ("_loss_scale", "_next_loss_scale", "_unskipped")
    assert [seen["resumed"][name] for name in fields] == [seen["end"][name] for name in fields]
    assert seen["end"]["_unskipped"] == 3


@pytest.mark.fast
def test_float16_on_a_cpu_and_unknown_names_are_refused():
    with pytest.raises(ValueError, match="precision float16 needs a GPU"):
        Precision("float16", mx.cpu())
    with pytest.raises(ValueError, match="precision is 'fp16'; choose one of float32, float16, bfloat16"):
        Precision("fp16", mx.cpu())
    with pytest.raises(ValueError, match="precision bfloat16 is for a CPU"):
        Precision("bfloat16", mx.gpu(0))


@pytest.mark.fast
def test_small_gradients_survive_as_float16():
    values = np.array([1e-9, -3e-8, 1e-6, 0.5, -60, 0], np.float32)
    sent, kind = ScaledFloat16.compress(mx.nd.array(values))
    assert sent.dtype == np.float16
    np.testing.assert_allclose(ScaledFloat16.decompress(sent, kind).asnumpy(), values, rtol=1e-3, atol=3e-11)
    assert values.astype(np.float16)[0] == 0, "without scale the smallest would be lost"


@pytest.mark.fast
def test_large_gradients_are_bounded_and_infinite_ones_stay_visible():
    sent, kind = ScaledFloat16.compress(mx.nd.array([1e3, -1e30, np.inf, -np.inf, np.nan]))
    found = ScaledFloat16.decompress(sent, kind).asnumpy()
    np.testing.assert_allclose(found[:2], [63.97, -63.97], rtol=1e-3)
    assert np.isnan(found[2:]).all()


def test_a_whole_run_in_bfloat16_exports_a_float32_graph(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(TINY + "precision: bfloat16\n")
    command = [sys.executable, "-m", "gluon_effnets", "train", "--config", str(recipe), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    symbol, weights = (tmp_path / "run" / f"idle_tiny-{end}" for end in ("symbol.json", "0000.params"))
    assert "amp_cast" not in symbol.read_text()
    logits = load_exported(symbol, weights)(mx.nd.ones((2, 3, 16, 16)))
    assert logits.dtype == np.float32 and np.isfinite(logits.asnumpy()).all()
