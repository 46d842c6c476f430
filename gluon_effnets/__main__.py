"""The command line: python -m gluon_effnets list | info | table | train | validate | predict | convert | export ..."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from typing import Any, List, Optional, Sequence, Tuple

from . import __version__, _resources, get_model, list_models, model_info
from .commands import add_benchmarks, add_export, add_native, add_tvm, condensing_options, network_options, read_options
from .commands.reader import reader_left
from .complexity import RULES, condensed_options, count


def _table(rows: List[Tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _list(args) -> None:
    rows = [("model", "params", "MAdds", "family", "recipes")]
    any_condensed = False
    for name in list_models(args.pattern, family=args.family):
        info = model_info(name)
        params = f"{info.params / 1e6:.2f} M" if info.params else ""
        madds = f"{info.madds / 1e6:.1f} M" if info.madds else ""
        condensed = _resources.results("computed").get(name, {}).get("condensed")
        if condensed:
            any_condensed = True
            params += f" ({condensed['params'] / 1e6:.2f} M)"
            madds += f" ({condensed['madds'] / 1e6:.1f} M)"
        rows.append((name, params, madds, info.family, " ".join(info.recipes)))
    if len(rows) == 1:
        raise ValueError(f"no model matches {args.pattern!r}; python -m gluon_effnets list shows all")
    print(_table(rows) + ("\n(in brackets: condensed, as it is deployed)" if any_condensed else ""))


def _info(args) -> None:
    info = model_info(args.name)
    net = get_model(info.name, classes=args.classes, **read_options(args.option))
    size = args.image_size or info.input_size
    rows = [("model", info.name), ("", info.summary), ("paper", info.paper)]
    if info.reconstruction:
        rows.append(("reconstruction", info.reconstruction))
    if info.aliases:
        rows.append(("also called", ", ".join(info.aliases)))
    rows += _costs(net, size)
    form = condensed_options(net)
    if form:
        rows.append(("deployed", f"after the pruning, with {', '.join(form)}:"))
        rows += _costs(get_model(info.name, classes=args.classes, **{**read_options(args.option), **form}), size)
    rows += [
        (f"stage {i}", f"{stage.channels} channels, stride {stage.stride}") for i, stage in enumerate(net.stage_info, 1)
    ]
    rows.append(("features", f"{net.num_features}, {net.num_classes} classes"))
    preprocessing = f"RGB 0..255, mean {info.mean}, std {info.std}, {info.interpolation}, crop {info.crop}"
    rows.append(("evaluation", preprocessing))
    rows += [("published", f"{row['what']}: {row['value']} ({row['source']})") for row in info.published]
    rows += [("recipe", name) for name in info.recipes] or [("recipe", "none of its own")]
    print(_table(rows))


def _costs(net, size: int) -> List[Tuple[str, str]]:
    costs = {rule: count(net, size, rule) for rule in RULES}
    rows = [("parameters", f"{costs['conv_fc'].params:,}")]
    return rows + [("MAdds", f"{costs[rule].madds:,} at {size} x {size} ({rule}: {RULES[rule]})") for rule in RULES]


def _paper_table(args) -> None:
    from .paper_tables import computed_rows, paper_tables

    for table in paper_tables(args.paper, args.number):
        print(f"{table.paper}, table {table.number}: {table.title}\n{_table(computed_rows(table))}")
        print(f"{table.note}\n" if table.note else "", flush=True)


def _train(arguments: Sequence[str]) -> int:
    from .train.run import main as train

    return train(arguments)


def _benchmark_train(arguments: Sequence[str]) -> None:
    from .commands.throughput import add_train_arguments, run_train

    run_train(
        _parse("benchmark train", "images/s of training, and where the time goes", add_train_arguments, arguments)
    )


def _benchmark_data(arguments: Sequence[str]) -> None:
    from .commands.throughput import add_data_arguments, run_data

    run_data(_parse("benchmark data", "images/s of the data without a network", add_data_arguments, arguments))


def _parse(command: str, text: str, add_arguments, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m gluon_effnets {command}", description=text)
    add_arguments(parser)
    return parser.parse_args(arguments)


def _validate(args) -> None:
    from .evaluate.validate import validate

    scores = validate(args.name, args.weights, args.data, args.overrides, read_options(args.option), args.widths)
    digits = {"mean_madds": 0, "loss": 4}
    as_numbers = {key: f"{scores.pop(key):,.{digits[key]}f}" for key in digits if key in scores}
    print(_table([(key, f"{value:.3%}") for key, value in scores.items()] + list(as_numbers.items())))
    published = [row for row in model_info(args.name).published if "top-1" in row["what"]]
    for row in published:
        print(f"published: {row['what']} {row['value']} ({row['source']})")


def _predict(args) -> int:
    from .deploy.description import read_names
    from .evaluate.predict import Classifier, ExportedClassifier, best, find_images

    if args.model.endswith((".json", ".onnx", ".so")):
        if args.option:
            raise ValueError("--option is for weights; an exported network is as it was exported")
        images, classifier = args.paths, ExportedClassifier(args.model, args.image_size)
    else:
        weights, *images = args.paths
        if not images:
            raise ValueError("no images: give NAME WEIGHTS IMAGE..., or EXPORTED.json IMAGE...")
        classifier = Classifier(args.model, weights, args.image_size, **read_options(args.option))
    names = read_names(args.names, classifier.num_classes) if args.names else classifier.names
    failed = False
    for path, found in classifier.batches(find_images(images), args.batch):
        if isinstance(found, OSError):
            print(f"error: {found}", file=sys.stderr, flush=True)
            failed = True
            continue
        rows = [(f"  {p:7.2%}", str(index), names[index] if names else "") for index, p in best(found, args.top)]
        print(f"{path}\n{_table(rows)}", flush=True)
    return int(failed)


def _quantize(args) -> None:
    from .evaluate.int8_accuracy import quantized_table
    from .evaluate.validate import validate_in_8_bits

    files = dict(pair.partition("=")[::2] for pair in args.networks)
    rows = validate_in_8_bits(files, args.data, args.overrides, args.images, args.mode, args.runtimes)
    print(quantized_table(rows))


def _convert(args) -> None:
    from .weights import convert

    settings = {key: getattr(args, key) for key in ("ema", "source", "condense", "condense_classifier")}
    print(convert(args.model, args.checkpoint, args.out, **settings, **read_options(args.option)))


def _plot_reuse(args) -> None:
    from .evaluate.feature_reuse import draw_layer, draw_reuse, early_feature_share

    net = get_model(args.name, pretrained=args.weights, classes=None, **read_options(args.option))
    if args.layer is None:
        draw_reuse(net, args.out, args.normalize, title=args.name)
    else:
        draw_layer(net, args.out, args.layer, title=f"{args.name}, layer {args.layer}")
    early = early_feature_share(net)
    shares = f"{early.share:.2%} of the weights (all inputs used alike: {early.uniform:.2%})"
    print(f"{args.out}\nearly-feature share: {shares}")


def _plot_routes(args) -> None:
    from .evaluate.routes import draw_routes

    settings = {"images": args.images, "overrides": args.overrides, "options": read_options(args.option)}
    for route in draw_routes(args.name, args.weights, args.data, args.out, **settings):
        print(f"{route.picture}: {route.title}")


def _widths(text: str) -> Any:
    """A word, or '0,3,largest' as a list."""
    names = [int(part) if part.isdigit() else part for part in text.split(",")]
    return text if names == [text] and text != "largest" else names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gluon_effnets", description=__doc__.split(":")[0])
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, function, text, parent=commands):
        added = parent.add_parser(name, help=text, description=text)
        added.set_defaults(function=function)
        return added

    def data_settings(added):
        added.add_argument("--set", dest="overrides", action="append", default=[], metavar="data.KEY=VALUE",
                           help="setting of the data, e.g. data.image_size=32 (may be repeated)")  # fmt: skip

    added = command("list", _list, "the models, with parameters, multiply-adds and recipes")
    added.add_argument("pattern", nargs="?", default="*", help="wildcard, e.g. 'idle_*'")
    added.add_argument("--family")

    added = command("info", _info, "all about one model")
    added.add_argument("name")
    added.add_argument("--image-size", type=int)
    added.add_argument("--classes", type=int, help="default: that of the model")
    network_options(added)

    added = command("table", _paper_table, "the tables of a paper: what was printed beside what is computed here")
    added.add_argument("paper", help="shufflenet")
    added.add_argument("--number", type=int, help="one table only")

    command("train", None, "train by a recipe; as train_imagenet.py, with its arguments")

    added = command("validate", _validate, "accuracy of weights on the evaluation images of a data set")
    added.add_argument("name")
    added.add_argument("weights", help=".params file")
    added.add_argument("--data", required=True, metavar="KIND[:PATH]", help="as in train_imagenet.py")
    data_settings(added)
    added.add_argument("--widths", type=_widths, metavar="all|ends|dynamic|0,3,...",
                       help="of a slimmable network: accuracy per width, or of the routed network")  # fmt: skip
    network_options(added)

    added = command("predict", _predict, "the likeliest classes of image files, by weights or an exported network")
    added.usage = f"{added.prog} [options] (NAME WEIGHTS | EXPORTED.json) IMAGE|FOLDER ..."
    added.add_argument("model", metavar="NAME WEIGHTS | EXPORTED.json",
                       help="a model and its .params file, or the JSON file that export or tvm wrote")  # fmt: skip
    added.add_argument("paths", nargs="+", metavar="IMAGE|FOLDER", help="JPEG, PNG, BMP or WebP files, or folders")
    added.add_argument("--batch", type=int, default=1, metavar="N", help="images at once (default: 1)")
    added.add_argument("--top", type=int, default=5, metavar="N", help="classes to show (default: 5)")
    added.add_argument("--names", metavar="FILE", help="names of the classes, one per line")
    added.add_argument("--image-size", type=int, help="default: that of the model")
    network_options(added)

    text = "accuracy and agreement of trained networks before and after 8-bit quantization"
    added = command("quantize", _quantize, text)
    added.add_argument("networks", nargs="+", metavar="NAME=WEIGHTS")
    added.add_argument("--data", required=True, metavar="KIND[:PATH]")
    added.add_argument("--set", dest="overrides", action="append", default=[], metavar="data.KEY=VALUE")
    added.add_argument("--images", type=int, default=256, help="for the calibration")
    added.add_argument("--mode", choices=("naive", "entropy"), default="naive", help="of MXNet's ranges")
    added.add_argument("--runtimes", nargs="+", choices=("mxnet", "onnxruntime"), help="default: those installed")

    added = command("convert", _convert, "official checkpoint (.pth, .pth.tar, .safetensors, .params) to .params")
    added.add_argument("--model", required=True)
    added.add_argument("checkpoint", help="with --condense also a .params file of this package")
    added.add_argument("out")
    added.add_argument("--ema", action="store_true", help="take the averaged weights of the checkpoint")
    added.add_argument("--source", help="the definition, where the keys do not tell, e.g. timm_tf")
    condensing_options(added)
    network_options(added)

    add_export(command)
    add_tvm(command)
    add_native(command)

    what = command("plot", None, "pictures of trained weights").add_subparsers(required=True, metavar="WHAT")
    added = command("reuse", _plot_reuse, "which earlier features the layers of a CondenseNet read", what)
    added.add_argument("name")
    added.add_argument("weights", help=".params file of the trained or the condensed network")
    added.add_argument("out", help="PNG file")
    added.add_argument("--normalize", choices=("column", "none"), default="column", help="scale of each target layer")
    added.add_argument("--layer", type=int, metavar="N", help="the weights of this dense layer (from 1) instead")
    network_options(added)

    added = command("routes", _plot_routes, "evaluation images by the width that the gates choose for them", what)
    added.add_argument("name")
    added.add_argument("weights", help=".params file")
    added.add_argument("out", help="prefix of the PNG files, one per route")
    added.add_argument("--data", required=True, metavar="KIND[:PATH]", help="as in train_imagenet.py")
    added.add_argument("--images", type=int, default=48, metavar="N", help="per picture (default: 48)")
    data_settings(added)
    network_options(added)

    what = command("benchmark", None, "measurements on this machine").add_subparsers(required=True, metavar="WHAT")
    command("train", None, "images/s of training, and where the time goes", what)
    command("data", None, "images/s of the data without a network", what)
    add_benchmarks(functools.partial(command, parent=what))
    return parser


# These bring their own arguments, and import the trainer only when they are called.
_OWN_ARGUMENTS = {("train",): _train, ("benchmark", "train"): _benchmark_train, ("benchmark", "data"): _benchmark_data}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command; return the exit code. Users' mistakes are one message, not a trace."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        for words, function in _OWN_ARGUMENTS.items():
            if tuple(argv[: len(words)]) == words:
                return function(argv[len(words) :]) or 0
        args = _parser().parse_args(argv)
        return args.function(args) or 0
    except (ValueError, TypeError, OSError, ImportError) as error:
        if not reader_left():
            print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        reader_left()


if __name__ == "__main__":
    sys.exit(main())
