"""Read the IdleBlock of a paper, count it by hand and by the package, and see what it does to a network.

    python examples/count_a_block.py

The block (arXiv 1911.08609) runs an MBBlock on half of the channels and hands the other half on as it is. By hand, that
is a little more than half of the MBBlock's multiply-adds: expansion and projection have half of their channels, the
depthwise convolution has all of the hidden ones. The picture shows MobileNetV3 with one block after another made idle.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Dict, Sequence

from gluon_effnets.complexity import count, layer_costs
from gluon_effnets.models.idle import idle_net
from gluon_effnets.nn import IdleBlock, MBBlock
from gluon_effnets.pictures import load_pyplot, save_picture
from gluon_effnets.tables import Table

# The rows of MobileNetV3-Large's and -Small's tables that keep their width and stride, and so can be idle.
REPLACEABLE = {"mobilenet_v3_large": (3, 5, 6, 8, 9, 10, 12, 14, 15), "mobilenet_v3_small": (3, 5, 6, 8, 10, 11)}


def by_hand(active: int, hidden: int, kernel: int, side: int) -> Dict[str, int]:
    """Multiply-adds of the three convolutions of an MBBlock on `active` channels, for a map of side x side."""
    pixels = side * side
    return {
        "expansion, 1 x 1": active * hidden * pixels,
        "depthwise": hidden * kernel**2 * pixels,
        "projection, 1 x 1": hidden * active * pixels,
    }


def counted(block, channels: int, side: int) -> Sequence[int]:
    """What the package counts on the graph of a block, convolution by convolution."""
    block.in_channels = channels  # what a network says of its images
    return [layer.madds for layer in layer_costs(block, side)]


def compare(channels: int, hidden: int, kernel: int, side: int) -> Table:
    """Both blocks, by hand beside counted. Ends if they differ."""
    rows, totals = [], []
    blocks = {
        "MBBlock": (channels, MBBlock(channels, hidden, channels, kernel)),
        "IdleBlock": (channels // 2, IdleBlock(channels, hidden, kernel)),
    }
    for name, (active, block) in blocks.items():
        hand = by_hand(active, hidden, kernel, side)
        graph = counted(block, channels, side)
        if list(hand.values()) != list(graph):
            sys.exit(f"{name}: {hand} by hand, {graph} counted")
        rows += [(name, layer, hand[layer], found) for layer, found in zip(hand, graph)]
        totals.append(sum(graph))
        rows.append((name, "together", totals[-1], totals[-1]))
    rows.append(("IdleBlock / MBBlock", "", None, f"{totals[1] / totals[0]:.3f}"))
    return Table(["block", "convolution", ("by hand", ","), ("counted", ",")], rows)


def draw(baseline: str, picture: Path, most: int) -> None:
    """Draw the multiply-adds of a network with more and more of its blocks idle, one or two in place of each."""
    plt = load_pyplot(str(picture))
    figure, axis = plt.subplots(figsize=(7, 4))
    places = REPLACEABLE[baseline][:most]
    for number, label in ((1, "one IdleBlock for each"), (2, "two IdleBlocks for each: deeper, at about equal cost")):
        placements = [dict.fromkeys(places[:end], number) for end in range(len(places) + 1)]
        madds = [count(idle_net(baseline, placement or "none")).madds / 1e6 for placement in placements]
        axis.plot(range(len(madds)), madds, "o-", label=label)
    axis.set(xlabel="blocks replaced, from the input on", ylabel="multiply-adds, millions", title=baseline)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    save_picture(figure, picture)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/count_a_block"), help="Where the picture goes.")
    parser.add_argument("--channels", type=int, default=80, help="Of the block; those of row 8 of MobileNetV3-Large.")
    parser.add_argument("--hidden", type=int, default=200, help="Channels of the depthwise convolution.")
    parser.add_argument("--kernel", type=int, default=3, help="Side of the depthwise kernel.")
    parser.add_argument("--side", type=int, default=14, help="Of the map, in pixels.")
    parser.add_argument("--baseline", choices=sorted(REPLACEABLE), default="mobilenet_v3_large", help="The network.")
    parser.add_argument("--most", type=int, default=9, help="Replace this many blocks at most.")
    args = parser.parse_args(argv)
    print(compare(args.channels, args.hidden, args.kernel, args.side).text())
    draw(args.baseline, args.out / "idle_blocks.png", args.most)
    print(f"\n{args.out / 'idle_blocks.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
