"""The activations of a graph by the names that the compiled operator has for them."""

from __future__ import annotations

import math
from typing import List, Optional, Sequence

from ..graph.nodes import Entry, Node, sorted_nodes

__all__ = ["act_of", "with_swish"]


def with_swish(outputs: Sequence[Entry]) -> List[Node]:
    """The nodes, with x * gate(x) as one of them."""
    nodes = sorted_nodes(outputs)
    for node in nodes:
        if node.op not in ("elemwise_mul", "broadcast_mul"):
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            name = {"sigmoid": "swish", "hard_sigmoid": "hard_swish"}.get(act_of(gate.node) or "")
            if name and gate.node.inputs[0] == x:
                node.op, node.attrs, node.inputs = "Activation", {"act_type": name}, [x]
                break
    return sorted_nodes(outputs)


def act_of(node: Node) -> Optional[str]:
    """The name of an activation, None for other nodes."""
    if node.op == "Activation":
        name = node.attrs.get("act_type", "")
        return name if name in ("relu", "sigmoid", "swish", "hard_swish") else None
    if node.op == "clip":
        return "relu6" if (float(node.get("a_min", -1)), float(node.get("a_max", 0))) == (0, 6) else None
    if node.op == "hard_sigmoid":
        slope, offset = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
        return "hard_sigmoid" if math.isclose(slope, 1 / 6, rel_tol=1e-6) and offset == 0.5 else None
    return node.op if node.op in ("relu", "sigmoid") else None
