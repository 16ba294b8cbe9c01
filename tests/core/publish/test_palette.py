from tasks.core.publish.palette import COLORS, class_colors, rgb


def test_colours_are_stable_and_distinct_within_a_media() -> None:
    names = [f"class {number}" for number in range(len(COLORS))]
    assert len(set(class_colors(names).values())) == len(COLORS)
    assert class_colors(names) == class_colors(reversed(names))
    assert class_colors(["car"]) == class_colors(["car", "car"])


def test_more_classes_than_colours_share() -> None:
    assert len(class_colors(str(number) for number in range(80))) == 80


def test_rgb() -> None:
    assert rgb("#0a10ff") == (10, 16, 255)
