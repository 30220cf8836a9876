"""Options of a run: defined once, and equal from the command line, Python and YAML."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import blemish
from blemish.cli.fit import Options
from blemish.errors import BlemishError
from blemish.learning.options import FitOptions, read_config
from blemish.methods.draem import DRAEM, DRAEMSettings
from learning.test_fit import TINY, save_parts


def test_the_command_line_has_every_option_with_its_help() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "blemish", "fit", "--help"], capture_output=True, check=True, text=True
    ).stdout
    offered = {field.name for field in fields(Options)}
    assert offered == {field.name for field in fields(FitOptions)} - {"data", "settings"}
    for name in offered:
        assert f"--{name.replace('_', '-')} " in help_text
    assert "Share of good parts that may be rejected" in help_text


@pytest.mark.parametrize(
    ("values", "message_part"),
    [
        ({"seed": "three"}, "option seed: 'three' should be a whole number"),
        ({"device": "gpu"}, "option device: 'gpu' should be one of auto, cpu, cuda"),
        ({"false_rejects": 1.5}, "false-reject rate must lie between 0 and 1"),
        ({"colour": 1}, "unknown option colour"),
        ({"settings": [1]}, "option settings"),
    ],
)
def test_what_is_wrong_is_reported(values: dict[str, Any], message_part: str) -> None:
    with pytest.raises(BlemishError, match=message_part):
        FitOptions.from_dict({"data": "parts", **values})


def test_a_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    options = FitOptions.from_dict({"data": "parts", "textures": "photographs", "false_rejects": "1e-2", "seed": 3})
    assert options.textures == Path("photographs")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(options.config({"iterations": 5, "widths": (1, 2)})))
    again = FitOptions.from_dict(read_config(tmp_path / "config.yaml"))
    assert again.settings == {"iterations": 5, "widths": [1, 2]}
    assert vars(again) | {"settings": {}} == vars(options)


def test_a_method_that_was_built_is_trained_and_its_config_repeats_it(tmp_path: Path) -> None:
    method = DRAEM.build(DRAEMSettings.from_dict({**TINY, "seed": 4}))
    good = save_parts(tmp_path / "good", 12)
    detector = blemish.fit(good, method=method, device="cpu", out=tmp_path / "run")
    assert detector.method is method
    assert (detector.provenance["recipe"], detector.provenance["seed"]) == ("own", 4)
    again = blemish.fit(**read_config(tmp_path / "run" / "config.yaml"))
    assert again.threshold == detector.threshold
    with pytest.raises(BlemishError, match=r"recipe, settings: not used with a method object"):
        blemish.fit(good, method=method, recipe="fast", settings={"iterations": 3})
    with pytest.raises(BlemishError, match="draem needs no codebook"):
        DRAEM.build(codebook="codebook.safetensors")
