"""ONNX exports converted for a runtime of phones, run on this machine and compared with ONNX Runtime.

    python dev/phone_runtimes.py mnn NET.onnx ... --out FOLDER [--json FILE]

The package is not needed: any interpreter will do that has numpy, onnxruntime and the wheels of the runtime
(docs/phones.md names them). Files must be exports with `--batch 1`. What cannot be converted is a row with its reason.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

# Of the logits' standard deviation, of the image's side for boxes and of 1 for scores. These runtimes sum in other
# orders and approximate exponentials, so that the bound of an export (2e-5) would be too narrow;
# a wrong layer is off by 1e-1 and more.
TOLERANCE = 1e-3
CONVERSION_S = 600
ROOT = Path(__file__).resolve().parents[1]
ARM_COMPILER = "aarch64-linux-gnu-g++"
Answers = List[np.ndarray]


def main(arguments=None) -> int:
    """Convert, run and compare; return 1 if one file failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runtime", choices=sorted(RUNTIMES))
    parser.add_argument("onnx", nargs="+", metavar="NET.onnx", help="What export --format onnx --batch 1 wrote.")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="The runtime's files are written here.")
    parser.add_argument("--json", metavar="FILE", help="Keep the rows with versions and date in this file.")
    args = parser.parse_args(arguments)
    packages, _, _ = RUNTIMES[args.runtime]
    versions = {name: importlib.metadata.version(name) for name in (*packages, "numpy", "onnxruntime")}
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in map(Path, args.onnx):
        rows.append(row(args.runtime, path, out))
        print(line(rows[-1]), flush=True)
    if args.json:
        about = {
            "runtime": args.runtime,
            "versions": versions,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "date": datetime.date.today().isoformat(),
            "tolerance": TOLERANCE,
            "rows": rows,
        }
        Path(args.json).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return int(any(row["error"] for row in rows))


def row(runtime: str, path: Path, out: Path) -> Dict:
    """What became of one file: sizes in bytes, the largest difference in standard deviations, or the error."""
    result = {"model": path.stem, "onnx_bytes": None, "bytes": None, "difference": None, "error": None}
    _, convert, run = RUNTIMES[runtime]
    try:
        data, expected = question_and_answer(path)
        result["onnx_bytes"] = path.stat().st_size
        files = convert(path.resolve(), out.resolve())
        result["bytes"] = sum(file.stat().st_size for file in files)
        result["difference"] = difference(run(files, data, expected), expected, scales(expected, data.shape[-1]))
        if not result["difference"] <= TOLERANCE:  # also where it is not a number
            result["error"] = f"differs by {result['difference']:.1e} from ONNX Runtime, more than {TOLERANCE}"
    except Exception as error:  # the runtimes' errors have no class in common, and one must not hide the other files
        result["error"] = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
    return result


def line(row: Dict) -> str:
    """A row as one line of text."""
    if row["error"]:
        return f"{row['model']}: {row['error']}"
    return f"{row['model']}: {row['bytes'] / 1e6:.2f} MB (ONNX {row['onnx_bytes'] / 1e6:.2f}), {row['difference']:.1e}"


