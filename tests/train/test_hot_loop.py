"""What an update may cost beside its arithmetic: few operators, one wait for the device, and no wait for the data."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import mxnet as mx
import pytest
from recipes import TINY
from waiting import PATIENCE_S
from workers import environment

HOOKS = "hooks={ema: {decay: 0.9}, clip_gradients: {max_norm: 1}}"
MOST_OPERATORS = 20


@pytest.fixture
def operators(monkeypatch):
    """A list that grows with every operator that Python launches."""
    launched, invoke = [], mx._ctypes.ndarray._imperative_invoke

    def count(*args):
        launched.append(args[0])
        return invoke(*args)

    for module in list(sys.modules.values()):
        if vars(module).get("_imperative_invoke") is invoke:
            monkeypatch.setattr(module, "_imperative_invoke", count)
    return launched


@pytest.mark.fast
def test_operators_are_counted(operators):
    x = mx.nd.ones((2, 2))
    before = len(operators)
    (x + 1).sum().sqrt()
    assert len(operators) == before + 3


@pytest.mark.parametrize("name", ["ema", "clip_gradients"])
def test_a_hook_launches_few_operators_however_many_parameters_there_are(start, operators, name):
    run = start("model=mobilenet_v3_small", "data.image_size=32", HOOKS, "duration=3it")
    assert len([p for p in run.state.net.collect_params().values() if p.grad_req != "null"]) >= 100
    hook = run.hooks.recipe[["ema", "clip_gradients"].index(name)]
    moment = {"ema": "batch_end", "clip_gradients": "before_update"}[name]
    call, numbers = getattr(hook, moment), []

    def counted(state):
        before = len(operators)
        call(state)
        numbers.append(len(operators) - before)

    setattr(hook, moment, counted)
    run.train()
    assert len(numbers) == 3 and min(numbers) > 0 and max(numbers) <= MOST_OPERATORS, numbers


CODE = """
    import json, sys
    from pathlib import Path
    import mxnet as mx
    from gluon_effnets.train import loop
    from gluon_effnets.train.build import build
    from gluon_effnets.train.config import load_recipe
    from gluon_effnets.train.dist import Workers
    from gluon_effnets.train.hooks import Hook

    waits, updates = [], {}

    def counted(name, function):
        def call(*args, **options):
            waits.append(name)
            return function(*args, **options)
        return call

    for name in ("asnumpy", "wait_to_read"):  # asscalar is the first of these
        setattr(mx.nd.NDArray, name, counted(name, getattr(mx.nd.NDArray, name)))
    mx.nd.waitall = counted("waitall", mx.nd.waitall)

    class Waits(Hook):
        def batch_end(self, state):
            self.of.append(list(waits))
            waits.clear()

    for precision in ("float32", "bfloat16"):  # mixed precision changes MXNet for the rest of the process
        recipe = load_recipe(sys.argv[1], [f"precision={precision}", *sys.argv[3:]])
        state, task, hooks = build(recipe, Path(sys.argv[2]) / precision, Workers())
        assert state.precision.scales_loss == (precision == "bfloat16")
        counter = Waits()
        counter.of = updates[precision] = []
        state.out.mkdir()
        loop.train(state, task, [*hooks[:-1], counter, hooks.checkpoint])
    print("SEEN" + json.dumps(updates))
"""


def test_an_update_waits_for_the_device_once(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    settings = [HOOKS, "data.source=synthetic:128", "duration=12it", "evaluate_every=12it", "checkpoint_every=12it"]
    command = [sys.executable, "-c", textwrap.dedent(CODE), str(tmp_path / "tiny.yaml"), str(tmp_path), *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment())
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("SEEN"))
    updates = json.loads(line[4:])
    # Before the first one the run is made ready; after the tenth there is a line in the log.
    in_float32, in_bfloat16 = (updates[name][1:] for name in ("float32", "bfloat16"))
    assert in_bfloat16 == [["asnumpy"]] * 11, "for the overflow, and with it for all that is logged"
    logged = in_float32.pop(8)
    assert in_float32 == [["waitall"]] * 10
    assert logged[0] == "waitall" and set(logged[1:]) == {"wait_to_read"}, "of arrays that are at rest then"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_next_batch_is_requested_between_the_exchange_and_the_update(start, monkeypatch, accumulate):
    run, events = start(f"accumulate={accumulate}", "data.source=synthetic:48", "duration=1ep"), []

    def noted(owner, name, event):
        call = getattr(owner, name)

        def note(*args, **options):
            events.append(event)
            return call(*args, **options)

        monkeypatch.setattr(owner, name, note)

    train_batches = run.state.data.train_batches

    def batches(*args):
        for batch in train_batches(*args):
            events.append("batch")
            yield batch

    monkeypatch.setattr(run.state.data, "train_batches", batches)
    noted(run.task, "step", "step")
    noted(run.state.trainer, "allreduce_grads", "exchange")
    noted(run.state.trainer, "update", "update")
    run.train()
    steps = ["step", *["batch", "step"] * (accumulate - 1)]
    num = 6 // accumulate
    middle = [*steps, "exchange", "batch", "update"]
    assert events == ["batch", *middle * (num - 1), *steps, "exchange", "update"]
