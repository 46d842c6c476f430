"""The inference graph of a network, and copies that leave the network alone."""

from __future__ import annotations

import mxnet as mx

from ...nn.variants import inference_variants

__all__ = ["inference_copy", "inference_graph"]


def inference_graph(net) -> mx.sym.Symbol:
    """The graph of a network from `data` to its outputs, in float32 also where mixed precision is on."""
    with inference_variants():
        symbol = net(mx.sym.var("data", dtype="float32"))
    return mx.sym.load_json(symbol.tojson(remove_amp_cast=True))


def inference_copy(net) -> mx.gluon.SymbolBlock:
    """A copy of a network's graph and weights on the CPU; the network itself stays as it is."""
    block = mx.gluon.SymbolBlock(inference_graph(net), mx.sym.var("data", dtype="float32"))
    arrays = {name: param.data() for name, param in net.collect_params().items()}
    for name, param in block.collect_params().items():
        param._load_init(arrays[name].as_in_context(mx.cpu()), mx.cpu())
    return block
