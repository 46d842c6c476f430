"""get_model, list_models, model_info and the parameter files, as a user of GluonCV's model zoo meets them."""

import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

import gluon_effnets
from gluon_effnets import get_model, list_models, model_info, register_with_gluoncv
from gluon_effnets._gluoncv import import_gluoncv
from gluon_effnets.benchmarks.profile.run import REPRESENTATIVES
from gluon_effnets.models import Deployment, SlimmableNet, families, register_model, small_model
from gluon_effnets.models.registry import _entries

pytestmark = pytest.mark.fast

X = mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, 32, 32)))


def test_names_and_spellings():
    for spelling in ("idle_mbv3", "Idle_MBV3", "idle-mbv3", "idle.mbv3"):
        assert get_model(spelling).info.name == "idle_mbv3"
    assert get_model("mobilenetv3_large").info.name == "mobilenet_v3_large"
    assert get_model("mobilenetv3_small").info.name == "mobilenet_v3_small"


def test_unknown_name_gives_the_nearest_in_three_lines():
    with pytest.raises(ValueError) as caught:
        get_model("idle_mbv4")
    text = str(caught.value)
    assert "unknown model 'idle_mbv4'" in text and "idle_mbv3" in text and len(text.splitlines()) <= 3


def test_list_models_filters():
    everything = list_models()
    assert everything == sorted(everything) and "idle_tiny" not in everything
    assert list_models("idle_*") == list_models(family="idle")
    assert list_models("*small*", exclude="idle*") == ["mobilenet_v3_small"]
    with_recipe = list_models(has_recipe=True)
    assert "idle_mbv3" in with_recipe and sorted(with_recipe + list_models(has_recipe=False)) == everything
    assert list_models("nothing*") == []
    several = list_models(["mobilenet_v3_*", "*_small"], exclude=["idle*", "*_large"])
    assert several == ["mobilenet_v3_small"]
    pretrained = list_models(pretrained=True)
    assert {"efficientnet_lite0", "mobilenet_v2_x1_0"} <= set(pretrained)
    assert sorted(pretrained + list_models(pretrained=False)) == everything
    with pytest.raises(TypeError, match="a wildcard or a list of them"):
        list_models(["idle_*", 3])


@pytest.mark.parametrize("name", list_models())
def test_model_info_is_complete(name):
    info = model_info(name)
    assert info.name == name and info.summary and "arXiv" in info.paper
    assert info.params and info.madds, "not counted yet: python dev/make_tables.py --count"
    lites = {f"efficientnet_lite{number}": size for number, size in enumerate((224, 240, 260, 280, 300))}
    assert info.input_size == lites.get(name, 32 if name.startswith("cifar_") else 224)
    # No text fixes a placement of IdleBlocks.
    assert info.reconstruction or not name.startswith("idle_")


def test_model_functions_take_gluoncvs_arguments(tmp_path):
    from gluon_effnets.models.mobilenetv3 import mobilenet_v3_small

    net = mobilenet_v3_small(pretrained=False, classes=10, ctx=mx.cpu(), root=str(tmp_path))
    assert net.num_classes == 10
    with pytest.raises(FileNotFoundError, match="none of mobilenet_v3_small in the table of published weights"):
        mobilenet_v3_small(pretrained=True, root=str(tmp_path))


def test_gluoncv_knows_our_models_after_one_call():
    gluoncv_get_model, model_zoo = import_gluoncv("model_zoo").get_model, import_gluoncv("model_zoo.model_zoo")
    before = dict(model_zoo._models)
    names = register_with_gluoncv()
    assert names == list_models() and not set(names) & before.keys()  # GluonCV keeps what is its own
    assert register_with_gluoncv() == names  # twice does no harm
    net = gluoncv_get_model("idle_mbv3", pretrained=False, classes=12, ctx=mx.cpu())
    assert net.num_classes == 12 and net.info.name == "idle_mbv3"


