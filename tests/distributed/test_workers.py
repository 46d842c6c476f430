"""Two processes with Horovod: the training of one process with batches twice as large."""

from __future__ import annotations

import itertools
import json
import shutil
import textwrap

import mxnet as mx
import numpy as np
import pytest
from recipes import TINY
from workers import HOROVODRUN, ROOT, horovodrun, needs_horovod

from gluon_effnets.train.batch_statistics import batch_statistics
from gluon_effnets.train.data import open_data

pytestmark = [pytest.mark.dist, needs_horovod]

PLAIN = ["model=plain_tiny", "data.source=synthetic:64"]
EQUAL = {
    "sgd": [*PLAIN, "optimizer={name: sgd, lr: 0.5, options: {momentum: 0.9}}"],
    "clipped": [*PLAIN, "hooks={clip_gradients: {max_norm: 0.05}}", "optimizer={name: sgd, lr: 5}"],
    "accumulated": [*PLAIN, "accumulate=2"],
    "scaled": [*PLAIN, "optimizer.lr_for_batch=16"],
    "adapted": [*PLAIN, "optimizer={name: lb_sgd, lr: 0.01, options: {momentum: 0.9, warmup_strategy: lars}}"],
}
HALVED = [*EQUAL["sgd"], "distributed.compression=fp16"]
ALL = ["data.source=synthetic:80", "hooks={ema: {decay: 0.5}, mixup: {}, cutmix: {}, clip_gradients: {max_norm: 1}}"]
ALL += ["model_options={dropout: 0.3, drop_connect: 0.3}", "data.batch_size=4", "duration=8it"]
AMP = [*PLAIN, "data.batch_size=4", "duration=6it", "precision=bfloat16"]
RECOMPUTED = ["data.batch_size=4", "data.source=synthetic:64", "hooks={recompute_statistics: {duration: 5it}}"]
UNEVEN = ["data.source=synthetic:7", "data.batch_size=2", "hooks={ema: {}}"]

