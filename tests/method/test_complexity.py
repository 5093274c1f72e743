import pytest
from hypothesis import given
from hypothesis import strategies as st

from synood_cli.errors import ItemError
from synood_cli.method.complexity import complexity, top_complex


def test_complexity_is_bytes_per_pixel():
    assert complexity(3000, 100, 20) == 1.5
    assert complexity(9, 10, 10) == 0.09


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (-1, 5)])
def test_an_image_without_pixels_is_refused(width, height):
    with pytest.raises(ItemError, match="pixels"):
        complexity(10, width, height)


def test_ranks_by_number_not_by_the_text_of_the_number():
    items = [("small", 9e-05), ("large", 1.2), ("middle", 0.5), ("tiny", 8e-07)]
    assert sorted(items, key=lambda item: str(item[1]), reverse=True)[0][0] == "small"  # what sorting text would give
    assert top_complex(items, 2) == [("large", 1.2), ("middle", 0.5)]


def test_ties_are_ordered_by_key_and_fewer_items_are_all_kept():
    items = [("b", 1.0), ("c", 2.0), ("\udcff", 1.0), ("a", 1.0)]
    assert [key for key, _ in top_complex(items, 9)] == ["c", "a", "b", "\udcff"]
    assert top_complex(items, 0) == []
    assert top_complex([], 3) == []


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(1e-9, 1e9)), unique_by=lambda item: item[0]), st.randoms())
def test_the_order_of_reading_changes_nothing(items, random):
    shuffled = list(items)
    random.shuffle(shuffled)
    chosen = top_complex(items, 5)
    assert top_complex(shuffled, 5) == chosen
    left_out = [value for item in items if item not in chosen for value in item[1:]]
    assert all(value <= min(c for _, c in chosen) for value in left_out)
