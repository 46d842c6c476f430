"""Three processes with Horovod: what is frozen stays bit for bit, where a mean of equal numbers would round."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
from recipes import TINY
from runs import save_teacher
from workers import horovodrun, needs_horovod

pytestmark = [pytest.mark.dist, needs_horovod]
WORKERS = 3
OVERRIDES = ["data.source=synthetic:96", "data.batch_size=4", "freeze=[features.0]", "hooks={ema: {decay: 0.5}}"]
OVERRIDES += ["optimizer.lr_factors={output: 4}", "task=distill"]

CODE = """
    import sys
    from pathlib import Path
    import mxnet as mx
    import numpy as np
    from gluon_effnets.train import loop
    from gluon_effnets.train.build import build
    from gluon_effnets.train.config import load_recipe
    from gluon_effnets.train.dist import start_workers

    recipe_file, out, *overrides = sys.argv[1:]
    workers = start_workers(True)
    folder = Path(out) / str(workers.rank)
    folder.mkdir()
    state, task, hooks = build(load_recipe(recipe_file, overrides), folder, workers)
    params = state.net._collect_params_with_prefix()
    for name in state.frozen:
        params[name].set_data(params[name].data() + 0.1)  # a third of it is no float
    before = {name: params[name].data().asnumpy() for name in params}
    loop.train(state, task, hooks)
    after = {name: params[name].data().asnumpy() for name in params}
    average = {name: array.asnumpy() for name, array in hooks[0].average.items()}
    for kind, arrays in (("before", before), ("after", after), ("average", average)):
        np.savez(Path(out) / f"{kind}.{workers.rank}.npz", **arrays)
    workers.finish()
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Folder with what all processes began and ended with."""
    folder = tmp_path_factory.mktemp("fine_tuning")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "worker.py").write_text(textwrap.dedent(CODE))
    teacher = save_teacher(folder / "teacher.params", "idle_tiny")
    options = f"task_options={{teacher: idle_tiny, weights: {teacher}}}"
    done = horovodrun(folder / "worker.py", folder / "tiny.yaml", folder, *OVERRIDES, options, processes=WORKERS)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_frozen_parts_stay_bit_for_bit_and_the_rest_is_equal(out):
    before, after, average = (dict(np.load(out / f"{kind}.0.npz")) for kind in ("before", "after", "average"))
    frozen = [name for name in before if name.startswith("features.0.")]
    assert any(name.endswith("running_var") for name in frozen)
    for name, value in before.items():
        same = (after[name] == value).all()
        assert same == (name in frozen), name
        assert not same or (average[name] == value).all(), name
    for rank in range(1, WORKERS):
        for name, value in np.load(out / f"after.{rank}.npz").items():
            assert (after[name] == value).all(), name
