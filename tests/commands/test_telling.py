"""Lines about many photographs: the first at once, then one a minute for each kind."""

from __future__ import annotations

from blemish.commands.telling import Telling


def test_the_first_line_of_a_kind_is_told_and_then_one_a_minute() -> None:
    lines, now_s = list[str](), [0.0]
    with Telling(lines.append, clock=lambda: now_s[0]) as telling:
        for number in range(1300):  # ten a second
            now_s[0] = number / 10
            telling.take("unlike", f"cam#{number}: dark")
            if number == 300:
                telling.take("late", "cam#300: late")
        assert lines == [
            "cam#0: dark",
            "cam#300: late",
            "cam#600: dark; 599 more like it before, as their rows say",
            "cam#1200: dark; 599 more like it before, as their rows say",
        ]
    assert lines[4:] == ["cam#1299: dark; 98 more like it before, as their rows say"]


def test_a_line_that_waits_is_told_after_a_minute_though_no_other_comes() -> None:
    lines, now_s = list[str](), [0.0]
    telling = Telling(lines.append, clock=lambda: now_s[0])
    telling.take("unlike", "first")
    telling.take("unlike", "second")
    now_s[0] = 59.0
    telling.tick()
    assert lines == ["first"]
    now_s[0] = 60.0
    telling.tick()
    telling.tick()
    assert lines == ["first", "second"]
