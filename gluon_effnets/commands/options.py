"""Options that several commands have."""

from __future__ import annotations

import argparse
import math
import time
from typing import Any, Callable, Dict, Sequence

from ..files.text import shortened, shown
from ..files.yaml_text import parse_yaml
from ..tables import FORMATS

__all__ = [
    "DATA_KINDS",
    "EXPORTED",
    "clock",
    "clock_option",
    "condensing_options",
    "data_options",
    "network_options",
    "read_options",
    "table_format",
    "trust_option",
    "weights_help",
]

EXPORTED = (".json", ".onnx", ".so")  # endings of the files of exports

DATA_KINDS = (
    "recordio:DIR, folder:DIR, cifar10:DIR, digits or synthetic; "
    "for detectors voc:DIR, coco:DIR, detrec:DIR or scattered_digits"
)


def weights_help(text: str) -> str:
    """The help of an argument that `weights_path` understands."""
    return f"{text}, or the word pretrained for published weights (see the command weights)."


def trust_option(parser: argparse.ArgumentParser) -> None:
    """Add --trust-library."""
    text = "Load what runs code: the library of TVM, or the graph with foreign operators, that EXPORTED.json names."
    parser.add_argument("--trust-library", action="store_true", help=text)


def network_options(parser: argparse.ArgumentParser) -> None:
    """Add --option; `read_options(args.option)` gives its values."""
    text = "An option of the network's constructor, e.g. bn_epsilon=1e-3; it may be repeated."
    parser.add_argument("--option", "-o", action="append", default=[], metavar="NAME=VALUE", help=text)


def read_options(pairs: Sequence[str]) -> Dict[str, Any]:
    """Turn ['bn_epsilon=1e-3', ...] into constructor options; values are read as YAML.

    Raises ValueError for a text without '='.
    """
    options = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator:
            raise ValueError(f"--option {shortened(pair)} is not of the form name=value")
        value = parse_yaml(text, f"--option {shown(pair)}")
        try:
            # YAML 1.1 takes 1e-3 for a text.
            number = float(value) if isinstance(value, str) else value
        except ValueError:
            number = value
        # "nan" and "infinity" are texts.
        options[key] = value if isinstance(number, float) and not math.isfinite(number) else number
    return options


def condensing_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that turn a pruned CondenseNet into its inference form."""
    parser.add_argument("--condense", action="store_true", help="Write the inference form of a pruned CondenseNet.")
    parser.add_argument(
        "--condense-classifier",
        action="store_true",
        help="Write that form with half of the classifier's inputs, as CondenseNet's authors do.",
    )


def settings_option(parser: argparse.ArgumentParser, text: str, key: str = "KEY") -> None:
    """Add --set, whose values are `args.overrides`; `text` begins its help."""
    text = f"{text}; it may be repeated."
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar=f"{key}=VALUE", help=text)


def data_options(parser: argparse.ArgumentParser, required: bool = True, use: str = "The data set") -> None:
    """Add --data and --set; `use` begins the help of --data."""
    parser.add_argument("--data", required=required, metavar="KIND[:PATH]", help=f"{use}: {DATA_KINDS}.")
    settings_option(parser, "A setting of the data, e.g. data.image_size=32", "data.KEY")


def table_format(
    parser: argparse.ArgumentParser,
    choices: Sequence[str] = FORMATS,
    exact: str = "numbers are not rounded in csv and json",
) -> None:
    """Add --format, by default the first of `choices`; `exact` says what CSV and JSON have besides."""
    text = f"How to write the table (default: {choices[0]}); {exact}."
    parser.add_argument("--format", choices=choices, default=choices[0], help=text)


def clock_option(parser: argparse.ArgumentParser) -> None:
    """Add --processor-time; `clock(args)` is what it chooses."""
    text = "Count the processor's time, which other processes disturb less; set OMP_NUM_THREADS=1."
    parser.add_argument("--processor-time", action="store_true", help=text)


def clock(args: argparse.Namespace) -> Callable[[], float]:
    """The clock that --processor-time chooses."""
    return time.process_time if args.processor_time else time.perf_counter
