"""Two processes of a job: one looks at every record for both, and small gradients reach the other as float16."""

from __future__ import annotations

import json
import os
import textwrap

import numpy as np
import pytest
from images import photo, write_records
from workers import horovodrun, needs_horovod

pytestmark = [pytest.mark.dist, needs_horovod]

NUM = 12
SMALL = [1e-9, 3e-8, 1e-6, 1e-3]
CODE = """
    import json, os, sys
    from pathlib import Path
    folder = Path(sys.argv[1])
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    import mxnet as mx
    from gluon_effnets.train.data import DataSettings, check, open_data
    from gluon_effnets.train.dist import start_workers

    workers, read = start_workers(True), []
    own = check.read_header

    def counted(encoded):
        read.append(len(encoded))
        return own(encoded)

    check.read_header = counted
    workers.sum({"both begin": 0.0})
    settings = DataSettings(source=f"recordio:{folder}", image_size=16, batch_size=2, num_threads=1)
    data = open_data(settings, seed=0, rank=workers.rank, world=workers.size)

    net = mx.gluon.nn.Dense(1, in_units=4, use_bias=False)
    net.initialize()
    trainer = workers.make_trainer(net, mx.optimizer.SGD(learning_rate=1.0), "fp16")
    # Half and three halves: the mean is as given.
    net.weight.grad()[:] = mx.nd.array([json.loads(sys.argv[2])]) * (0.5 + workers.rank)
    trainer.allreduce_grads()
    seen = {"read": len(read), "images": data.num_train, "mean": net.weight.grad().asnumpy()[0].tolist()}
    (folder / f"{workers.rank}.json").write_text(json.dumps(seen))
    workers.finish()
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of the workers saw."""
    folder = tmp_path_factory.mktemp("shared")
    for part in ("train", "val"):
        write_records(str(folder / f"{part}.rec"), [photo(seed) for seed in range(NUM)], [0] * NUM)
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    (folder / "worker.py").write_text(textwrap.dedent(CODE))
    done = horovodrun(folder / "worker.py", folder, json.dumps(SMALL))
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_one_worker_looks_at_every_record_for_both(seen):
    assert [one["images"] for one in seen] == [NUM, NUM]
    # Of each of the two files the first that comes checks all images.
    assert sum(one["read"] for one in seen) == 2 * NUM


def test_small_gradients_survive_the_exchange_as_float16(seen):
    for one in seen:
        # Float16 rounds its smallest numbers to 6e-8; two such roundings, 1024 times as small, are in the mean.
        np.testing.assert_allclose(one["mean"], SMALL, rtol=2e-3, atol=6e-11)
    assert np.float16(SMALL[0]) == 0, "as they are, float16 would lose the smallest"