@pytest.mark.parametrize("first", ["", "import torch; "])
def test_gluoncv_is_imported_beside_a_newer_pytorch(first, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("__version__ = '2.13.0'\n")
    code = (
        f"{first}import gluon_effnets as g; g.register_with_gluoncv()\n"
        "import gluoncv, torch; from PIL import ImageFile\n"
        "print(torch.__version__, ImageFile.LOAD_TRUNCATED_IMAGES)"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert run.stdout.split() == ["2.13.0", "False"], run.stderr


def test_saved_weights_come_back_with_what_shapes_do_not_show(tmp_path):
    path = str(tmp_path / "w.params")
    net = get_model("idle_mbv3_small", classes=5, stem_stride=1, order="alternate", bn_epsilon=1e-3)
    net.initialize()
    net.save_parameters(path)
    again = get_model("idle_mbv3_small", pretrained=path, classes=None)
    np.testing.assert_array_equal(again(X).asnumpy(), net(X).asnumpy())
    with pytest.raises(ValueError, match=r"bn_epsilon=0.001 \(here 1e-05\)"):
        get_model("idle_mbv3_small", pretrained=path, bn_epsilon=1e-5)
    with pytest.raises(ValueError, match="order='alternate'"):
        get_model("idle_mbv3_small", classes=5, stem_stride=1, bn_epsilon=1e-3).load_parameters(path)


def test_other_class_count_keeps_the_features(tmp_path, caplog):
    path = str(tmp_path / "w.params")
    net = get_model("idle_tiny", classes=5)
    net.initialize()
    net.save_parameters(path)
    again = get_model("idle_tiny", pretrained=path, classes=3)
    assert again(X).shape == (2, 3) and "the classifier is new" in caplog.text
    np.testing.assert_array_equal(again.features(X).asnumpy(), net.features(X).asnumpy())


def test_wrong_files(tmp_path):
    path = tmp_path / "w.params"
    net = get_model("idle_tiny", classes=5)
    net.initialize()
    net.save_parameters(str(path))
    with pytest.raises(ValueError, match="holds the weights of idle_tiny, not of mobilenet_v3_small"):
        get_model("mobilenet_v3_small", pretrained=str(path))
    cut = tmp_path / "cut.params"
    cut.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="cut short"):
        get_model("idle_tiny", pretrained=str(cut))
    with pytest.raises(FileNotFoundError, match="no weights at"):
        net.load_parameters(str(tmp_path / "none.params"))
    mx.nd.save(str(tmp_path / "other.params"), {"a.weight": mx.nd.ones((1,))})
    before = net(X).asnumpy()
    with pytest.raises(ValueError, match="missing: .*unknown: a.weight"):
        net.load_parameters(str(tmp_path / "other.params"))
    np.testing.assert_array_equal(net(X).asnumpy(), before)


def test_plain_gluon_files_still_load(tmp_path):
    """Files without our mark, as Gluon's own save_parameters writes them."""
    net, again = (get_model("idle_tiny", classes=5) for _ in range(2))
    net.initialize()
    mx.gluon.HybridBlock.__mro__[1].save_parameters(net, str(tmp_path / "plain.params"))
    again.load_parameters(str(tmp_path / "plain.params"))
    np.testing.assert_array_equal(again(X).asnumpy(), net(X).asnumpy())


@pytest.mark.parametrize("family", families())
def test_every_family_says_who_stands_for_it(family):
    """Benchmarks, tests and tables take these: a family without them would be left out of all."""
    shown = [name for name in list_models(family=family) if model_info(name).representative]
    assert shown, f"register a network of {family} with representative=True"
    assert model_info(small_model(family)).family == family


def test_the_profile_of_all_families_shows_every_family():
    assert {model_info(form.name).family for form in REPRESENTATIVES} == set(families())


@pytest.mark.parametrize("name", [form.name for form in REPRESENTATIVES if form.width is not None])
def test_only_slimmable_networks_stand_for_their_family_by_a_width(name):
    assert isinstance(get_model(name), SlimmableNet)


def test_pytorch_counterparts_have_a_package_and_a_function():
    for name in list_models():
        counterpart = model_info(name).torch
        assert counterpart is None or counterpart.package in ("torchvision", "timm"), name


def test_declarations_of_a_network(monkeypatch):
    monkeypatch.setattr("gluon_effnets.models.registry._entries", dict(_entries))

    @register_model(family="new", paper="none", representative=[Deployment(aligned=True)], small=True)
    def new_x1_0(**options):
        """A network."""

    assert model_info("new_x1_0").representative == (Deployment(aligned=True),)
    assert small_model("new") == "new_x1_0" and "new" in families()
    with pytest.raises(ValueError, match="new_x1_0 is the small network of the family new already"):

        @register_model(family="new", paper="none", small=True)
        def new_x0_5(**options):
            """Another."""

    with pytest.raises(ValueError, match="no network stands for the family 'newer': register one of it with small=T"):
        small_model("newer")


def test_every_module_of_the_models_is_imported():
    folder = Path(gluon_effnets.models.__file__).parent
    missing = [path.stem for path in folder.glob("[!_]*.py") if f"gluon_effnets.models.{path.stem}" not in sys.modules]
    assert not missing


def test_names_are_registered_once_and_options_checked():
    with pytest.raises(ValueError, match="idle_mbv3 is registered already"):

        @register_model(family="idle", paper="none")
        def idle_mbv3(**options):
            return None

    with pytest.raises(TypeError, match="idle_mbv3: .*'colour'"):
        get_model("idle_mbv3", colour="blue")
    assert gluon_effnets.get_model is get_model
