"""The commands `plot reuse`, `plot routes` and `plot field`: pictures of networks and their weights."""

from __future__ import annotations

import argparse

from .. import get_model
from .command import Command, Group
from .options import data_options, network_options, read_options, table_format

__all__ = ["COMMANDS"]


def add_reuse_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plot reuse`."""
    parser.add_argument("name", help="The model, a CondenseNet.")
    parser.add_argument("weights", help="The .params file of the trained or the condensed network.")
    parser.add_argument("out", help="The PNG file to write.")
    parser.add_argument(
        "--normalize",
        choices=("column", "none"),
        default="column",
        help="Scale each target layer to 0..1 (column, the default) or leave the values.",
    )
    parser.add_argument("--layer", type=int, metavar="N", help="Draw the weights of this dense layer (from 1) instead.")
    network_options(parser)


def run_reuse(args: argparse.Namespace) -> None:
    """Draw the map, or one layer."""
    from ..evaluate.feature_reuse import draw_layer, draw_reuse, early_feature_share

    net = get_model(args.name, pretrained=args.weights, classes=None, **read_options(args.option))
    if args.layer is None:
        draw_reuse(net, args.out, args.normalize, title=args.name)
    else:
        draw_layer(net, args.out, args.layer, title=f"{args.name}, layer {args.layer}")
    early = early_feature_share(net)
    shares = f"{early.share:.2%} of the weights (all inputs used alike: {early.uniform:.2%})"
    print(f"{args.out}\nearly-feature share: {shares}")


def add_routes_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plot routes`."""
    parser.add_argument("name", help="The model, a slimmable network with gates.")
    parser.add_argument("weights", help="Its .params file.")
    parser.add_argument("out", help="How the names of the PNG files begin; there is one per route.")
    data_options(parser)
    parser.add_argument(
        "--images", type=int, default=48, metavar="N", help="Number of images per picture (default: 48)."
    )
    network_options(parser)


def run_routes(args: argparse.Namespace) -> None:
    """Draw a picture per route."""
    from ..evaluate.routes import draw_routes

    settings = {"images": args.images, "overrides": args.overrides, "options": read_options(args.option)}
    for route in draw_routes(args.name, args.weights, args.data, args.out, **settings):
        print(f"{route.picture}: {route.title}")


def add_field_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plot field`."""
    parser.add_argument("name", help="The model, of MBBlocks and IdleBlocks, such as idle_mbv3.")
    parser.add_argument("out", help="The PNG file to write.")
    parser.add_argument("--weights", metavar="FILE", help="Trained weights (default: random ones).")
    parser.add_argument(
        "--orders",
        nargs="+",
        choices=("left", "right", "alternate"),
        metavar="ORDER",
        help="Compare these orders of the active sides of IdleBlocks (default, without --weights: left alternate).",
    )
    parser.add_argument("--image-size", type=int, metavar="N", help="Side of the images (default: the model's).")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="Random images (default: 8).")
    network_options(parser)
    table_format(parser)


def run_field(args: argparse.Namespace) -> None:
    """Draw what channels can see and do see, and print the former."""
    from ..evaluate.receptive_field import compare_orders, draw_fields, field_table

    options = read_options(args.option)
    nets, size = compare_orders(args.name, args.orders, args.weights, args.image_size, args.images, options)
    draw_fields(nets, args.out, size)
    print(field_table([net[:2] for net in nets]).written(args.format))


COMMANDS = Group(
    "plot",
    "Draw pictures of networks and trained weights.",
    (
        Command(
            "reuse",
            "Draw which earlier features the layers of a CondenseNet read.",
            add_reuse_arguments,
            run_reuse,
        ),
        Command(
            "routes",
            "Draw evaluation images by the width that the gates choose for them.",
            add_routes_arguments,
            run_routes,
        ),
        Command(
            "field",
            "Draw what the channels of a network with IdleBlocks can see of an image, and do see.",
            add_field_arguments,
            run_field,
        ),
    ),
)