CODE = """
    import json, math, os, sys
    from pathlib import Path
    import numpy as np
    from runs import Killed, after_updates, kill_after
    from gluon_effnets.train import loop
    from gluon_effnets.train.config import load_recipe
    from gluon_effnets.train.dist import start_workers
    from gluon_effnets.train.hooks import EMA, Hook
    from gluon_effnets.train.run import build, resume

    recipe_file, out = sys.argv[1], Path(sys.argv[2])
    equal, halved, everything, recomputed, uneven, amp = map(json.loads, sys.argv[3:])
    import horovod.mxnet as hvd

    init, seen_by_init = hvd.init, {}
    hvd.init = lambda: (seen_by_init.update(os.environ), init())
    workers = start_workers(True)
    exchanged, allreduce = [], workers._hvd.allreduce_

    def count_exchanges(array, *args, **options):
        # Gradients are named by the numbers of their parameters.
        exchanged.extend([options["name"]] if options["name"].isdigit() else [])
        return allreduce(array, *args, **options)

    workers._hvd.allreduce_ = count_exchanges

    class Overflow(Hook):
        # In the third update the second worker's gradients, before they are exchanged, become infinite.

        def train_begin(self, state):
            self.weights, exchange = [], state.trainer.allreduce_grads

            def overflow():
                if state.update == 2 and workers.rank == 1:
                    state.net.output.weight.grad()[:] = math.inf
                exchange()

            state.trainer.allreduce_grads = overflow

        def batch_end(self, state):
            self.weights.append(float(state.net.output.weight.data().sum().asscalar()))

    def train(name, overrides, *more, shared=False, keeps_weights=False, killed_after=0):
        folder = out / name if shared else out / name / str(workers.rank)
        folder.mkdir(parents=True, exist_ok=True)
        recipe = load_recipe(recipe_file, overrides)
        state, task, hooks = build(recipe, folder, workers, extra_hooks=more)
        if shared:
            resume(state, hooks, recipe)
        begun, kept = state.update, {}

        def keep(state):
            # After update 2, saved but not evaluated, and after 3, which is neither.
            when = {2: "saved ", 3: "between "}.get(state.update)
            for key, param in state.net._collect_params_with_prefix().items() if when and keeps_weights else ():
                kept[when + key] = param.data().asnumpy()

        after_updates(hooks, keep)
        kill_after(hooks, killed_after)
        exchanged.clear()
        try:
            loop.train(state, task, hooks)
        except Killed:
            pass
        params = state.net._collect_params_with_prefix()
        arrays = {**kept, **{key: param.data().asnumpy() for key, param in params.items()}}
        for hook in hooks:
            if isinstance(hook, EMA):
                arrays.update({"ema " + key: array.asnumpy() for key, array in hook.average.items()})
        np.savez(out / f"{name}.{workers.rank}.npz", **arrays)
        facts = {"scores": state.scores, "lr": state.base_lr, "begun": begun, "update": state.update}
        facts["exchanges"], facts["cycle_time"] = len(exchanged), seen_by_init.get("HOROVOD_CYCLE_TIME")
        facts["parameters"] = len([p for p in state.net.collect_params().values() if p.grad_req != "null"])
        for hook in more:
            if isinstance(hook, Overflow):
                facts["weights"], facts["scaler"] = hook.weights, vars(state.trainer._amp_loss_scaler)
        (out / f"{name}.{workers.rank}.json").write_text(json.dumps(facts))

    for name, overrides in equal.items():
        train(name, [*overrides, "data.batch_size=4"])
    train("halved", [*halved, "data.batch_size=4"])
    train("all", everything, keeps_weights=True)
    train("recomputed", recomputed)
    train("uneven", uneven)
    train("resumed", everything, shared=True, killed_after=5)
    workers.sum({"barrier": 0.0})
    train("resumed", everything, shared=True)
    # Last, because mixed precision changes MXNet for the rest of the process.
    train("amp", amp, Overflow())
    workers.finish()
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Folder with what both processes ended with."""
    folder = tmp_path_factory.mktemp("dist")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "worker.py").write_text(textwrap.dedent(CODE))
    arguments = map(json.dumps, (EQUAL, HALVED, ALL, RECOMPUTED, UNEVEN, AMP))
    done = horovodrun(folder / "worker.py", folder / "tiny.yaml", folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def weights(out, name, rank):
    return dict(np.load(out / f"{name}.{rank}.npz"))


def facts(out, name, rank):
    return json.loads((out / f"{name}.{rank}.json").read_text())


@pytest.mark.parametrize("name", EQUAL)
def test_two_workers_are_one_with_a_batch_twice_as_large(out, start, name):
    one = start(*EQUAL[name], "data.batch_size=8").train()
    two = weights(out, name, 0)
    assert facts(out, name, 0)["lr"] == pytest.approx(one.state.base_lr)
    assert facts(out, name, 0)["scores"] == pytest.approx(one.state.scores, rel=1e-5)
    for key, value in one.weights().items():
        assert two[key] == pytest.approx(value, abs=1e-6), key
    untrained = start(*EQUAL[name], out="untrained").weights()
    assert max(np.abs(two[key] - untrained[key]).max() for key in two) > 1e-3


@pytest.mark.parametrize("name", [*EQUAL, "halved", "all", "recomputed", "uneven", "resumed", "amp"])
def test_workers_end_equal(out, name):
    first, second = (weights(out, name, rank) for rank in (0, 1))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert (second[key] == value).all() or key.startswith("between"), key
    assert facts(out, name, 0) == facts(out, name, 1)


def test_a_checkpoint_without_evaluation_has_the_mean_statistics(out):
    first, second = (weights(out, "all", rank) for rank in (0, 1))
    names = [key for key in first if key.startswith("saved ") and "running" in key]
    assert names
    assert all((first[name] == second[name]).all() for name in names)
    between = [key for key in first if key.startswith("between ") and "running" in key]
    assert any((first[name] != second[name]).any() for name in between), "between two of them they are of one shard"


def test_recomputed_statistics_are_the_mean_over_the_batches_of_both_workers(out, start):
    run, two = start(*RECOMPUTED), weights(out, "recomputed", 0)
    params = run.state.net._collect_params_with_prefix()
    for key, value in two.items():
        params[key].set_data(mx.nd.array(value))
    batches = []
    for rank in (0, 1):
        data = open_data(run.recipe.data, seed=run.recipe.seed, rank=rank, world=2)
        # Four updates of 8 images are half of an epoch, so that the second one begins.
        batches += [batch.data for batch in itertools.islice(data.train_batches(1), 5)]
    expected = batch_statistics(run.state.net, batches)
    assert expected
    for key, value in expected.items():
        assert two[key] == pytest.approx(value.asnumpy(), rel=1e-5, abs=1e-6), key
    assert facts(out, "recomputed", 0)["scores"]["statistics_images"] == 5 * 4 * 2


def test_the_cycle_time_is_set_before_horovod_starts(out):
    chosen = None if mx.context.num_gpus() else "10"
    assert [facts(out, "sgd", rank)["cycle_time"] for rank in (0, 1)] == [chosen, chosen]


def test_only_the_first_worker_writes(out):
    for name in [*EQUAL, "all"]:
        assert {path.name for path in (out / name / "0").iterdir()} == {"checkpoints", "log.jsonl"}
        assert list((out / name / "1").iterdir()) == []


def test_resume_of_both_workers(out):
    assert facts(out, "resumed", 0)["begun"] == facts(out, "resumed", 1)["begun"] == 4
    whole, again = weights(out, "all", 0), weights(out, "resumed", 0)
    for key, value in again.items():
        assert (whole[key] == value).all(), key


def test_fewer_images_to_evaluate_than_workers(out):
    assert facts(out, "uneven", 0)["scores"]["top1"] in (0, 1)


def test_gradients_are_exchanged_once_per_update(out):
    for name in ("sgd", "accumulated"):
        seen = facts(out, name, 0)
        assert seen["update"] == 4
        assert seen["exchanges"] == 4 * seen["parameters"] > 0, name


def test_compressed_gradients_differ_by_the_rounding_of_float16(out):
    exact, halved = weights(out, "sgd", 0), weights(out, "halved", 0)
    differences = [np.abs(halved[key] - value).max() for key, value in exact.items()]
    assert 0 < max(differences) < 5e-3


def test_an_overflow_on_one_worker_skips_the_update_on_all(out):
    seen = facts(out, "amp", 0)
    changed = [before != after for before, after in zip(seen["weights"], seen["weights"][1:])]
    assert changed == [True, False, True, True, True]
    assert seen["scaler"]["_loss_scale"] == 2.0**15
    assert facts(out, "amp", 1)["scaler"] == seen["scaler"]


@pytest.mark.slow
def test_command_line(tmp_path):
    command = [ROOT / "train_imagenet.py", "--hvd", "--model", "idle_tiny", "--data", "synthetic:16"]
    changes = ["data.image_size=16", "data.batch_size=4", "optimizer.lr_for_batch=4", "duration=2ep"]
    command += ["--out", tmp_path / "run", *(part for change in changes for part in ("--set", change))]
    done = horovodrun(*command, launcher=[str(HOROVODRUN)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "batch     8 = 4 x 2 worker(s) x 1 accumulated" in done.stdout
    assert done.stdout.count("latency, batch 1") == 1, "one worker reports"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["workers"], record["global_batch"], record["lr"]) == (2, 8, 0.04)
    again = horovodrun(*command, processes=1)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "changed since that checkpoint: workers 2 -> 1" in again.stdout
    shutil.rmtree(tmp_path / "run")
    failed = horovodrun(*command, "--set", "optimizer.name=sgdd")
    assert failed.returncode != 0
    assert "unknown optimizer 'sgdd'" in failed.stderr + failed.stdout
