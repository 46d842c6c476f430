"""Throughput: time lands in the phase that spends it, rates see what starves, projections follow their formula."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from workers import horovodrun, needs_horovod

from gluon_effnets import get_model, list_models, model_info, native
from gluon_effnets.__main__ import main
from gluon_effnets.benchmarks import throughput
from gluon_effnets.benchmarks.projection import project, projection_table
from gluon_effnets.benchmarks.throughput import benchmark_data, benchmark_train
from gluon_effnets.benchmarks.throughput_tables import throughput_tables
from gluon_effnets.models import small_model
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.hooks import HOOKS, Hook

ROOT = Path(__file__).parents[2]
NAP = 0.25  # seconds; far above what an update of the tiny network takes
STEPS, WARMUP, ROUNDS = 2, 1, 1
WAYS = {"training", "one batch", "data", "with waits", *(["MXNet's"] if native.load() else [])}
SIZES = {"steps": STEPS, "warmup": WARMUP, "rounds": ROUNDS}


def napping(moment):
    """A hook that sleeps at one moment, and counts its updates."""

    class Napping(Hook):
        updates = 0

        def batch_end(self, state):
            type(self).updates += 1

    inherited = getattr(Napping, moment)

    def nap(self, *args):
        time.sleep(NAP)
        return inherited(self, *args)

    setattr(Napping, moment, nap)
    return Napping


def measure(recipe_file, *overrides, **options):
    recipe = load_recipe(recipe_file, ["model=plain_tiny", *overrides])
    return benchmark_train(recipe, with_torch=False, **{**SIZES, **options})


@pytest.mark.parametrize(
    ("moment", "phase"), [("batch_begin", "forward"), ("before_update", "update"), ("batch_end", "update")]
)
def test_time_lands_in_its_phase(recipe_file, monkeypatch, moment, phase):
    hook = napping(moment)
    monkeypatch.setitem(HOOKS, "nap", hook)
    result = measure(recipe_file, "hooks={nap: {}}")
    phases = result["phases"]
    assert list(phases) == ["data", "forward", "backward", "update"], "one worker communicates nothing"
    assert phases[phase]["ms"] >= 1e3 * NAP
    assert phases[phase]["share"] > 0.5
    assert phases[phase]["cpu_ms"] < 1e3 * NAP / 2, "sleep takes no processor time"
    assert sum(part["share"] for part in phases.values()) == pytest.approx(1)
    whole = len(WAYS - {"data"})
    # One more update reads nothing ahead, and is not measured.
    assert hook.updates == whole * ROUNDS * (WARMUP + STEPS + 1), "all ways but the data alone are whole updates"


def test_phases_are_timed_over_accumulated_batches(recipe_file, monkeypatch):
    monkeypatch.setitem(HOOKS, "nap", napping("batch_begin"))
    result = measure(recipe_file, "hooks={nap: {}}", "accumulate=2", steps=1)
    assert result["phases"]["forward"]["ms"] >= 2e3 * NAP
    # 8 images per batch, two batches and two naps per update.
    assert result["rates"]["training"]["images_per_s"] < 8 / NAP


def test_starving_data_show_in_phases_and_rates(recipe_file, monkeypatch):
    class SlowData:
        def __init__(self, data):
            self.data, self.description = data, "slow"

        def train_batches(self, epoch, first_step=0):
            for batch in self.data.train_batches(epoch):
                time.sleep(NAP)
                yield batch

    def build(*args):
        state, task, hooks = throughput_build(*args)
        state.data = SlowData(state.data)
        return state, task, hooks

    throughput_build = throughput.build
    monkeypatch.setattr(throughput, "build", build)
    result = measure(recipe_file)
    rates = {name: rate["images_per_s"] for name, rate in result["rates"].items()}
    assert result["phases"]["data"]["ms"] >= 1e3 * NAP
    assert result["phases"]["data"]["share"] > 0.5
    assert rates["data"] < 8 / NAP
    assert rates["training"] < 8 / NAP
    assert rates["one batch"] > 2 * rates["training"]
    assert result["rates"]["data"]["cpu_ms_per_image"] < 1e3 * NAP / 8 / 2


def test_volume_is_that_of_the_gradients(recipe_file):
    recipe = load_recipe(recipe_file, ["data.classes=7"])
    result = benchmark_train(recipe, with_torch=False, **SIZES)
    net = get_model("idle_tiny", classes=7)
    params = [param for param in net.collect_params().values() if param.grad_req != "null"]
    assert result["communication"] == {
        "arrays": len(params),
        "bytes_per_update": 4 * sum(int(np.prod(param.shape)) for param in params),
    }


def test_projection_follows_the_ring():
    # 2 * 63 / 64 * 20 MB = 39.375 MB = 315 Mbit: 31.5 ms at 10 Gbit/s, 3.15 ms at 100.
    slow, fast = project(20_000_000, 63.0, workers=64, gigabits=(10, 100))
    assert slow["exchange_ms"] == pytest.approx(31.5)
    assert slow["no_overlap"] == pytest.approx(2 / 3)
    assert slow["full_overlap"] == 1
    assert fast["exchange_ms"] == pytest.approx(3.15)
    assert fast["no_overlap"] == pytest.approx(63 / 66.15)
    (network_bound,) = project(20_000_000, 6.3, workers=64, gigabits=(10,))
    assert network_bound["full_overlap"] == pytest.approx(0.2)
    (late,) = project(20_000_000, 63.0, workers=64, gigabits=(10,), latency_us=50)
    assert late["exchange_ms"] == pytest.approx(31.5 + 126 * 0.05)
    (alone,) = project(20_000_000, 63.0, workers=1, gigabits=(10,))
    assert alone["no_overlap"] == 1
    assert projection_table([slow]).splitlines()[-1] == "| 64 | 10 | 63 | 31.5 | 66.7% ... 100.0% |"


@pytest.mark.parametrize("wrong", [{"compute_ms": 0.0}, {"workers": 0}, {"gigabits": (10, 0)}, {"latency_us": -1.0}])
def test_impossible_projections_are_refused(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        project(**{"num_bytes": 1, "compute_ms": 1.0, **wrong})


def test_nothing_to_measure_is_refused(recipe_file):
    with pytest.raises(ValueError, match="rounds=0"):
        measure(recipe_file, rounds=0)
    with pytest.raises(ValueError, match="steps=0"):
        benchmark_data(load_recipe(recipe_file).data, steps=0)


SMALL = ("--image-size", "16", "--batch", "4", "--steps", "1", "--rounds", "1")


def test_command_train_prints_and_writes(tmp_path, capsys):
    path = tmp_path / "train.json"
    words = ["idle_tiny", *SMALL, "--no-torch", "--project", "50", "--json", str(path)]
    assert main(["benchmark", "train", *words]) == 0
    printed = capsys.readouterr().out
    (result,) = json.loads(path.read_text())
    assert set(result["rates"]) == WAYS
    assert all(rate["images_per_s"] > 0 for rate in result["rates"].values())
    assert [row["gbit_per_s"] for row in result["projection"]] == [10, 25, 100]
    assert "1000 classes" in result["data"]
    assert printed == throughput_tables(result) + "\n\n"
    assert f"{result['communication']['bytes_per_update'] / 1e6:.2f} MB per update" in printed
    assert "Projection, not measured" in printed


def test_command_data_compares_threads(tmp_path, capsys):
    path = tmp_path / "data.json"
    assert main(["benchmark", "data", *SMALL, "--threads", "1", "2", "--json", str(path)]) == 0
    (result,) = json.loads(path.read_text())
    assert list(result["rates"]) == ["1 thread(s)", "2 thread(s)"]
    assert capsys.readouterr().out == throughput_tables(result) + "\n"


def test_torch_asked_for_and_missing_is_told(recipe_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "gluon_effnets.benchmarks.torch_reference", raising=False)
    recipe = load_recipe(recipe_file)
    with pytest.raises(ImportError, match=r"-m pip install 'torch>=1\.10'"):
        benchmark_train(recipe, with_torch=True, **SIZES)
    assert "PyTorch" not in benchmark_train(recipe, **SIZES)["rates"]


@pytest.mark.dist
@needs_horovod
def test_two_workers_measure_their_communication(tmp_path):
    path = tmp_path / "two.json"
    words = ["idle_tiny", *SMALL, "--hvd", "--json", path]
    done = horovodrun("-m", "gluon_effnets", "benchmark", "train", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(path.read_text())
    assert list(result["phases"]) == ["data", "forward", "backward", "waiting", "communication", "update"]
    communication = result["communication"]
    assert result["workers"] == 2
    assert communication["ms"] == result["phases"]["communication"]["ms"] > 0
    # Of two workers each sends its volume once.
    sent = 8 * communication["bytes_per_update"] / (communication["ms"] * 1e-3) / 1e9
    assert communication["gbit_per_s"] == pytest.approx(sent)
    assert "PyTorch" not in result["rates"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("idle_mbv3_small", {"order": "alternate"}),
        ("idle_mbv3_small_maximum", {"idle_residual": False, "idle_fraction": 0.25}),
        ("idle_efficientnet_b0", {}),
        ("idle_mbv3_small", {"shuffle": True, "bn_epsilon": 1e-2}),
        ("mobilenet_v3_large", {"stem_stride": 1}),
        ("efficientnet_b0", {"bn_epsilon": 1e-3, "padding": "same", "drop_connect": 0.2}),
        ("mobilenet_v2_x1_0", {}),
        ("mobilenet_v1_x0_25", {}),
        ("mobilenext_x1_0", {}),
        ("mobilenext_x1_0", {"identity_divisor": 6, "shortcut": "mask", "blocks": "paper"}),
        ("mobilenext_l", {"identity_divisor": 2, "padding": "same", "drop_connect": 0.2}),
        ("shufflenet_v1_g3_x1_0", {}),
        ("shufflenet_v1_g8_x0_5", {"shuffle": "paper", "drop_connect": 0.2}),
        ("shufflenet_v1_g4_x0_5", {"shuffle": "none", "stem_pool": False, "stem_stride": 1}),
        ("shufflenet_v1_se_g3_x2_0", {}),
        ("shufflenet_v2_x1_0", {}),
        ("shufflenet_v2_x0_5", {"definition": "torchvision"}),
    ],
)
def test_torch_network_gives_our_logits(name, options):
    torch = pytest.importorskip("torch")
    from gluon_effnets.benchmarks.torch_reference import with_weights

    ours = get_model(name, classes=10, dropout=0.0, **options)
    mx.random.seed(0)
    ours.initialize()
    random = np.random.RandomState(0)
    for param in ours.collect_params().values():
        if param.name.endswith(("gamma", "beta", "bias", "running_mean", "running_var")):
            param.set_data(mx.nd.array(random.uniform(0.5, 1.5, param.shape)))
    other = with_weights(ours)
    x = random.standard_normal((2, 3, 64, 64)).astype(np.float32)
    expected = ours(mx.nd.array(x)).asnumpy()
    with torch.no_grad():
        seen = other(torch.from_numpy(x)).numpy()
    assert np.abs(expected).max() > 1e-3
    assert np.abs(seen - expected).max() < 1e-4 * np.abs(expected).max()


def test_torch_is_measured_beside(recipe_file):
    pytest.importorskip("torch")
    result = benchmark_train(load_recipe(recipe_file), with_torch=True, **SIZES)
    assert {"PyTorch", "PyTorch channels_last"} < set(result["rates"])
    for phases in result["torch_phases"].values():
        assert list(phases) == ["forward", "backward", "update"]
        assert all(phase["ms"] > 0 for phase in phases.values())
    assert "| PyTorch channels_last |" in throughput_tables(result)


# Families without a counterpart in PyTorch, with the block that has none.
WITHOUT_TORCH = {
    "alexnet": "AlexNet",
    "condensenet": "CondenseNet",
    "condensenetv2": "CondenseNet",
    "darts": "DartsNet",
    "dsnet": "SlimmableMobileNet",
    "sfr_shufflenetv2": "SparseFeatureReactivation",
    "structure_units": "ResidualUnit",
}


REPRESENTATIVES = [name for name in list_models() if model_info(name).representative]


@pytest.mark.parametrize("name", [n for n in REPRESENTATIVES if model_info(n).family not in WITHOUT_TORCH])
def test_torch_trains_every_family(name):
    torch = pytest.importorskip("torch")
    from gluon_effnets.benchmarks.torch_reference import TorchTraining

    training = TorchTraining(get_model(name, classes=10), 2, 64, channels_last=True)
    before = [param.detach().clone() for param in training.net.parameters()]
    training.step()
    assert training.x.is_contiguous(memory_format=torch.channels_last)
    for param, old in zip(training.net.parameters(), before):
        assert torch.isfinite(param).all() and not torch.equal(param, old)


def test_torch_drops_branches_of_whole_samples():
    torch = pytest.importorskip("torch")
    from gluon_effnets.benchmarks.torch_reference import torch_like

    ours = get_model("efficientnet_b0", drop_connect=0.5, dropout=0.25)
    layers = [layer for layer in torch_like(ours).modules() if not list(layer.children())]
    rates = [layer.rate for layer in layers if hasattr(layer, "rate")]
    # Only blocks with a shortcut have a branch to drop: 9 of 16. The rate rises linearly with their number.
    assert rates == pytest.approx([0.5 * number / 16 for number in (2, 4, 6, 7, 9, 10, 12, 13, 14)])
    assert [layer.p for layer in layers if isinstance(layer, torch.nn.Dropout)] == [0.25]
    drop = next(layer for layer in layers if getattr(layer, "rate", 0) > 0.3).train()
    y = drop(torch.ones(1000, 2, 3, 3))
    per_sample = y.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    assert sorted(per_sample[:, 0].unique().tolist()) == pytest.approx([0, 1 / (1 - drop.rate)])
    assert y.mean().item() == pytest.approx(1, abs=0.15)
    assert torch.equal(drop.eval()(y), y)


@pytest.mark.parametrize(
    ("name", "block"),
    [("plain_tiny", "PlainNet"), *((small_model(family), block) for family, block in WITHOUT_TORCH.items())],
)
def test_torch_refuses_networks_without_counterpart(name, block):
    pytest.importorskip("torch")
    from gluon_effnets.benchmarks.torch_reference import torch_like

    with pytest.raises(ValueError, match=f"no PyTorch beside {block}:"):
        torch_like(get_model(name))


def test_a_network_without_counterpart_is_measured_alone(recipe_file):
    pytest.importorskip("torch")
    recipe = load_recipe(recipe_file, ["model=plain_tiny"])
    assert set(benchmark_train(recipe, **SIZES)["rates"]) == WAYS
    with pytest.raises(ValueError, match="no PyTorch beside PlainNet"):
        benchmark_train(recipe, with_torch=True, **SIZES)
