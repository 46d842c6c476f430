"""Two processes with Horovod: DS-Net's stages end equal on both, freeze what is frozen, and resume bit for bit."""

from __future__ import annotations

import textwrap

import mxnet as mx
import numpy as np
import pytest
from recipes import STAGED, STAGES
from runs import arrays
from workers import horovodrun, needs_horovod

from gluon_effnets.files.params_header import load_arrays
from gluon_effnets.train.checkpoint import list_checkpoints

pytestmark = [pytest.mark.dist, needs_horovod]
# Workers have different images, and so statistics, between two averages.
OVERRIDES = ["data.batch_size=4", "stages.recalibrate.data.batch_size=8", "stages.gate.hooks={ema: {decay: 0.5}}"]

CODE = """
    import functools, json, sys
    from pathlib import Path
    import numpy as np
    from gluon_effnets.commands.train import parse
    from runs import Killed, kill_after
    from gluon_effnets.train import loop, run
    from gluon_effnets.train.dist import start_workers
    from gluon_effnets.train.tasks import slimmable

    recipe, out = sys.argv[1], Path(sys.argv[2])
    overrides = [part for override in sys.argv[3:] for part in ("--set", override)]
    workers = start_workers(True)
    original, draw = loop.train, slimmable.draw_widths
    drawn, killed_in = [], None

    def draw_and_note(*args):
        drawn.append(draw(*args))
        return drawn[-1]

    def train(state, task, hooks):
        if state.stage.name == killed_in:
            kill_after(hooks, 3)
        original(state, task, hooks)
        params = state.net._collect_params_with_prefix()
        arrays = {key: param.data().asnumpy() for key, param in params.items()}
        np.savez(out / f"{state.stage.name}.{workers.rank}.npz", **arrays)

    def report(state, recipe, hooks):
        # What a stage leaves to the next one; the rest has tests of its own.
        state.net.save_parameters(str(state.out / f"{recipe.model}.params"))
        (state.out / "result.json").write_text(json.dumps({"updates": state.update}))

    slimmable.draw_widths, loop.train, run.write_report = draw_and_note, train, report
    workers.finish, finish = lambda: None, workers.finish
    for name, killed_in in (("whole", None), ("parts", "supernet"), ("parts", "gate"), ("parts", None)):
        args = parse(["--config", recipe, "--out", str(out / name), *overrides])
        try:
            run.run(args, workers)
        except Killed:
            pass
        workers.sum({"barrier": 0.0})
    (out / f"drawn.{workers.rank}.json").write_text(json.dumps(drawn))
    finish()
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    (folder / "staged.yaml").write_text(STAGED)
    (folder / "worker.py").write_text(textwrap.dedent(CODE))
    done = horovodrun(folder / "worker.py", folder / "staged.yaml", folder, *OVERRIDES)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_workers_end_every_stage_equal(out):
    for name in STAGES:
        first, second = (dict(np.load(out / f"{name}.{rank}.npz")) for rank in (0, 1))
        assert all(np.array_equal(value, second[key]) for key, value in first.items()), name


def test_workers_draw_the_same_widths(out):
    first, second = ((out / f"drawn.{rank}.json").read_text() for rank in (0, 1))
    assert first == second
    assert len(first) > 50


def test_the_gate_changes_nothing_else(out):
    before, after = (
        load_arrays(out / "whole" / name / "ds_mobilenet_tiny.params") for name in STAGES if name != "supernet"
    )
    changed = {key for key, value in before.items() if (value != after[key]).asnumpy().any()}
    assert changed == {"gates.0.gate.weight"}
    hooks = mx.nd.load(str(list_checkpoints(out / "whole" / "gate")[-1] / "hooks.params"))
    sums = sorted(float(value.asnumpy().astype("float64").sum()) for value in hooks.values())
    plain = sorted(
        float(value.asnumpy().astype("float64").sum()) for key, value in after.items() if "effnets" not in key
    )
    assert sum(a != b for a, b in zip(sums, plain)) <= 2, "nor does the average of the weights"


def test_resuming_is_bit_for_bit(out):
    whole, parts = arrays(out / "whole"), arrays(out / "parts")
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(value, parts[key]) for key, value in whole.items())
