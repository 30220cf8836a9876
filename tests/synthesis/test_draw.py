"""Random draws, and the tape that repeats the draws of a step."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import Tape, coin, drawn, indices_to_process, send, uniform

CPU = torch.device("cpu")


def a_step(generator: Generator) -> list[Tensor]:
    """Draws of three dtypes and odd sizes: a tensor, and a tuple of tensors."""
    numbers = drawn(lambda g: uniform(2.0, 5.0, (3, 5), g), generator, CPU)
    flags, places = drawn(lambda g: (coin(0.5, 7, g), torch.randint(9, (2, 3), generator=g)), generator, CPU)
    return [numbers, flags, places]


def test_a_tape_plays_what_a_step_draws_in_the_same_order() -> None:
    generator, twin = Generator().manual_seed(4), Generator().manual_seed(4)
    expected = [a_step(twin) for _ in range(3)]
    tape = Tape(generator, CPU)
    with tape.recording():
        recorded = a_step(generator)
    with tape.playing():
        played = a_step(generator)
    for value, expected_value in zip(recorded, expected[0], strict=True):
        assert torch.equal(value, expected_value)
    for values in expected[1:]:
        tape.refill()
        for place, value in zip(played, values, strict=True):
            assert place.dtype == value.dtype
            assert torch.equal(place, value), "a refill puts new numbers into the places of the step"
    assert torch.equal(generator.get_state(), twin.get_state())


def test_places_hold_the_recorded_values_until_they_are_refilled() -> None:
    tape = Tape(Generator().manual_seed(1), CPU)
    with tape.recording():
        recorded = [value.clone() for value in a_step(tape.generator)]
    with tape.playing():
        for place, value in zip(a_step(tape.generator), recorded, strict=True):
            assert torch.equal(place, value)


def test_a_step_that_draws_nothing_has_an_empty_tape() -> None:
    tape = Tape(Generator(), CPU)
    with tape.recording():
        pass
    tape.refill()
    assert not tape.places


def test_without_a_tape_numbers_are_drawn_each_time() -> None:
    generator = Generator().manual_seed(0)
    assert not torch.equal(a_step(generator)[0], a_step(generator)[0])


def test_sending_to_the_host_copies_nothing() -> None:
    host = torch.rand(3)
    assert send(host, CPU) is host


@pytest.mark.parametrize("flags", [[True, False, True], [False, False], []])
def test_indices_to_process_are_the_true_flags_on_a_cpu_and_all_where_shapes_are_static(
    flags: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = torch.tensor(flags, dtype=torch.bool)
    assert indices_to_process(tensor).tolist() == [number for number, flag in enumerate(flags) if flag]
    monkeypatch.setattr("blemish.synthesis.draw.is_static", lambda device: True)
    assert indices_to_process(tensor).tolist() == [*range(len(flags))]
