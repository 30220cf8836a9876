"""The colours of the page: text can be read in both modes, verdicts are told apart by the colour-blind."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.serve.page import FOLDER

STYLE = (FOLDER / "static" / "style.css").read_text()
VERDICTS = ("good", "defective", "unlike", "not-inspected")
TEXT_ON = [("text", "page"), ("text", "card"), ("text", "control"), ("dim", "page"), ("dim", "card"), ("dim", "well")]
TEXT_ON += [("text", "well"), ("link", "page"), ("link", "card"), ("link", "well"), ("on-primary", "primary")]
TEXT_ON += [("on-verdict", name) for name in (*VERDICTS, "warning", "alarm")]
SHAPES_ON = [(shape, back) for shape in ("focus", "edge", "bar", "primary") for back in ("page", "card")]
# A simulation of what people without one kind of cones see, of linear RGB (G. M. Machado et al., 2009).
BLIND = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def palette(is_dark: bool) -> dict[str, str]:
    """The colours by name."""
    light, _, dark = STYLE.partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found | (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark)) if is_dark else {})


def linear(colour: str) -> NDArray[np.float64]:
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Ratio of luminances, as the Web Content Accessibility Guidelines define it."""
    darker, lighter = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* of linear RGB, white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_has_the_contrast_that_is_asked_for(is_dark: bool) -> None:
    colours = palette(is_dark)
    for text, back in TEXT_ON:
        assert contrast(colours[text], colours[back]) >= 4.5, (text, back)
    for shape, back in SHAPES_ON:
        assert contrast(colours[shape], colours[back]) >= 3.0, (shape, back)


@pytest.mark.parametrize("kind", BLIND)
def test_the_colour_blind_tell_the_verdicts_apart(kind: str) -> None:
    colours = palette(False)
    for one, other in combinations(VERDICTS, 2):
        seen = [lab(np.array(BLIND[kind]) @ linear(colours[name])) for name in (one, other)]
        assert np.linalg.norm(seen[0] - seen[1]) > 20, (one, other)


def test_every_colour_is_one_of_the_palette() -> None:
    after = STYLE.rpartition("box-sizing")[2]
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;\s,)])", after)
