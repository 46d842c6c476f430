"""A process of its own that runs an exported graph in MXNet, so that oneDNN and MXNet tell of every operator.

    DNNL_VERBOSE=1 python -m gluon_effnets.benchmarks.profile.child primitives SYMBOL PARAMS FORM REPEATS N C H W

Both read their settings when they are loaded, which is why this cannot happen in the process that wants to know.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mxnet as mx

from ...deploy.to_mxnet.files import load_exported

RUN, OPERATORS = "gluon_effnets run", "gluon_effnets operators"


def main(what: str, symbol: str, params: str, form: str, repeats: str, *shape: str) -> None:
    """Announce every run, whose primitives oneDNN then tells; with 'operators' print their times by type behind it."""
    block = load_exported(symbol, params, trust=True)
    x = mx.nd.random.uniform(shape=tuple(map(int, shape)))
    backend = "MKLDNN" if form == "mxnet-fused" else None
    block.hybridize(backend=backend, static_alloc=True, static_shape=True)
    for _ in range(3):
        block(x).wait_to_read()
    told = what == "operators"
    if told:
        trace = str(Path(symbol).with_name("trace.json"))  # MXNet writes one in any case
        mx.profiler.set_config(filename=trace, profile_symbolic=True, profile_imperative=True, aggregate_stats=True)
        mx.profiler.set_state("run")
    for _ in range(int(repeats)):
        print(RUN, flush=True)
        block(x).wait_to_read()
        if told:
            operators = json.loads(mx.profiler.dumps(reset=True, format="json"))["Time"]["operator"]
            print(OPERATORS, json.dumps({name: [row["Count"], row["Total"]] for name, row in operators.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
