"""Labels stand beside their points, off each other and inside the plot."""

from itertools import combinations

from runner.display.plots.labels import FONT_SIZE, Label, place_labels

WIDTH, HEIGHT, PADDING = 270.0, 260.0, 24.0


def place(texts, points):
    return place_labels(texts, points, width=WIDTH, height=HEIGHT, padding=PADDING)


def test_a_label_stands_to_the_right_where_there_is_room():
    assert place(["a"], [(1.0, 3.0), (2.0, 1.0)]) == [Label(align="left", dx=8, dy=-7)]


def test_a_label_at_the_right_edge_stands_to_the_left():
    left, right = place(["1185 MHz", "1185 MHz"], [(1.0, 3.0), (2.0, 1.0)])
    assert (left.align, right.align) == ("left", "right")


def test_crowded_points_share_the_room_or_go_without():
    texts = [f"{i} MHz" for i in range(12)]
    points = [(1.0 + 0.01 * i, 2.0 - 0.01 * i) for i in range(12)] + [(2.0, 1.0)]
    labels = place(texts, points)
    assert labels[0] is not None
    assert None in labels
    # the twelve lie within a hundredth of the span of each other: 2 px across, 2 px down
    boxes = [
        (left, top, left + 6.4 * len(text), top + FONT_SIZE)
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
        if label
        for left in [
            PADDING
            + 2.22 * i
            + label.dx
            - {"left": 0.0, "center": 3.2 * len(text), "right": 6.4 * len(text)}[label.align]
        ]
        for top in [PADDING + 2.12 * i + label.dy - FONT_SIZE / 2]
    ]
    assert len(boxes) > 1
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_nothing_to_label_is_nothing():
    assert place([], []) == []
    assert place([], [(1.0, 1.0)]) == []
