"""The programs of examples/ run from end to end, with settings of seconds, and leave their pictures."""

import importlib.util
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SMALL = ["--data", "synthetic:16", "--set", "data.augment=none", "--epochs", "1"]
# The arguments of each, and the pictures that it leaves.
RUNS = {
    "count_a_block": (
        ["--baseline", "mobilenet_v3_small", "--most", "1"],
        ["idle_blocks.png"],
    ),
    "fine_tune_a_folder": (
        ["--model", "idle_tiny", "--image-size", "16", "--per-class", "8", "--batch-size", "8", "--epochs", "1"],
        ["confusion.png", "answers.png", "run/curves.png"],
    ),
    "condense_a_condensenet": (
        [*SMALL, "--set", "data.image_size=16", "--set", "data.batch_size=4"],
        ["reuse.png", "run/sparsity.png"],
    ),
    "route_images": (
        [*SMALL, "--model", "ds_mobilenet_tiny", "--image-size", "16", "--batch-size", "8"]
        + ["--set", "stages.recalibrate.duration=2it", "--set", "stages.recalibrate.checkpoint_every=1it"],
        ["routes.png", "images.route-*.png"],
    ),
}


def test_every_example_is_run_and_has_its_place_on_the_page():
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    page = (ROOT / "docs" / "examples.md").read_text()
    assert names == set(RUNS)
    assert [name for name in names if f"python examples/{name}.py" not in page] == []


@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs_and_leaves_its_pictures(name, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    words, pictures = RUNS[name]
    assert example.main([*words, "--out", str(tmp_path)]) == 0
    for pattern in pictures:
        found = sorted(tmp_path.glob(pattern))
        assert found, pattern
        with Image.open(found[0]) as picture:
            assert min(picture.size) > 60 and picture.convert("L").getextrema() != (255, 255)
    assert f"{tmp_path}/" in capsys.readouterr().out


@pytest.mark.parametrize("name", RUNS)
def test_an_example_says_how_it_is_started(name):
    text = (ROOT / "examples" / f"{name}.py").read_text()
    assert re.search(rf"^    python examples/{name}\.py\b", text, re.MULTILINE)
    assert 'if __name__ == "__main__":\n    sys.exit(main())' in text
