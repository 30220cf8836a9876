"""Decoding in processes apart gives the pixels of decoding here; what goes wrong there stays there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from breakable import read_or_raise
from services import GOOD, png

from blemish.data.reading import read_image
from blemish.errors import BlemishError, TooManyPixels
from blemish.serve.decoding import KEPT_BYTES, DecoderDied, Decoders, check_header, read_content


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    each = Decoders(2, timeout_s=30.0, read=read_or_raise)
    yield each
    each.close()


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "AVIF"])
def test_pixels_are_those_of_the_file(decoders: Decoders, format_name: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 45, 3), np.uint8)
    content = png(pixels, format_name=format_name)
    path = tmp_path / "photograph"
    path.write_bytes(content)
    np.testing.assert_array_equal(decoders.decode(content, 16), read_image(path))
    assert check_header(content) in ((45, 31), None)
    assert (check_header(content) is None) == (format_name in ("WEBP", "AVIF"))


def test_many_at_once_do_not_mix(decoders: Decoders) -> None:
    contents = [png(value, side) for value in range(40) for side in (16, 90)]
    for content, future in [(content, decoders.submit(content, 16)) for content in contents]:
        np.testing.assert_array_equal(future.result(), read_content(content, 16))


def test_memory_grows_and_shrinks_with_the_photographs(decoders: Decoders) -> None:
    for height in (10, 20_000, 10, 30_000, 10, 10):
        assert decoders.decode(f"size{height}".encode(), 16).shape == (height, 1000, 3)
    kept = [process._memory.size for process in decoders._all if process._memory is not None]
    assert max(kept) <= KEPT_BYTES + 60_000_000


def test_faults_are_told_in_one_line(decoders: Decoders) -> None:
    with pytest.raises(BlemishError, match="image: is not a PNG"):
        decoders.decode(b"text", 16)
    with pytest.raises(BlemishError, match=r"cannot be decoded .RuntimeError.; save it again"):
        decoders.decode(b"unknown", 16)
    assert decoders.n_died == 0
    assert decoders.decode(GOOD, 16).shape == (16, 16, 3)


def test_a_process_that_stands_still_is_replaced() -> None:
    decoders = Decoders(1, timeout_s=1.0, read=read_or_raise)
    try:
        with pytest.raises(DecoderDied, match="not decoded in 1 s"):
            decoders.decode(b"stop", 16)
        assert decoders.n_died == 1
        decoders.timeout_s = 60.0
        assert decoders.decode(GOOD, 16).shape == (16, 16, 3)
    finally:
        decoders.close()


def test_a_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(TooManyPixels, match=r"16x16 px is too large; .* 0.0001 megapixels"):
        check_header(GOOD, 100)
    assert check_header(GOOD[:20]) is None
    assert check_header(b"") is None