def question_and_answer(path: Path) -> Tuple[np.ndarray, Answers]:
    """Random input of the file's own shape, and all that ONNX Runtime makes of it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    if not all(isinstance(size, int) for size in given.shape):
        raise ValueError(f"{path} takes any number of images; export it with --batch 1")
    data = np.random.RandomState(0).standard_normal(given.shape).astype(np.float32)
    return data, session.run(None, {given.name: data})


def scales(expected: Answers, side: int) -> List[float]:
    """What a difference is measured in: the logits' standard deviation; of detectors the image's side, and 1."""
    return [float(expected[0].std())] if len(expected) == 1 else [float(side), 1.0]


def difference(answers: Answers, expected: Answers, scales: List[float]) -> float:
    """The largest difference over all outputs, each in its own scale; not a number where an answer is none."""
    if len(answers) != len(expected):
        raise ValueError(f"{len(answers)} outputs, where ONNX Runtime has {len(expected)}")
    worst = 0.0
    for got, wanted, scale in zip(answers, expected, scales):
        if np.size(got) != wanted.size:
            raise ValueError(f"an output has the shape {np.shape(got)}, in ONNX Runtime {wanted.shape}")
        distance = np.abs(np.reshape(got, wanted.shape) - wanted).max() / scale
        worst = max(worst, float(distance)) if np.isfinite(distance) else float("nan")
        if np.isnan(worst):
            break
    return worst


def copied(path: Path, out: Path) -> Path:
    """A copy for the converter: pnnx writes beside the file that it reads, and onnx2tf replaces it."""
    given = out / "given" / path.name
    given.parent.mkdir(exist_ok=True)
    shutil.copyfile(str(path), str(given))
    return given


def called(command: List[str], folder: Path, wanted: List[Path]) -> None:
    """Run a converter in `folder`; its exit code says too little, so that files are looked for, too."""
    for path in wanted:
        path.unlink(missing_ok=True)
    done = subprocess.run(command, cwd=str(folder), capture_output=True, text=True, timeout=CONVERSION_S)
    if done.returncode or not all(path.is_file() for path in wanted):
        said = [text for text in re.split(r"[\r\n]+", done.stdout + done.stderr) if text.strip()]
        marked = [text for text in said if re.search("error|not support|unsupport|fail", text, re.IGNORECASE)]
        raise ValueError((marked or said or [f"the converter ended with {done.returncode}"])[-1].strip())


# -- MNN ---------------------------------------------------------------------------------------------------------------


def convert_mnn(path: Path, out: Path) -> List[Path]:
    """One .mnn file. The wheel's command mnnconvert would install packages with pip and report to a server."""
    target = out / f"{path.stem}.mnn"
    code = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
    arguments = ["-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(target), "--bizCode", "net"]
    called([sys.executable, "-c", code, *arguments], out, [target])
    return [target]


def run_mnn(files: List[Path], data: np.ndarray, expected: Answers) -> Answers:
    """All outputs, in the order of the ONNX file."""
    import MNN

    del expected
    net = MNN.nn.load_module_from_file(str(files[0]), [], [])
    given = MNN.expr.placeholder(list(data.shape), MNN.expr.NCHW)
    given.write(np.ascontiguousarray(data))
    names = net.get_info()["outputNames"]
    got = dict(zip(names, net.onForward([given])))
    order = [name for name in ("logits", "boxes", "scores") if name in got] or list(names)
    return [np.array(MNN.expr.convert(got[name], MNN.expr.NCHW).read()) for name in order]


# -- ncnn --------------------------------------------------------------------------------------------------------------


def convert_ncnn(path: Path, out: Path) -> List[Path]:
    """A .param and a .bin file, whose weights are in 16 bits unless pnnx is told `fp16=0`."""
    # The wheel's Python part imports torch, which ONNX files do not need; the program itself lies beside it.
    program = Path(importlib.metadata.distribution("pnnx").locate_file("pnnx")) / "pnnx"
    named = {kind: out / f"{path.stem}.{kind}" for kind in ("ncnn.param", "ncnn.bin", "pnnx.param", "pnnx.bin")}
    given = copied(path, out)
    options = [f"{kind.replace('.', '')}={target}" for kind, target in named.items()]
    options += [f"pnnxpy={out / path.stem}_pnnx.py", f"pnnxonnx={out / path.stem}.pnnx.onnx"]
    options += [f"ncnnpy={out / path.stem}_ncnn.py", "fp16=0"]
    files = [named["ncnn.param"], named["ncnn.bin"]]
    called([str(program), str(given), *options], out, files)
    return files


def run_ncnn(files: List[Path], data: np.ndarray, expected: Answers) -> Answers:
    """All outputs of the first image: ncnn has no axis of images."""
    import ncnn

    net = ncnn.Net()
    # Exact arithmetic; a phone may use 16 bits.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(files[0])) or net.load_model(str(files[1])):
        raise ValueError(f"ncnn cannot load {files[0]}")
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(np.ascontiguousarray(data[0])).clone())
    answers = []
    for number in range(len(expected)):
        failed, got = extractor.extract(f"out{number}")
        if failed:
            raise ValueError(f"ncnn stopped with code {failed} before output {number}")
        answers.append(np.array(got))
    return answers


