"""What stands in ONNX files, and how far answers are apart."""

from __future__ import annotations

import collections

import numpy as np
import onnx

from gluon_effnets.deploy import export


def exported_file(net, prefix, size=64, **form):
    """The content of a written ONNX file, and the export's own report."""
    exported = export(net, prefix, size, format="onnx", **form)
    return onnx.load(str(exported.files[0])), exported


def operators(model):
    return collections.Counter(node.op_type for node in model.graph.node)


def difference(seen, expected):
    return np.abs(seen - expected).max() / expected.std()
