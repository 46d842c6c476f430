"""The values that claims are about, found anew: costs counted, tests named, runs compared.

A check is a mapping with one of these kinds:

    cost     what (params, madds), model [, options, rule, condensed, width]: a number in millions
    change   the same of `model` against `base`, in %
    test     name: a test of this repository that shows the behavior
    seeds    group, this, other [, key, file]: the paired difference of runs with equal seeds in results/trained.json;
             file experiments/NAME without a group: in what `experiment NAME --collect` wrote
    latency  model, base, runtime [, threads, batch]: how many times as fast model is, paired, in results/latency/
    result   file, where, key: a number that stands in results/<file>.json

`from` and `to` are the range of numbers that show the claim.
"""

from __future__ import annotations

import functools
import json
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional

from .. import _resources
from ..complexity import Complexity, condensed_options, count
from ..intervals import paired_difference
from ..models import get_model, model_info
from ..timing import speedup

__all__ = ["Finding", "find"]

_LEAST_SEEDS = 3


class Finding(NamedTuple):
    """What a check found: `measured` as it is written, and the verdict that follows from it.

    Attributes:
        measured: What was found, as it is written.
        verdict: That follows from it.
    """

    measured: str
    verdict: str


def find(check: Mapping[str, Any], anew: bool = False) -> Finding:
    """Find the value of a check.

    Args:
        check: One of the kinds above.
        anew: Whether to count costs on the networks, even where results/computed.json has them.

    Raises:
        ValueError: It asks for what is not there.
    """
    return _KINDS[check["kind"]](check, anew)


def _judged(value: float, written: str, check: Mapping[str, Any]) -> Finding:
    return Finding(written, "shown" if check["from"] <= value <= check["to"] else "refuted")


def _cost(check: Mapping[str, Any], anew: bool) -> Finding:
    value = _counted(check, check["model"], anew) / 1e6
    return _judged(value, f"{value:.4g} M", check)


def _change(check: Mapping[str, Any], anew: bool) -> Finding:
    value = 100 * (_counted(check, check["model"], anew) / _counted(check, check["base"], anew) - 1)
    return _judged(value, f"{value:+.1f} %", check)


def _counted(check: Mapping[str, Any], model: str, anew: bool) -> int:
    """Parameters or multiply-adds of the network, or of one width, or as it is deployed."""
    what, rule = check["what"], check.get("rule", "conv_fc")
    info, options = model_info(model), check.get("options", {})
    stored: Dict[str, Any] = _resources.results("computed").get(model, {})
    key = {"conv_fc": "madds", "conv_fc_relu_pool": "madds_conv_fc_relu_pool", info.family: "madds_by_authors"}
    if "width" in check:
        stored = stored.get("widths", [{}] * (check["width"] + 1))[check["width"]]
    elif check.get("condensed"):
        stored = stored.get("condensed", {})
    wanted = "params" if what == "params" else key.get(rule, "")
    if not anew and not options and wanted in stored:
        return stored[wanted]
    return getattr(_count(model, json.dumps(options), bool(check.get("condensed")), check.get("width"), rule), what)


@functools.lru_cache(maxsize=None)
def _count(model: str, options: str, condensed: bool, width: Optional[int], rule: str) -> Complexity:
    net = get_model(model, **json.loads(options))
    if condensed:
        net = get_model(model, **json.loads(options), **condensed_options(net))
    return count(net if width is None else net.subnet(width), model_info(model).input_size, rule)


def _test(check: Mapping[str, Any], anew: bool) -> Finding:
    """A test that is there; whether it passes is what the whole suite says."""
    path, _, name = check["name"].partition("::")
    file = _resources.folder("results").parent / path
    if file.is_file() and f"\ndef {name}(" not in file.read_text(encoding="utf-8"):
        raise ValueError(f"there is no test {check['name']}")
    return Finding("a test of the suite", "shown")


def _seeds(check: Mapping[str, Any], anew: bool) -> Finding:
    file = check.get("file", "trained")
    key = check.get("key", "score" if file.startswith("experiments/") else "top1")
    rows = [row for row in _resources.results(file).get("rows", []) if row.get("group") == check.get("group")]
    runs = [
        {row["seed"]: _part(row, key) for row in rows if row["comparison"] == check[name]} for name in ("this", "other")
    ]
    seeds = sorted(runs[0].keys() & runs[1].keys())
    if not seeds:
        return Finding("no runs yet", "open")
    found = paired_difference(*([run[seed] for seed in seeds] for run in runs))
    if len(seeds) < _LEAST_SEEDS:
        return Finding(f"{found.mean:+.2f} points with {_number(seeds)}", "not shown: noise")
    written = f"{found.mean:+.2f} points ({found.low:+.2f} to {found.high:+.2f}), {_number(seeds)}"
    if found.has_zero:
        return Finding(written, "not shown: noise")
    return Finding(written, "direction shown" if found.mean > 0 else "opposite direction")


def _latency(check: Mapping[str, Any], anew: bool) -> Finding:
    """The last run of each processor in which both were measured in turn; a lead that all of them show."""
    wanted = {"threads": 1, "batch": 1, **{key: check[key] for key in ("runtime", "threads", "batch") if key in check}}
    found = {}
    for path in sorted((_resources.folder("results") / "latency").glob("*.json")):
        for run in _resources.results(f"latency/{path.stem}")["runs"]:
            rows = {row["model"]: row for row in run["rows"] if wanted.items() <= row.items() and "ms" in row}
            if check["model"] in rows and check["base"] in rows:
                found[path.stem] = speedup(*(rows[check[name]]["ms"] for name in ("model", "base")))
    if not found:
        return Finding("no paired times yet", "open")
    written = "; ".join(f"{lead.over(check['base'])} on {processor}" for processor, lead in found.items())
    shown = all(lead.is_shown and lead.ratio > 1 for lead in found.values())
    return Finding(
        written,
        "shown" if shown else "refuted" if all(lead.is_shown for lead in found.values()) else "not shown: noise",
    )


def _part(row: Mapping[str, Any], key: str) -> float:
    """What stands in a row at `a.b`: the value b of its mapping a."""
    value: Any = row
    for part in key.split("."):
        value = value[part]
    return value


def _number(seeds) -> str:
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def _result(check: Mapping[str, Any], anew: bool) -> Finding:
    content = _resources.results(check["file"])
    rows = content.get(check.get("list", "rows"), [])
    found = [row for row in rows if check["where"].items() <= row.items()]
    if len(found) != 1:
        raise ValueError(f"results/{check['file']}.json has {len(found)} rows with {check['where']}")
    value = _part(found[0], check["key"])
    return _judged(value, f"{value:g}{check.get('unit', '')}", check)


_KINDS: Dict[str, Callable[[Mapping[str, Any], bool], Finding]] = {
    "cost": _cost,
    "change": _change,
    "test": _test,
    "seeds": _seeds,
    "latency": _latency,
    "result": _result,
}