# -- LiteRT ------------------------------------------------------------------------------------------------------------


def convert_litert(path: Path, out: Path) -> List[Path]:
    """One .tflite file, NHWC, in float32."""
    target = out / f"{path.stem}_float32.tflite"
    program = Path(sys.executable).with_name("onnx2tf")
    called([str(program), "-i", str(copied(path, out)), "-o", str(out), "-tb", "flatbuffer_direct"], out, [target])
    return [target]


def run_litert(files: List[Path], data: np.ndarray, expected: Answers) -> Answers:
    """All outputs, by their sizes in the order of the ONNX file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(files[0]), num_threads=1)
    interpreter.allocate_tensors()
    [given] = interpreter.get_input_details()
    if list(given["shape"]) != list(data.shape):
        data = data.transpose(0, 2, 3, 1)
    interpreter.set_tensor(given["index"], np.ascontiguousarray(data))
    interpreter.invoke()
    got = [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]
    return sorted(got, key=lambda answer: [wanted.size for wanted in expected].index(answer.size))


# -- TVM, for 64-bit ARM, emulated -------------------------------------------------------------------------------------


def convert_tvm(path: Path, out: Path) -> List[Path]:
    """A library for any 64-bit ARM processor."""
    compiler = module_of(ROOT / "gluon_effnets" / "deploy" / "to_tvm" / "compile.py")
    target = out / f"{path.stem}.aarch64.so"
    compiler.build_for(path, compiler.AARCH64).export_library(str(target), cc=ARM_COMPILER)
    return [target]


def run_tvm(files: List[Path], data: np.ndarray, expected: Answers) -> Answers:
    """The logits, by the runtime of the wheels for ARM, in docs/examples/run_tvm.cc under qemu-user."""
    if len(expected) > 1:
        raise ValueError("run_tvm.cc gives one output; detectors have several")
    if "TVM_AARCH64" not in os.environ:
        raise ValueError("TVM_AARCH64 must name the folder with the two wheels for ARM unpacked; see docs/phones.md")
    wheels, out = Path(os.environ["TVM_AARCH64"]).resolve(), files[0].parent
    libraries = [wheels / name / "lib" for name in ("tvm_ffi", "tvm")]
    program, images, logits = (out / name for name in ("run_tvm", "images.f32", "logits.f32"))
    includes = [f"-I{wheels / name / 'include'}" for name in ("tvm_ffi", "tvm")]
    source = str(ROOT / "docs" / "examples" / "run_tvm.cc")
    links = [f"-L{libraries[0]}", "-ltvm_ffi", "-ldl"]
    called([ARM_COMPILER, "-O1", "-std=c++17", *includes, source, "-o", str(program), *links], out, [program])
    data.tofile(str(images))
    command = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={':'.join(map(str, libraries))}"]
    command += ["-E", "TVM_NUM_THREADS=1", str(program), str(files[0]), str(images), str(logits)]
    called([*command, *map(str, data.shape)], out, [logits])
    return [np.fromfile(str(logits), np.float32)]


def module_of(path: Path):
    """A file of the package as a module, without the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


RUNTIMES = {
    "mnn": (("mnn",), convert_mnn, run_mnn),
    "ncnn": (("ncnn", "pnnx"), convert_ncnn, run_ncnn),
    "litert": (("ai-edge-litert", "onnx2tf"), convert_litert, run_litert),
    "tvm-aarch64": (("apache-tvm",), convert_tvm, run_tvm),
}

if __name__ == "__main__":
    sys.exit(main())
