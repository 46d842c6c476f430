"""Numbers into tables: results/*.json and results/claims/ -> the marked places in README.md and docs/*.md.

    python dev/make_tables.py            write the tables
    python dev/make_tables.py --count    count all networks anew into results/computed*.json first
    python dev/make_tables.py --check    exit 1 if a file would change

A place is marked by <!-- table NAME --> and <!-- end -->; what stands between is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Dict, Sequence

import detection_tables

from gluon_effnets import get_model, list_models, model_info, timing
from gluon_effnets.benchmarks.detectors import detectors_table as detectors_latency_table
from gluon_effnets.benchmarks.latency import latency_tables, measured_tables, memory_table
from gluon_effnets.benchmarks.latency.tables import conditions_line, rows_table
from gluon_effnets.benchmarks.profile.tables import machine_line, summary_table
from gluon_effnets.claims import PAPERS, claims_table, read_ledger, score_table
from gluon_effnets.complexity import RULES, condensed_options, count
from gluon_effnets.detection import detector_info, get_detector, list_detectors
from gluon_effnets.files.write import write_text
from gluon_effnets.models import SlimmableNet
from gluon_effnets.tables import Table

ROOT = Path(__file__).resolve().parent.parent
# Many networks of one paper; the table of all models leaves them to that paper's page.
COMPARED_ELSEWHERE = ("condensenet", "shufflenetv1", "structure_units", "mobilenetv1", "alexnet")
PLACE = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def count_all() -> dict:
    """Parameters and multiply-adds of every listed model at its input size.

    Networks with masked layers also as they are deployed, there by the counting rule of their authors, too; slimmable
    networks at every width.
    """
    rows = {}
    for name in list_models():
        info, net = model_info(name), get_model(name)
        size = info.input_size
        cost = count(net, size)
        with_relu = count(net, size, "conv_fc_relu_pool").madds
        rows[name] = {"params": cost.params, "madds": cost.madds, "madds_conv_fc_relu_pool": with_relu}
        form = condensed_options(net)
        if form:
            condensed = get_model(name, **form)
            cost = count(condensed, size)
            rows[name]["condensed"] = {"params": cost.params, "madds": cost.madds}
            if info.family in RULES:
                rows[name]["condensed"]["madds_by_authors"] = count(condensed, size, info.family).madds
        if isinstance(net, SlimmableNet):
            costs = [count(net.subnet(index), size) for index in range(net.num_widths)]
            rows[name]["widths"] = [{"params": cost.params, "madds": cost.madds} for cost in costs]
        rows[name]["image_size"] = size
    return rows


def count_detectors() -> dict:
    """Parameters, multiply-adds and anchors of every detector, at the classes of VOC, of COCO and its own.

    Of a detector with a gate at every width that the gate chooses from.
    """
    rows: Dict[str, list] = {}
    for name in list_detectors():
        rows[name] = []
        for classes in dict.fromkeys((detector_info(name).classes, 20, 80)):
            net = get_detector(name, classes)
            for width in getattr(net, "widths", [None]):
                one = net if width is None else net.at_width(width)
                cost = count(one, net.image_size)
                costs = {"params": cost.params, "madds": cost.madds, "anchors": len(net.anchors)}
                of_width = {} if width is None else {"width": width}
                rows[name].append({"classes": classes, **of_width, **costs, "image_size": net.image_size})
    return rows


def detectors_table() -> str:
    """The detectors at every number of classes that was counted."""
    header = ["detector", "numbers of", "side", "classes", "computed params", "computed MAdds", "anchors"]
    rows = []
    for name in list_detectors():
        info = detector_info(name)
        for row in info.computed:
            costs = [f"{row['params'] / 1e6:.2f} M", f"{row['madds'] / 1e6:.1f} M", f"{row['anchors']:,}"]
            of_width = f", width {row['width']}" if "width" in row else ""
            rows.append(
                [f"`{name}`{of_width}", info.source or "ours", str(row["image_size"]), str(row["classes"]), *costs]
            )
    return Table(header, rows).markdown()


# What DS-Net's authors publish of FSSD on VOC2007 (arXiv 2103.13258): billions of multiply-adds, mAP.
FSSD_PUBLISHED = {
    "fssd300_mobilenet_v1": ("4.3", "71.9"),
    "fssd300_ds_mobilenet_v1_s": ("2.7", "72.8"),
    "fssd300_ds_mobilenet_v1_m": ("3.2", "73.7"),
}


def fssd_table() -> str:
    """FSSD on MobileNetV1 and on two widths of DS-MBNet, published beside computed."""
    header = ["detector", "published MAdds", "computed MAdds", "published ratio", "computed ratio", "published mAP"]
    computed_madds = {name: detector_info(name).computed[0]["madds"] for name in FSSD_PUBLISHED}
    first, rows = next(iter(FSSD_PUBLISHED)), []
    for name, (madds, accuracy) in FSSD_PUBLISHED.items():
        ratios = (float(FSSD_PUBLISHED[first][0]) / float(madds), computed_madds[first] / computed_madds[name])
        costs = [f"{madds} G", f"{computed_madds[name] / 1e9:.2f} G", *(f"{ratio:.2f}" for ratio in ratios)]
        rows.append([f"`{name}`", *costs, accuracy])
    return Table(header, rows).markdown()


def results(name: str) -> dict:
    """Content of results/<name>.json."""
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


def computed() -> Dict[str, dict]:
    """What results/computed.json says of every listed model; ends with the command to run if one is not counted."""
    counted, listed = results("computed"), list_models()
    missing = [name for name in listed if name not in counted]
    if missing:
        sys.exit(f"{', '.join(missing)}: not in results/computed.json. Count anew: python dev/make_tables.py --count")
    return {name: counted[name] for name in listed}


def models_table(*families: str, without: Sequence[str] = ()) -> str:
    """Published beside computed, a line per model; an empty cell is a number that no source gives.

    Only `families`, if there are any. Accuracies and errors stand as they were printed.
    """
    header = ["model", "params", "MAdds", "published params", "published MAdds", "published top-1"]
    rows = []
    for name, cost in computed().items():
        info = model_info(name)
        if (families and info.family not in families) or info.family in without:
            continue
        label = f"`{name}`" + (" (reconstruction)" if info.reconstruction else "")
        forms = [cost, *([cost["condensed"]] if "condensed" in cost else [])]
        own = [label, _both(forms, "params", ".3f"), _both(forms, "madds", ".2f")]
        errors = ((what, published(name, what)) for what in ("top-1 error", "CIFAR-10 error", "CIFAR-100 error"))
        told = (f"{what.replace('top-1 ', '')} {error}" for what, error in errors if error)
        top1 = ", ".join(text for text in (published(name, "top-1"), *told) if text)
        rows.append([*own, published(name, "parameters"), published(name, "MAdds"), top1])
    return Table(header, rows).markdown()


def published(name: str, what: str) -> str:
    """The published values of a model, as printed."""
    kinds = (what, f"{what} against MobileNetV3", f"{what} against MobileNetV3 at equal MAdds")
    rows = (row for row in results("published")["rows"] if row["model"] == name and not row.get("superseded"))
    found = [row for row in rows if row["what"] in kinds]
    return ", ".join(dict.fromkeys(row["value"] + row["what"][len(what) :] for row in found))


def _both(forms: Sequence[dict], what: str, digits: str) -> str:
    """What is trained and, if that is another network, what is deployed."""
    first, *condensed = (f"{form[what] / 1e6:{digits}} M" for form in forms)
    return first + "".join(f" (condensed {value})" for value in condensed)


def condensed_table(*families: str) -> str:
    """The costs of condensed networks by two counting rules, beside the published ones."""
    counts = {"params": "params", "`conv_fc`": "madds", "by the authors' rule": "madds_by_authors"}
    rows = []
    for name, cost in computed().items():
        if model_info(name).family in families:
            form = cost["condensed"]
            own = [f"{form[key]:,}" for key in counts.values()]
            rows.append(
                [f"`{name}`", f"{cost['params']:,}", *own, published(name, "parameters"), published(name, "MAdds")]
            )
    return Table(["model", "params in training", *counts, "published params", "published MAdds"], rows).markdown()


def widths_table(*families: str) -> str:
    """A line per width of slimmable networks, published beside computed."""
    header = ["model", "width", "params in use", "MAdds", "published MAdds", "published top-1"]
    rows = []
    for name, cost in computed().items():
        if model_info(name).family in families:
            for index, width in enumerate(cost["widths"]):
                at = f"of subnet({index})"
                error = published(name, f"top-1 error {at}")
                top1 = published(name, f"top-1 {at}") or (error and f"error {error}")
                own = [f"{width['params'] / 1e6:.3f} M", f"{width['madds'] / 1e6:.2f} M"]
                rows.append([f"`{name}`", index, *own, published(name, f"MAdds {at}"), top1])
    return Table(header, rows).markdown()


def rules_table() -> str:
    """IdleBlock networks and their baselines by both counting rules."""
    header = ["model", "`conv_fc`", "`conv_fc_relu_pool`"]
    rows = [
        [f"`{name}`", f"{cost['madds'] / 1e6:.2f} M", f"{cost['madds_conv_fc_relu_pool'] / 1e6:.2f} M"]
        for name, cost in computed().items()
        if model_info(name).family in ("idle", "mobilenetv3", "efficientnet")
    ]
    return Table(header, rows).markdown()


def published_table(family: str) -> str:
    """The published numbers of a family, and of MobileNetV3 where that is its baseline, with their sources."""
    families = {"idle": ("mobilenetv3", "idle"), "condensenet": ("condensenet", "condensenetv2")}
    models = {name for name in list_models() if model_info(name).family in families.get(family, (family,))}
    shown = [r for r in results("published")["rows"] if r["model"] in models]
    rows = [[f"`{r['model']}`", r["what"], r["value"], r["source"]] for r in shown]
    return Table(["model", "what", "value", "source"], rows).markdown()


def versions_table(paper: str) -> str:
    """The numbers that differ between the first and the last version of a paper, side by side."""
    published_rows = results("published")["rows"]
    rows = []
    for first in (row for row in published_rows if f"{paper}v1" in row["source"] and row.get("superseded")):
        key = {"model": first["model"], "what": first["what"]}
        last = (row for row in published_rows if key.items() <= row.items() and row["source"].startswith(f"{paper}, "))
        value, source = next((row["value"], row["source"]) for row in last)
        model = f"`{first['model']}`" if first["model"] in list_models() else first["model"]
        rows.append([model, first["what"], first["value"], value, first["source"], source])
    return Table(["", "what", "v1", "v2", "source of v1", "source of v2"], rows).markdown()


def trained_table() -> str:
    """What was trained with this code, with the command that did it; a line for all seeds of one command."""
    header = ["model", "data", "recipe", "top-1", "seed", "command"]
    groups: Dict[tuple, list] = {}
    for row in results("trained")["rows"]:
        if "group" not in row:
            command = re.sub(r"\bseed=\d+", "seed=N", row["command"])
            groups.setdefault((f"`{row['model']}`", row["data"], row["recipe"], f"`{command}`"), []).append(row)
    rows = []
    for (model, data, recipe, command), runs in groups.items():
        scores = sorted(row["top1"] for row in runs)
        between = f"{scores[0]:.2f} to {scores[-1]:.2f} %, mean {sum(scores) / len(scores):.2f} %"
        seeds = ", ".join(str(row["seed"]) for row in runs)
        rows.append([model, data, recipe, between if len(runs) > 1 else f"{scores[0]:.2f} %", seeds, command])
    return Table(header, rows).markdown()


def evidence_table(group: str) -> str:
    """The runs of dev/small_scale_evidence.py, a line per network, a column per seed."""
    runs = [row for row in results("trained")["rows"] if row.get("group") == group]
    seeds = sorted({row["seed"] for row in runs})
    timed = any("images_per_s" in row for row in runs)
    rows = []
    for name in dict.fromkeys(row["comparison"] for row in runs):
        of_name = {row["seed"]: row for row in runs if row["comparison"] == name}
        first = next(iter(of_name.values()))
        options = "".join(f", `{key}={value!r}`" for key, value in first["options"].items())
        scores = [f"{of_name[seed]['top1']:.2f} %" if seed in of_name else "" for seed in seeds]
        mean = f"{sum(row['top1'] for row in of_name.values()) / len(of_name):.2f} %"
        rates = [", ".join(str(row["images_per_s"]) for row in of_name.values())] if timed else []
        rows.append([name, f"`{first['model']}`{options}", f"{first['madds'] / 1e6:.2f} M", *scores, mean, *rates])
    header = ["", "network", "MAdds", *(f"top-1, seed {seed}" for seed in seeds), "mean"]
    return Table([*header, "images/s"] if timed else header, rows).markdown()


def detection_evidence(group: str) -> str:
    """The runs of dev/detection_evidence.py, if there are some."""
    known = (ROOT / "results" / "trained_detectors.json").is_file()
    return detection_tables.evidence_table(results("trained_detectors") if known else {"rows": []}, group)


def dsnet_evidence_table() -> str:
    """The supernets and gates of dev/small_scale_evidence.py, a line per run.

    Beside the gate's accuracy stands the one of sending every image to the widest candidate, and beside the share of
    easy images among those sent to the slimmest the share among all: what a gate has that learned nothing.
    """
    gate = ["to widths 0, 1, 2, 3", "gate right", "always the widest: right", "easy of those to width 0", "easy of all"]
    header = ["", "seed", "slimmest, widest, largest", "routed", "mean MAdds", *gate]
    rows = []
    for row in (row for row in results("trained")["rows"] if row.get("group") == "dsnet"):
        of_width = row.get("widths_top1", {})
        last = max((key for key in of_width if key != "largest"), key=int, default="")
        scores = ", ".join(f"{of_width[key]:.2f}" for key in ("0", last, "largest") if of_width)
        supernet = f"{scores} %" if scores else "those of IEB, SGS"
        routes = ", ".join(f"{row[f'route_{i}']:.0%}" for i in range(4))
        shares = [row["gate_accuracy"], 1 - row["easy"], row["easy_route_0"] / row["route_0"], row["easy"]]
        cells = [f"{row['top1']:.2f} %", f"{row['mean_madds'] / 1e6:.3f} M", routes]
        rows.append([row["comparison"], row["seed"], supernet, *cells, *(f"{share:.1%}" for share in shares)])
    return Table(header, rows).markdown()


def latency_table() -> str:
    """What `benchmark latency --add-to results/latency` measured, of every processor, the newest file of them first."""
    measured = [json.loads(path.read_text()) for path in sorted((ROOT / "results" / "latency").glob("*.json"))]
    measured.sort(key=lambda one: one["runs"][-1]["conditions"]["date"], reverse=True)
    return measured_tables(measured)


def rows_and_conditions(measured) -> str:
    """A measurement of `benchmark latency --json` without its comparisons."""
    return f"{rows_table(measured)}\n\n{conditions_line(measured['conditions'])}"


def profile_table() -> str:
    """What `benchmark profile --all-families --json results/profile.json` measured."""
    if not (ROOT / "results" / "profile.json").is_file():
        return "(No measurement is part of this version.)"
    measured = results("profile")
    line = f"{machine_line(measured['machine'])}; {measured['conditions']}"
    return f"{summary_table(measured['profiles'])}\n\n{line}"


def worker_faults_table() -> str:
    """What `dev/worker_faults.py --json results/worker_faults.json` measured: a line per phase, a column per fault."""
    found = results("worker_faults")
    seconds = {(row["phase"], row["fault"]): f"{row['s']:.0f}" if row["s"] >= 1 else "< 1" for row in found["rows"]}
    phases, faults = (list(dict.fromkeys(row[key] for row in found["rows"])) for key in ("phase", "fault"))
    names = {"import": "import of the package", "start": "before the first update", "report": "report and export"}
    rows = [[names.get(phase, phase), *(seconds[phase, fault] for fault in faults)] for phase in phases]
    equal, jobs = sum(row["restart_equal"] for row in found["rows"]), len(found["rows"])
    machine = f"{found['processors']} processors ({found['processor']}), load average {found['load_average'][2]:.1f}"
    restarts = f"After {equal} of {jobs} jobs, the same command ended with the checkpoint of a job without a fault."
    line = f"Measured on {found['date']}: {machine}.\n{restarts}"
    return f"{Table(['', *faults], rows).markdown()}\n\n{line}"


def campaign_table() -> str:
    """What `python -m tests.campaign --json results/campaign.json` met: a line per part."""
    found = results("campaign")
    known = {"part", "cases", "refused", "answered", "failures", "seconds"}
    inputs = [row for row in found["rows"] if not row.keys() - known]
    faults = [row for row in found["rows"] if row.keys() - known]
    columns = ("cases", "refused", "answered", "failures")
    told = [[row["part"].replace("_", " "), *(f"{row.get(key, 0):,}" for key in columns)] for row in inputs]
    met = [[row["part"], f"{row['cases']:,}", ", ".join(f"{row[key]} {key}" for key in sorted(row.keys() - known)),
            f"{row['failures']:,}"] for row in faults]  # fmt: skip
    count, failures = (sum(row[key] for row in inputs) for key in ("cases", "failures"))
    number, lost = (sum(row[key] for row in faults) for key in ("cases", "failures"))
    minutes = sum(row["seconds"] for row in found["rows"]) / 60
    machine = f"{found['processors']} processors ({found['processor']}), load average {found['load_average'][2]:.1f}"
    line = (
        f"{count:,} inputs with {failures} failures and {number:,} faults with {lost} failures\n"
        f"in {minutes:.0f} minutes, commit `{found['commit'][:10]}`, {found['date']}: {machine}."
    )
    tables = [
        Table(["inputs", *columns], told).markdown(),
        Table(["work", "cases", "faults", "failures"], met).markdown(),
    ]
    return "\n\n".join([*(table for table, rows in zip(tables, (told, met)) if rows), line])


def weights_table() -> str:
    """Published weights, and what dev/measure_weights.py measured."""
    header = ["weights", "model", "published top-1", "photographs: top-1", "top-5", "same answer", "license", "from"]
    rows = []
    for row in results("weights")["weights"]:
        here, parity = (row["here"] or [{}])[-1], row["parity"]
        measured = [f"{found[key]:.1f} %" if key in found else "" for found, key in
                    ((here, "top1"), (here, "top5"), (parity, "agreement"))]  # fmt: skip
        told = f"{row['published'][0]['top1']} %" if row["published"] else ""
        place = f"`{row['package']}`" if row["package"] else f"[{row['file']}]({row['url']})"
        rows.append([row["name"], f"`{row['model']}`", told, *measured, row["license"], place])
    return Table(header, rows).markdown()


def first_run_table() -> str:
    """What `dev/first_run.py --json results/first_run.json` measured."""
    if not (ROOT / "results" / "first_run.json").is_file():
        return "(No measurement is part of this version.)"
    found = results("first_run")
    rows = [[row["step"], f"`{row['command']}`", row["seconds"], row["since_clone"]] for row in found["rows"]]
    table = Table(["step", "command", ("seconds", ".0f"), ("since the clone", ".0f")], rows).markdown()
    packages = "in pip's cache" if found["pip_cache"] else "downloaded"
    return f"{table}\n\n{timing.conditions_line(found['conditions'])}; packages {packages}."


def claims_of(paper: str) -> str:
    """The claims of a paper in results/claims/."""
    return claims_table(*read_ledger(paper)).markdown()


TABLES = {
    "weights": weights_table,
    "detectors": detectors_table,
    "detectors_latency": lambda: detectors_latency_table(results("detectors_latency")),
    "fssd": fssd_table,
    "evidence_ssdlite": lambda: detection_evidence("ssdlite"),
    "evidence_fssd": lambda: detection_evidence("fssd"),
    "models": lambda: models_table(without=COMPARED_ELSEWHERE),
    "idle": lambda: models_table("idle"),
    "rules": rules_table,
    "mobilenext": lambda: models_table("mobilenext"),
    "published_idle": lambda: published_table("idle"),
    "published_mobilenext": lambda: published_table("mobilenext"),
    "shufflenetv1": lambda: models_table("shufflenetv1"),
    "shufflenet_versions": lambda: versions_table("arXiv 1707.01083"),
    "shufflenetv2": lambda: models_table("shufflenetv2"),
    "shufflenet_compared": lambda: models_table("structure_units", "mobilenetv1", "alexnet"),
    "condensenet": lambda: models_table("condensenet", "condensenetv2"),
    "condensenet_costs": lambda: condensed_table("condensenet", "condensenetv2"),
    "published_condensenet": lambda: published_table("condensenet"),
    "darts": lambda: models_table("darts"),
    "dsnet_widths": lambda: widths_table("dsnet"),
    "evidence_dsnet": dsnet_evidence_table,
    "evidence_condensenet": lambda: evidence_table("condensenet"),
    "trained": trained_table,
    "evidence_fine_tuning": lambda: evidence_table("fine_tuning"),
    "evidence_fine_tuning_lite0": lambda: evidence_table("fine_tuning_lite0"),
    "evidence_idle": lambda: evidence_table("idle"),
    "evidence_precision": lambda: evidence_table("precision"),
    "latency": latency_table,
    "compiled": lambda: latency_tables(results("compiled")),
    "forms": lambda: rows_and_conditions(results("forms")),
    "forms_batch": lambda: rows_and_conditions(results("forms_batch")),
    "memory": lambda: memory_table(results("memory")),
    "profile": profile_table,
    "worker_faults": worker_faults_table,
    "campaign": campaign_table,
    "first_run": first_run_table,
    "claims_score": lambda: score_table(read_ledger()).markdown(),
    **{f"claims_{paper}": partial(claims_of, paper) for paper in PAPERS},
}


def main() -> int:
    """Regenerate the tables; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.count:
        for name, rows in (("computed", count_all()), ("computed_detectors", count_detectors())):
            write_text(ROOT / "results" / f"{name}.json", json.dumps(rows, indent=1) + "\n")
    stale = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        new = PLACE.sub(lambda match: match.group(1) + TABLES[match.group(2)]() + "\n" + match.group(3), text)
        if new != text:
            stale.append(path.name)
            if not args.check:
                write_text(path, new)
    print("\n".join(f"{'stale' if args.check else 'written'}: {name}" for name in stale) or "all tables are up to date")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
