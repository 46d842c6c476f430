"""The commands of `python -m gluon_effnets.runtime`: classes of images, and the care of RecordIO files."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, TextIO, Tuple

import numpy as np

from .files import named, printable

__all__ = ["main"]

_SHOWN = 20


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command of the words `argv`, by default those of this process, and return the exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    words = list(sys.argv[1:] if argv is None else argv)
    prog = "python -m gluon_effnets.runtime"
    parser = _records(f"{prog} records") if words[:1] == ["records"] else _predict(prog)
    try:
        args = parser.parse_args(words[1:] if words[:1] == ["records"] else words)
        return args.run(args)
    except BrokenPipeError:
        # The reader of a pipe has enough; Python would complain once more when it closes its output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError) as error:
        _say(f"error: {error}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _predict(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Show the likeliest classes of image files by an exported network in ONNX Runtime, or what an "
        "exported detector finds on them: class, score, and corners in pixels.",
        epilog=f"{prog} records check|list|repair|pack takes care of RecordIO files.",
    )
    parser.add_argument("model", metavar="NET.onnx|NET.json", help="What export --format onnx wrote.")
    parser.add_argument("paths", nargs="+", metavar="IMAGE|FOLDER", help="Image files, or folders of them.")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="Number of classes to show (default: 5).")
    parser.add_argument(
        "--score", type=float, default=0.3, metavar="S", help="Of a detector: show higher scores only (default: 0.3)."
    )
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="Images that go through together (default: 1)."
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="Threads of ONNX Runtime (default: as OMP_NUM_THREADS)."
    )
    parser.add_argument("--json", action="store_true", help="Print a line of JSON for each image.")
    parser.set_defaults(run=_show)
    return parser


def _say(text: str, file: Optional[TextIO] = None) -> None:
    """Print lines in which files of others may have a say."""
    print(printable(text), file=file or sys.stdout, flush=True)


def _show(args: argparse.Namespace) -> int:
    from .detector import Detector
    from .network import load

    net = load(args.model, args.threads)
    if args.top < 1 or args.batch < 1:
        raise ValueError("--top and --batch must be at least 1")
    if isinstance(net, Detector):
        answers = _answers(net.input, lambda shown: _objects(net, shown, args.score), args)
        rows, lines, key = _object_rows, _object_line, "objects"
    else:
        answers = _answers(lambda path: net.input(path)[0], lambda shown: net.probabilities(np.stack(shown)), args)
        rows, lines, key = (lambda found: _class_rows(net.best(found, args.top))), _class_line, "classes"
    failed = False
    for path, found in answers:
        if isinstance(found, OSError):
            _say(f"error: {found}", sys.stderr)
            failed = True
        elif args.json:
            print(json.dumps({"image": str(path), key: rows(found)}), flush=True)
        else:
            _say("\n".join([named(path), *map(lines, rows(found))]))
    return int(failed)


def _objects(net: Any, shown: Sequence[Tuple[np.ndarray, Tuple[int, int]]], score: float) -> Sequence[Any]:
    inputs, sizes = zip(*shown)
    return net.of_inputs(np.stack(inputs), sizes, score)


def _class_rows(best: Sequence[Tuple[str, float]]) -> List[Dict[str, Any]]:
    return [{"name": name, "probability": probability} for name, probability in best]


def _class_line(row: Dict[str, Any]) -> str:
    return f"  {row['probability']:7.2%}  {named(row['name'])}"


def _object_rows(found: Sequence[Any]) -> List[Dict[str, Any]]:
    return [{"name": each.name, "score": each.score, "box": [round(x, 2) for x in each.box]} for each in found]


def _object_line(row: Dict[str, Any]) -> str:
    return f"  {row['score']:6.3f}  {', '.join(f'{x:.1f}' for x in row['box'])}  {named(row['name'])}"


def _answers(
    shown: Callable[[Path], Any], answer: Callable[[Sequence[Any]], Iterable[Any]], args: argparse.Namespace
) -> Iterator[Tuple[Path, Any]]:
    """Every path with its answer, or with the error if it cannot be read, in order.

    `shown` : what a network is shown of a file. `answer` : to several of these, an answer to each.
    """
    paths, batch = _images(args.paths), args.batch
    for begin in range(0, len(paths), batch):
        part = paths[begin : begin + batch]
        found: List[Any] = []
        for path in part:
            try:
                found.append(shown(path))
            except OSError as error:
                found.append(error)
        readable = [item for item in found if not isinstance(item, OSError)]
        answers = iter(answer(readable) if readable else ())
        yield from ((path, item if isinstance(item, OSError) else next(answers)) for path, item in zip(part, found))


def _images(paths: Sequence[str]) -> List[Path]:
    from .image_files import SUFFIXES, PassedOver, images_below

    found: List[Path] = []
    for path in map(Path, paths):
        if not path.expanduser().is_dir():
            found.append(path)
            continue
        passed_over = PassedOver()
        inside = images_below([str(path.expanduser())], passed_over)
        passed_over.report(path)
        if not inside:
            raise FileNotFoundError(f"no images in {path} (looked for {', '.join(SUFFIXES)})")
        found += inside
    return found


def _records(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Check, list, repair and make RecordIO files.")
    words = parser.add_subparsers(required=True, metavar="check|list|repair|pack")
    decode = "Decode every image, too; else only their headers are read."

    check = words.add_parser("check", help="Say what is damaged in .rec files and their indexes.")
    check.add_argument("files", nargs="+", metavar="FILE.rec")
    check.add_argument("--decode", action="store_true", help=decode)
    check.set_defaults(run=_check)

    listing = words.add_parser("list", help="Print a line for each record: key, byte, labels, image.")
    listing.add_argument("file", metavar="FILE.rec")
    listing.add_argument("--limit", type=int, metavar="N", help="Stop after so many records.")
    listing.set_defaults(run=_list)

    repair = words.add_parser("repair", help="Write all records that can be read into a new file with a new index.")
    repair.add_argument("file", metavar="FILE.rec")
    repair.add_argument("target", metavar="NEW.rec")
    repair.add_argument("--decode", action="store_true", help=decode)
    repair.set_defaults(run=_repair)

    pack = words.add_parser("pack", help="Write a folder with a folder of images per class as a .rec file.")
    pack.add_argument("folder", metavar="FOLDER")
    pack.add_argument("target", metavar="NEW.rec")
    pack.add_argument("--shuffle", type=int, metavar="SEED", help="Put the images in a random order.")
    pack.set_defaults(run=_pack)
    return parser


def _check(args: argparse.Namespace) -> int:
    from .records_check import check

    damaged = False
    for path in args.files:
        report = check(path, args.decode)
        _say(f"{path}: {report.summary}")
        _print_damages(report.damages)
        damaged |= bool(report.damages)
    return int(damaged)


def _print_damages(damages: Sequence[Any]) -> None:
    for damage in damages[:_SHOWN]:
        _say(f"  {damage}")
    if len(damages) > _SHOWN:
        print(f"  and {len(damages) - _SHOWN} more")


def _list(args: argparse.Namespace) -> int:
    from .records_check import rows_of

    print("number\tkey\tbyte\tlabels\timage")
    damaged = False
    for number, key, offset, labels, image in rows_of(args.file, args.limit):
        _say(f"{number}\t{key}\t{offset}\t{labels}\t{image}")
        damaged |= labels == "damaged"
    return int(damaged)


def _repair(args: argparse.Namespace) -> int:
    from .records_check import repair

    report = repair(args.file, args.target, args.decode)
    print(f"{args.target}: {report.records:,} records written; of {args.file} was damaged:" if report.damages else
          f"{args.target}: {report.records:,} records written; nothing was damaged in {args.file}")  # fmt: skip
    _print_damages(report.damages)
    return 0


def _pack(args: argparse.Namespace) -> int:
    from .records_pack import pack_folder

    packed = pack_folder(args.folder, args.target, args.shuffle)
    for text in packed.left_out:
        _say(f"error: {text}", sys.stderr)
    print(f"{args.target}: {packed.records:,} images of {len(packed.names)} classes")
    return int(bool(packed.left_out))
