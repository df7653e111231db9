"""Tokens are split into spans that cover every token once, in order, and keep to their limits."""

from hypothesis import given
from hypothesis import strategies as st

from modx.ops.triton.spans import split_tokens


@given(
    group_sizes=st.lists(st.integers(0, 9), max_size=12),
    max_tokens=st.none() | st.integers(1, 7),
    max_groups=st.integers(1, 4),
)
def test_spans_cover_every_token_of_every_group_once(group_sizes, max_tokens, max_groups):
    spans = split_tokens(group_sizes, max_tokens, max_groups)
    owners = [group for group, size in enumerate(group_sizes) for _ in range(size)]
    found = []
    for span in spans:
        assert span.start == len(found)
        assert 0 < span.stop - span.start == span.ends[-1]
        assert len(span.ends) <= max_groups
        if max_tokens is not None:
            assert span.ends[-1] <= max_tokens
        for group, rows in span.parts():
            found += [group] * (rows.stop - rows.start)
        assert span.stop == len(found)
    assert found == owners


def test_groups_stay_whole_without_a_limit_of_tokens():
    (span,) = split_tokens([3, 0, 4])
    assert (span.start, span.stop, span.first_group, span.ends) == (0, 7, 0, (3, 3, 7))


def test_a_large_group_is_cut():
    assert [(span.first_group, span.ends) for span in split_tokens([5, 2], max_tokens=4)] == [(0, (4,)), (0, (1, 3))]
