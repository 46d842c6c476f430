"""Graphs for MXNet that strangers wrote: what ended the process, or ran, is refused; what we export is not."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest

from gluon_effnets.deploy import condense, export, export_routed, export_subnet, initialize_like_trained, load_exported
from gluon_effnets.files.symbol_file import check_graph, load_symbol
from gluon_effnets.models import families, get_model, small_model
from gluon_effnets.models.condensenet import CondenseNet
from gluon_effnets.models.slimmable import SlimmableNet


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    net = get_model("idle_tiny", classes=3)
    initialize_like_trained(net)
    return export(net, tmp_path_factory.mktemp("graph") / "net", 32)


@pytest.fixture
def graph(written):
    return json.loads(written.symbol.read_text())


def first(graph, op):
    return next(node for node in graph["nodes"] if node["op"] == op)


def number(graph, op):
    return next(number for number, node in enumerate(graph["nodes"]) if node["op"] == op)


def native(graph):
    node = first(graph, "Convolution")
    node.update(op="_Native", attrs={"info": "0xdeadbeef", "need_top_grad": "True"})


def custom(graph):
    first(graph, "Convolution").update(op="Custom", attrs={"op_type": "mine"})


def later(graph):
    first(graph, "Convolution")["inputs"][0][0] = len(graph["nodes"]) - 1


def itself(graph):
    place = number(graph, "Convolution")
    graph["nodes"][place]["inputs"][0][0] = place


def far(graph):
    first(graph, "Convolution")["inputs"][0][0] = 10**9


def second_output(graph):
    graph["nodes"][number(graph, "FullyConnected")]["inputs"][0][1] = 7


def head(graph):
    graph["heads"] = [[len(graph["nodes"]), 0, 0]]


def no_stride(graph):
    first(graph, "Convolution")["attrs"]["stride"] = "(0, 0)"


def no_group(graph):
    first(graph, "Convolution")["attrs"]["num_group"] = "0"


def one_input(graph):
    del first(graph, "Convolution")["inputs"][1:]


def subgraph(graph):
    first(graph, "Convolution")["subgraphs"] = [copy.deepcopy(graph)]


def fused_of_nothing(graph):
    node = first(graph, "Convolution")
    node.update(op="_sg_mkldnn_conv", attrs={"with_bn": "true"})
    node["subgraphs"] = [{"nodes": [], "arg_nodes": [], "heads": []}]


def other_variables(graph):
    graph["arg_nodes"] = []


def initializer(graph):
    next(node for node in graph["nodes"] if node["op"] == "null")["attrs"] = {"__init__": '["load", {"param": "x"}]'}


def foreign_types(graph):
    graph["nodes"][3]["inputs"] = {"a": 1}


def no_nodes(graph):
    graph["nodes"] = 5


def bytes_in_a_name(graph):
    graph["nodes"][0]["name"] = "a\0b"


def put(folder, written, graph):
    """An export with another graph, whose maker gives no digests."""
    for path in (*written.files, written.description):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "net-symbol.json").write_text(json.dumps(graph))
    about = json.loads(written.description.read_text())
    about.pop("sha256", None)
    (folder / "net.json").write_text(json.dumps(about))


CHANGES = (
    *(native, custom, later, itself, far, second_output, head, no_stride, no_group, one_input, subgraph),
    *(fused_of_nothing, other_variables, initializer, foreign_types, no_nodes, bytes_in_a_name),
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_no_export_has_is_refused(change, graph, tmp_path):
    change(graph)
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(graph))
    with pytest.raises(ValueError, match="^[^\n]*net-symbol.json is (refused|no graph)[^\n]*$"):
        load_symbol(path)


def test_predict_says_so_in_a_process_of_its_own(graph, written, tmp_path):
    """A pointer in a text was a segmentation fault."""
    native(graph)
    put(tmp_path, written, graph)
    command = [sys.executable, "-m", "gluon_effnets", "predict", str(tmp_path / "net.json"), "none.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "'_Native', which no export of this package has" in done.stderr and "--trust-library" in done.stderr


def test_with_trust_other_operators_load(graph, written, tmp_path):
    first(graph, "Convolution")["attrs"]["workspace"] = "512"
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(graph))
    with pytest.raises(ValueError, match="setting 'workspace'"):
        load_exported(path, written.params)
    assert load_exported(path, written.params, trust=True)


def test_a_graph_that_fills_the_memory_is_refused(graph, written, tmp_path):
    from gluon_effnets.deploy import open_exported

    nodes = graph["nodes"]
    place = number(graph, "Convolution")
    doubled = [
        {"op": "Concat", "name": f"bomb{i}", "attrs": {"dim": "0", "num_args": "2"}, "inputs": [[i, 0, 0], [i, 0, 0]]}
        for i in range(len(nodes) - 1, len(nodes) + 39)
    ]
    assert place and nodes[-1]["op"] != "null"
    graph.update(nodes=nodes + doubled, heads=[[len(nodes) + 39, 0, 0]], node_row_ptr=[])
    put(tmp_path, written, graph)
    with pytest.raises(ValueError, match="net-symbol.json (needs arrays of more than|is no graph for images)"):
        open_exported(tmp_path / "net.json")


def graphs_of(name, folder):
    """The graph files of all exports of a network."""
    net = get_model(name, classes=4)
    initialize_like_trained(net)
    nets = [net, condense(net)] if isinstance(net, CondenseNet) else [net]
    for place, each in enumerate(nets):
        export(each, folder / f"plain{place}", 64)
        export(each, folder / f"whole{place}", 64, fold=False, raw_input=True)
    if isinstance(net, CondenseNet) or (name.startswith("shufflenet")):
        export(nets[-1], folder / "aligned", 64, align=True)
    if isinstance(net, SlimmableNet):
        export_subnet(net, 0, folder / "subnet", 64)
        if len(net.gates) == 1:
            export_routed(net, folder / "routed", 64)
    return sorted(folder.glob("*-symbol.json"))


@pytest.mark.slow
@pytest.mark.parametrize("family", families())
def test_the_operators_of_every_family_are_known(family, tmp_path):
    """Of all that an export can write: slow, since each is loaded and compared."""
    for path in graphs_of(small_model(family), tmp_path):
        assert load_symbol(path).list_outputs()


@pytest.mark.parametrize("name", ["mobilenet_v2_x0_35", "shufflenet_v2_x0_5", "condensenet_tiny"])
def test_the_operators_of_8_bits_are_known(name, tmp_path, monkeypatch):
    from gluon_effnets.deploy import answers

    monkeypatch.setattr(answers, "UNUSABLE", 1e9)  # operators are asked for, not numbers
    net = get_model(name, classes=4)
    initialize_like_trained(net)
    images = [np.random.RandomState(0).standard_normal((8, net.in_channels, 32, 32)).astype(np.float32)]
    path = export(net, tmp_path / "net", 32, int8=images).symbol
    operators = {node["op"] for node in json.loads(path.read_text())["nodes"]}
    assert "_sg_mkldnn_conv" in operators and load_symbol(path).list_outputs()


def test_nothing_but_what_was_checked_reaches_mxnet(graph):
    graph["nodes"][0]["inputs"] = []
    written = check_graph(copy.deepcopy(graph))
    assert written.keys() == {"nodes", "arg_nodes", "heads", "attrs"}
    assert [node["op"] for node in written["nodes"]] == [node["op"] for node in graph["nodes"]]
