#!/usr/bin/env bash
# What docker/Dockerfile runs in its image: the versions of constraints.txt, MXNet for a CPU or for CUDA 11.2, Horovod.
# VARIANT=cpu|cu112; TARGET=/opt/effnets is the virtual environment; PYTHON=python3.8; DRY_RUN=1 prints the commands.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
variant=${VARIANT:-cpu} target=${TARGET:-/opt/effnets} python=${PYTHON:-python3.8}

run() {
    if [[ ${DRY_RUN:-0} == 1 ]]; then printf '%q ' "$@" && echo; else "$@"; fi
}

case $variant in
    cpu) horovod_parts=() ;;
    cu112) horovod_parts=(HOROVOD_GPU_OPERATIONS=NCCL) ;;
    *)
        echo "VARIANT=$variant is unknown; choose cpu or cu112" >&2
        exit 2
        ;;
esac

# Both wheels of MXNet have one version, which constraints.txt pins.
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
grep -v '^horovod==' constraints.txt >"$wanted"
if [[ $variant == cu112 ]]; then
    sed -i 's/^mxnet==/mxnet-cu112==/' "$wanted"
    grep -q '^mxnet-cu112==' "$wanted" || { echo "constraints.txt pins no mxnet" >&2 && exit 1; }
fi
horovod=$(grep '^horovod==' constraints.txt)
tools=()
while read -r tool; do tools+=("$tool"); done < <(grep -E '^(pip|setuptools|wheel)==' constraints.txt)

[[ ${DRY_RUN:-0} != 1 ]] || grep -E '^mxnet' "$wanted"
run "$python" -m venv "$target"
pip=("$target/bin/python" -m pip)
run "${pip[@]}" install --no-cache-dir --no-deps "${tools[@]}"
run "${pip[@]}" install --no-cache-dir --no-deps -r "$wanted"
run "${pip[@]}" install --no-cache-dir --no-deps --no-build-isolation -e .
# Horovod asks MXNet for its features, and libmxnet.so of CUDA wants the driver's library, which a build lacks:
# the stub of the CUDA image stands in for it while Horovod compiles, and for nothing else.
stubs=/usr/local/cuda/lib64/stubs
links=$(mktemp -d)
trap 'rm -rf "$wanted" "$links"' EXIT
[[ $variant != cu112 ]] || ln -s "$stubs/libcuda.so" "$links/libcuda.so.1"
run env "LD_LIBRARY_PATH=$links:${LD_LIBRARY_PATH:-}" HOROVOD_WITH_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 \
    HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 CMAKE_POLICY_VERSION_MINIMUM=3.5 \
    "MAKEFLAGS=-j$(nproc)" ${horovod_parts[@]+"${horovod_parts[@]}"} \
    "${pip[@]}" install --no-cache-dir --no-deps --no-build-isolation --no-binary horovod "$horovod"
run env "LD_LIBRARY_PATH=$links:${LD_LIBRARY_PATH:-}" "$target/bin/horovodrun" --check-build
run env "LD_LIBRARY_PATH=$links:${LD_LIBRARY_PATH:-}" "$target/bin/python" -m gluon_effnets native
