"""Two processes with Horovod train a detector like one process with all images, though one of them has fewer boxes."""

from __future__ import annotations

import json
import textwrap

import numpy as np
import pytest
from detection_runs import TINY_DETECTION, open_detection
from workers import horovodrun, needs_horovod

from gluon_effnets.train import build as building
from gluon_effnets.train import loop
from gluon_effnets.train.build import build
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.dist import Workers

pytestmark = [pytest.mark.dist, needs_horovod]

# Running statistics normalize, so that an image does not depend on the others of its batch.
EQUAL = ["freeze=['*.running_mean']", "optimizer={name: sgd, lr: 0.02, options: {momentum: 0.9}}", "duration=3it"]
EQUAL += ["evaluate_every=3it", "data.source=scattered_digits:48"]

CODE = """
    import json, sys
    from pathlib import Path
    import numpy as np
    from detection_runs import open_detection
    from gluon_effnets.train import build as building
    from gluon_effnets.train import loop
    from gluon_effnets.train.config import load_recipe
    from gluon_effnets.train.dist import start_workers

    building.open_data = open_detection
    recipe_file, out, *overrides = sys.argv[1:]
    workers = start_workers(True)
    folder = Path(out) / str(workers.rank)
    folder.mkdir()
    state, task, hooks = building.build(load_recipe(recipe_file, overrides), folder, workers)
    boxes = [int((batch.label >= 0).sum().asscalar()) for batch in state.data.train_batches(0)]
    before = loop.run_evaluation(state, task)
    loop.train(state, task, hooks)
    weights = {name: param.data().asnumpy() for name, param in state.net._collect_params_with_prefix().items()}
    np.savez(folder / "weights.npz", **weights)
    # None of the first worker, three of the second.
    rows = workers.gather(np.full((3 * workers.rank, 2), workers.rank + 0.1), "rows")
    told = {"before": before, "after": state.scores, "boxes": boxes, "rows": rows.tolist()}
    (folder / "told.json").write_text(json.dumps(told))
    workers.finish()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights of a detector that finds some rectangles, as a setting."""
    folder = tmp_path_factory.mktemp("trained")
    state = _alone(folder, "duration=60it", "evaluate_every=60it", "optimizer.lr=0.05")[0]
    state.net.save_parameters(str(folder / "trained.params"))
    return f"pretrained={folder / 'trained.params'}"


def _alone(folder, *overrides):
    """One process: its state, and the scores before the run."""
    (folder / "tiny.yaml").write_text(TINY_DETECTION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "open_data", open_detection)
        state, task, hooks = build(load_recipe(folder / "tiny.yaml", overrides), folder, Workers())
        before = loop.run_evaluation(state, task)
        loop.train(state, task, hooks)
    return state, before


@pytest.fixture(scope="module")
def out(tmp_path_factory, trained):
    """Folder with what both processes ended with."""
    folder = tmp_path_factory.mktemp("detection_workers")
    (folder / "tiny.yaml").write_text(TINY_DETECTION)
    (folder / "worker.py").write_text(textwrap.dedent(CODE))
    done = horovodrun(folder / "worker.py", folder / "tiny.yaml", folder, trained, *EQUAL)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def told(out):
    return [json.loads((out / str(rank) / "told.json").read_text()) for rank in range(2)]


def test_updates_are_those_of_one_worker_with_all_images(out, told, trained, tmp_path):
    assert all(first != second for first, second in zip(*(each["boxes"] for each in told)))
    state, before = _alone(tmp_path, trained, *EQUAL, "data.batch_size=16")
    first, second = (dict(np.load(out / str(rank) / "weights.npz")) for rank in range(2))
    for name, param in state.net._collect_params_with_prefix().items():
        value = param.data().asnumpy()
        assert (first[name] == second[name]).all(), name
        assert np.abs(first[name] - value).max() < 2e-5 * max(1, np.abs(value).max()), name
    assert before["map"] > 0.2


def test_scores_are_those_of_one_worker_and_equal_for_both(told, trained, tmp_path):
    before = _alone(tmp_path, trained, *EQUAL, "data.batch_size=16")[1]
    assert told[0]["before"] == told[1]["before"]
    for key, value in told[0]["before"].items():
        assert value == pytest.approx(before[key], rel=1e-5), key
    assert told[0]["before"]["map"] == before["map"], "detections of every image, once"
    assert told[0]["after"] == told[1]["after"]


def test_rows_of_all_workers_in_their_order(told):
    assert told[0]["rows"] == told[1]["rows"] == [[1.1, 1.1]] * 3
