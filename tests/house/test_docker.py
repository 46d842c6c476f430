"""docker/: one file for GPUs and CPUs, whose versions are those of constraints.txt."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


def steps(variant):
    environment = {**os.environ, "DRY_RUN": "1", "VARIANT": variant}
    command = ["bash", str(ROOT / "docker" / "install.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.fast
@pytest.mark.parametrize(("variant", "package", "nccl"), [("cpu", "mxnet", False), ("cu112", "mxnet-cu112", True)])
def test_versions_are_those_of_the_constraints(variant, package, nccl):
    done = steps(variant)
    assert done.returncode == 0, done.stderr
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert done.stdout.splitlines()[0] == f"{package}=={pinned['mxnet']}"
    assert f"horovod=={pinned['horovod']}" in done.stdout and f"pip=={pinned['pip']}" in done.stdout
    assert ("HOROVOD_GPU_OPERATIONS=NCCL" in done.stdout) == nccl


@pytest.mark.fast
def test_another_variant_is_one_message():
    done = steps("rocm")
    assert done.returncode == 2 and done.stderr == "VARIANT=rocm is unknown; choose cpu or cu112\n"


@pytest.mark.fast
def test_both_targets_install_by_the_script_and_are_watched_by_doctor():
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    assert [re.search(r"AS (\w+)", stage)[1] for stage in stages] == ["cpu", "gpu"]
    for stage, variant in zip(stages, ("cpu", "cu112")):
        assert f"VARIANT={variant} bash docker/install.sh" in stage
        assert re.search(r'HEALTHCHECK .*\\\n +CMD \["python", "-m", "gluon_effnets", "doctor", "--quick"\]', stage)
    # No version of a Python package stands here: constraints.txt alone has them.
    assert "==" not in DOCKERFILE
