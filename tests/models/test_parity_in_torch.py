"""In PyTorch's arithmetic our graphs give the official logits to 1e-5 of their deviation over the classes.

MXNet and PyTorch round differently, by up to 3e-3 in these ill-conditioned networks; here the same arithmetic runs on
both sides, so nothing has to be allowed for. Needs torch, which is not part of the set-up.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install '.[torch]')")

import detrand  # noqa: E402
import references  # noqa: E402
import torch_graph  # noqa: E402
from references import OF_LIBRARIES, OF_MOBILENEXT, deviation  # noqa: E402

from gluon_effnets import get_model  # noqa: E402
from gluon_effnets.weights import load_official  # noqa: E402

# timm's h-swish is one fused kernel, which rounds otherwise than the product of two operators.
TOLERANCES = {"timm_mobilenetv3_large_100": 1e-3}
REFERENCES = {**OF_LIBRARIES, **OF_MOBILENEXT}


@pytest.mark.parametrize("name", references.present(REFERENCES))
def test_graph_gives_the_official_logits(name):
    reference, data = REFERENCES[name], references.read(name)
    net = get_model(reference.model, **reference.options)
    load_official(net, references.official(name), "timm_tf" if reference.source == "timm_tf" else None)
    dtype = torch.float64 if data.get("precision") == "float64" else torch.float32
    with torch.no_grad():
        logits = torch_graph.run(net, detrand.images(**data["input"]), dtype)
    assert deviation(logits, np.array(data["logits"])) < TOLERANCES.get(name, 1e-5)
