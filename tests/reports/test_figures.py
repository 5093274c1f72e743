"""Where the marks of a plot go."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from synood_cli.reports.figures import (
    BOTTOM,
    HIGHEST,
    LEFT,
    RIGHT,
    TICK_DISTANCE,
    TOP,
    linear_axis,
    logits,
    path,
    plot,
    score_axis,
    sparkline,
    steps,
)


def numbers(drawn: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", drawn)]


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 0.09, ["0.00", "0.02", "0.04", "0.06", "0.08"]),
        (0.1631, 0.1789, ["0.165", "0.170", "0.175"]),
        (1, 2300, ["500", "1000", "1500", "2000"]),
        (-3, 4, ["-2", "0", "2", "4"]),
    ],
)
def test_ticks_are_round_numbers_inside_the_axis(low: float, high: float, labels: list[str]) -> None:
    axis = linear_axis("x", low, high)
    assert [tick.label for tick in axis.ticks] == labels
    assert all(low - 1e-9 <= tick.place <= high + 1e-9 for tick in axis.ticks)


def test_an_axis_of_one_value_has_that_value_in_its_middle() -> None:
    for value in (0.0, 5.0, -2.0):
        axis = linear_axis("x", value, value)
        assert axis.low < value < axis.high
        assert (axis.low + axis.high) / 2 == pytest.approx(value)
        assert axis.ticks


def test_logits_end_where_single_precision_does() -> None:
    found = logits(np.array([0.5, 0.9, 1e-18, 0.0, 1.0]))
    assert found[:3] == pytest.approx([0.0, math.log(9), -18 * math.log(10)])
    assert found[3] == pytest.approx(-38 * math.log(10))
    assert found[4] == pytest.approx(math.log(HIGHEST / (1 - HIGHEST)))
    assert np.float32(HIGHEST) < 1.0


def test_scores_that_crowd_near_0_and_1_get_a_logit_axis() -> None:
    scores = np.array([1e-6, 1e-4, 0.3, 0.99, 1 - 1e-6])
    axis, placed = score_axis(scores)
    assert axis.label == "score S, on a logit scale"
    labels = {tick.label: tick.place for tick in axis.ticks}
    assert labels["0.5"] == 0.0
    assert labels["0.99"] == pytest.approx(math.log(99))
    drawn = axis.between([tick.place for tick in axis.ticks], LEFT, RIGHT)
    assert np.diff(drawn).min() >= TICK_DISTANCE
    assert placed(np.array([0.3]))[0] == pytest.approx(math.log(3 / 7))
    assert placed(np.array([0.0, 1.0])).tolist() == [axis.low, axis.high]


def test_tiny_scores_are_labelled_with_powers_of_ten() -> None:
    axis, _ = score_axis(np.logspace(-19, -12, 50))
    assert {tick.label for tick in axis.ticks} >= {"10⁻¹³", "10⁻¹⁵"}


def test_scores_that_span_little_get_a_linear_axis() -> None:
    scores = np.linspace(0.16, 0.18, 100)
    axis, placed = score_axis(scores)
    assert axis.label == "score S"
    assert placed(np.array([0.17, 0.5])).tolist() == [0.17, axis.high]
    same, _ = score_axis(np.full(10, 0.25))
    assert same.low < 0.25 < same.high


def test_one_score_far_out_does_not_stretch_the_axis() -> None:
    scores = np.concatenate([np.linspace(0.01, 0.99, 20_000), [0.0]])
    axis, _ = score_axis(scores)
    assert axis.low > -8


def test_a_plot_puts_the_corners_where_the_frame_is() -> None:
    axis = linear_axis("x", 0, 10)
    drawn = plot("t", "d", axis, axis, [("line", np.array([0.0, 10.0]), np.array([0.0, 5.0]))], verticals=[(5, "η")])
    middle = (TOP + BOTTOM) / 2
    assert numbers(drawn.curves[0].path) == [LEFT, BOTTOM, RIGHT, middle]
    [mark] = drawn.marks
    assert (mark.x1, mark.x2, mark.label) == ((LEFT + RIGHT) / 2, (LEFT + RIGHT) / 2, "η")
    assert (drawn.y_ticks[0].place, drawn.y_ticks[-1].place) == (BOTTOM, TOP)


def test_a_line_outside_the_axes_is_left_out() -> None:
    axis = linear_axis("x", 0, 10)
    drawn = plot("t", "d", axis, axis, [], verticals=[(11, "η")], horizontals=[(-1, "h"), (10, "top")])
    assert [(mark.label, mark.y1) for mark in drawn.marks] == [("top", TOP)]


def test_path_and_steps() -> None:
    assert path(np.array([1.0, 2.25]), np.array([3.0, 4.0])) == "M1.0,3.0L2.2,4.0"
    xs, ys = steps(np.array([0.0, 1.0, 2.0]), np.array([3.0, 5.0]))
    assert list(zip(xs, ys, strict=True)) == [(0, 0), (0, 3), (1, 3), (1, 5), (2, 5), (2, 0)]


def test_a_sparkline_shows_on_which_side_of_the_boundary_an_iterate_is() -> None:
    line = sparkline([8.0, 5.0, 2.0], 4.0, 2)
    assert [y for _, y, _ in line.dots] == [6.0, 22.0, 38.0]
    assert line.boundary == pytest.approx(38 - 32 / 3)
    assert [saved for *_, saved in line.dots] == [False, False, True]
    single = sparkline([4.0], 4.0, 0)
    assert single.dots[0][:2] == pytest.approx((120, 22))
    assert single.boundary == pytest.approx(22)
