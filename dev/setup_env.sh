#!/usr/bin/env bash
# Makes, updates or repairs .venv: the versions of constraints.txt, Horovod built from source, this checkout editable.
# PYTHON=... names the interpreter; otherwise the PATH is searched. Returns at once when .venv is up to date.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$(pwd -P)
log=.venv/setup.log
horovod_log=.venv/horovod.log

say() { printf '%s\n' "$@"; }

fail() {
    say "$@" >&2
    exit 1
}

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

supported() { [[ $1 =~ ^3\.(8|9|10|11)$ ]]; }

find_python() {
    local candidate without_venv="" candidates=(python3.11 python3.10 python3.9 python3.8 python3)
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        supported "$(python_version "$candidate")" || continue
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            python=$candidate
            return
        fi
        without_venv=${without_venv:-$candidate}
    done
    [[ -z $without_venv ]] || fail "$without_venv cannot make virtual environments: its venv or ensurepip module is missing.
Install it (Debian: apt install python3-venv) or name another Python: make PYTHON=/path/to/python3.11 ..."
    [[ -z ${PYTHON:-} ]] || fail "PYTHON=$PYTHON is not a working Python 3.8 to 3.11 (MXNet 1.9.1 runs on no other).
Name one by its path (make PYTHON=/path/to/python3.11 ...), or leave PYTHON out to search the PATH."
    fail "No Python 3.8 to 3.11 on the PATH (MXNet 1.9.1 runs on no other).
Install one (Debian 12: apt install python3-venv) or name it: make PYTHON=/path/to/python3.11 ..."
}

# .venv/incomplete stands from the first change to the last, so an interrupted set-up is seen and started afresh.
# A venv that was moved or copied is refused too: its scripts and its editable install name the old place.
usable() {
    local version
    [[ ! -e .venv/incomplete ]] && version=$(python_version .venv/bin/python) && supported "$version" &&
        .venv/bin/python -c 'import pip' 2>/dev/null && grep -qF "$root/.venv/" .venv/bin/pip &&
        [[ -z ${PYTHON:-} || $(python_version "$PYTHON") == "$version" ]]
}

finish_if_up_to_date() {
    [[ $(cat .venv/stamp 2>/dev/null) == "$key" ]] && usable || return 0
    [[ ! -e .venv/horovod.failed ]] || cat .venv/horovod.failed
    exit 0
}

step() {
    say "  $1"
    shift
    "$@" >>"$log" 2>&1 </dev/null && return
    tail -n 15 "$log" >&2
    fail "Set-up failed; the whole log is $log. Run make again once the cause is gone."
}

create_venv() {
    find .venv -mindepth 1 -maxdepth 1 ! -name wheels ! -name lock ! -name incomplete ! -name setup.log -exec rm -rf {} +
    "$python" -m venv .venv
}

# --no-cache-dir keeps the wheel out of the user's pip cache, where it could meet another MXNet; it moves into
# place only when whole. The policy variable lets CMake 4 read the old CMake files of Horovod.
build_horovod() {
    local tool new=.venv/wheels/new
    for tool in g++ cmake make; do
        command -v "$tool" || { say "$tool is not installed" && return 1; }
    done
    rm -rf "$new"
    HOROVOD_WITH_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITHOUT_PYTORCH=1 \
        HOROVOD_WITHOUT_TENSORFLOW=1 MAKEFLAGS="-j$(nproc)" CMAKE_POLICY_VERSION_MINIMUM=3.5 \
        "${pip[@]}" wheel --no-cache-dir --no-deps --no-build-isolation --no-binary horovod \
        --wheel-dir "$new" "$horovod" && mv "$new"/horovod-*.whl .venv/wheels/ && rmdir "$new"
}

find_wheel() {
    local tag
    tag=$(.venv/bin/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    compgen -G ".venv/wheels/${horovod/==/-}-$tag-*.whl"
}

install_horovod() {
    find_wheel || build_horovod || return
    "${pip[@]}" install --no-deps --no-index --force-reinstall "$(find_wheel)" &&
        .venv/bin/python -c 'import horovod.mxnet as hvd; assert hvd.gloo_built(), "built without Gloo"' && return
    rm -f "$(find_wheel)"
    return 1
}

# Index, proxy and certificate settings belong to the user; any other pip option (PIP_USER, PIP_TARGET, PIP_NO_DEPS, ...)
# and a foreign PYTHONPATH would change what gets installed, or where.
clean_environment() {
    local name
    for name in $(compgen -e PIP_); do
        case $name in
            PIP_*INDEX_URL | PIP_FIND_LINKS | PIP_*PROXY | PIP_*CERT | PIP_TRUSTED_HOST | PIP_*TIMEOUT | PIP_RETRIES) ;;
            PIP_CACHE_DIR | PIP_CONFIG_FILE | PIP_KEYRING_PROVIDER) ;;
            *) unset "$name" ;;
        esac
    done
    unset PYTHONPATH PYTHONHOME
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
}

key=$({ say "$root" && cat constraints.txt setup.py dev/setup_env.sh gluon_effnets/native/*.cc; } | sha256sum)
finish_if_up_to_date
usable || find_python
mkdir -p .venv
exec 9>.venv/lock
flock --nonblock 9 || { say "Waiting for another set-up of this checkout." && flock 9; }
finish_if_up_to_date
exec 8>&2 # the trap may run where standard error goes to a log
trap 'say "" "Set-up interrupted; the next make finishes it." >&8; exit 130' INT TERM

clean_environment
: >"$log"
say "Setting up .venv (details: $log)"
if usable; then
    touch .venv/incomplete
else
    find_python
    touch .venv/incomplete
    step "virtual environment with Python $(python_version "$python")" create_venv
fi
rm -f .venv/stamp
pip=(.venv/bin/python -m pip)
horovod=$(grep '^horovod==' constraints.txt)
step "pip, setuptools, wheel" "${pip[@]}" install --no-deps -r <(grep -E '^(pip|setuptools|wheel)==' constraints.txt)
step "packages of constraints.txt" "${pip[@]}" install --no-deps -r <(grep -v '^horovod==' constraints.txt)
# Without "compat", Python takes the clone itself for the package wherever the folder above it is the current one.
step "gluon_effnets" "${pip[@]}" install --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
step "start of MXNet" .venv/bin/python -W ignore -c 'import mxnet'
say "  operators for training"
.venv/bin/python -W ignore -m gluon_effnets native >>"$log" 2>&1 </dev/null ||
    say "$(tail -n 1 "$log")" "All works without them, more slowly on a CPU (log: $log)."
find_wheel >/dev/null && say "  $horovod" || say "  $horovod (compiled once, some minutes)"
rm -f .venv/horovod.failed
if ! install_horovod >"$horovod_log" 2>&1 </dev/null; then
    say "Horovod could not be installed: training works, but in one process only (log: $horovod_log)." \
        "Once the cause is gone (compiling needs g++, cmake and make), try again with: make horovod" |
        tee .venv/horovod.failed
fi
printf '%s\n' "$key" >.venv/stamp
rm .venv/incomplete
say "Set-up done in $SECONDS s."
