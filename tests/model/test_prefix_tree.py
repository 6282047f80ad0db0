"""Prefix trees against sets of prefixes, which say the same and know nothing of nodes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from masked import fresh_tokens

from sftdemo.mask.layouts import Sharing
from sftdemo.model.prefix_tree import prefix_tree

TOKENS = st.integers(0, 3)  # few, so that rows often begin alike


@st.composite
def batches_of_rows(draw):
    """(input_ids, labels); the labels are drawn for themselves, so anything may be trained, the first token as well."""
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.sampled_from([ids for ids, _ in rows])) if rows and draw(st.booleans()) else ()
        ids = start[: draw(st.integers(0, len(start)))] + tuple(draw(st.lists(TOKENS, min_size=1, max_size=7)))
        labels = draw(st.lists(st.just(-100) | TOKENS, min_size=len(ids), max_size=len(ids)))
        rows.append((ids, tuple(labels)))
    return rows


def prefixes(ids) -> list[tuple[int, ...]]:
    """What the model computes of a row: every beginning of it, the whole row excepted, which predicts nothing."""
    return [tuple(ids[:end]) for end in range(1, len(ids))]


def all_prefixes(rows) -> set[tuple[int, ...]]:
    return {prefix for ids, _ in rows for prefix in prefixes(ids)}


def asked(rows) -> Counter:
    """How often each beginning is asked for each token."""
    return Counter(
        (prefix, label)
        for ids, labels in rows
        for prefix, label in zip(prefixes(ids), labels[1:], strict=True)
        if label != -100
    )


def prefix_of_node(rows, tree) -> dict[int, tuple[int, ...]]:
    return {
        node: ids[: at + 1] for (ids, _), path in zip(rows, tree.paths, strict=True) for at, node in enumerate(path)
    }


class TestPrefixTree:
    @given(batches_of_rows())
    def test_a_path_is_the_row(self, rows):
        tree = prefix_tree(rows)
        assert len(tree.paths) == len(rows)
        for (ids, _), path in zip(rows, tree.paths, strict=True):
            assert tuple(tree.input_ids[node] for node in path) == ids[:-1]
            assert [tree.position_ids[node] for node in path] == list(range(len(ids) - 1))
            assert list(path) == sorted(path)

    @given(batches_of_rows())
    def test_a_node_is_a_distinct_prefix(self, rows):
        """So rows share their common beginning, all of it and nothing else."""
        tree = prefix_tree(rows)
        prefix_of = prefix_of_node(rows, tree)
        assert sorted(prefix_of) == list(range(len(tree.input_ids))) == list(range(len(tree.position_ids)))
        assert len(prefix_of) == len(set(prefix_of.values()))
        assert set(prefix_of.values()) == all_prefixes(rows)
        for (ids, _), path in zip(rows, tree.paths, strict=True):
            assert [prefix_of[node] for node in path] == prefixes(ids)

    @given(batches_of_rows())
    def test_predictions_are_the_trained_tokens(self, rows):
        tree = prefix_tree(rows)
        prefix_of = prefix_of_node(rows, tree)
        assert list(tree.kept) == sorted(set(tree.kept))
        assert {index for index, _ in tree.predictions} == set(range(len(tree.kept)))
        assert Counter((prefix_of[tree.kept[index]], token) for index, token in tree.predictions) == asked(rows)

    def test_no_rows(self):
        tree = prefix_tree([])
        assert (tree.input_ids, tree.position_ids, tree.paths, tree.kept, tree.predictions) == ((), (), (), (), ())

    def test_a_row_of_one_token_has_no_node(self):
        tree = prefix_tree([((5,), (5,)), ((6,), (-100,))])
        assert (tree.input_ids, tree.paths, tree.kept, tree.predictions) == ((), ((), ()), (), ())

    def test_equal_rows_are_asked_twice(self):
        row = ((1, 2, 3), (-100, -100, 3))
        tree = prefix_tree([row, row])
        assert tree.input_ids == (1, 2)
        assert tree.paths == ((0, 1), (0, 1))
        assert (tree.kept, tree.predictions) == ((1,), ((0, 3), (0, 3)))

    def test_a_row_that_begins_another(self):
        long, short = ((1, 2, 3, 4), (-100, 2, 3, 4)), ((1, 2, 3), (-100, 2, 3))
        for rows in ([long, short], [short, long]):
            tree = prefix_tree(rows)
            assert tree.input_ids == (1, 2, 3)
            assert tree.position_ids == (0, 1, 2)
            assert sorted(tree.predictions) == [(0, 2), (0, 2), (1, 3), (1, 3), (2, 4)]

    def test_rows_that_part_at_the_prediction(self):
        """The prompt's last token is one node, asked for both answers; an answer's only token has no node."""
        tree = prefix_tree([((1, 2, 3), (-100, -100, 3)), ((1, 2, 4), (-100, -100, 4))])
        assert tree.input_ids == (1, 2)
        assert (tree.kept, tree.predictions) == ((1,), ((0, 3), (0, 4)))

    def test_equal_tokens_after_different_ones_are_not_shared(self):
        tree = prefix_tree([((1, 7, 8, 0), (-100,) * 4), ((2, 7, 8, 0), (-100,) * 4)])
        assert tree.input_ids == (1, 7, 8, 2, 7, 8)


def fresh(rows, batch_size) -> list[int]:
    """`fresh_tokens`, a set of prefixes a batch."""
    counts, known = [], set()
    for index, ids in enumerate(rows):
        if index % batch_size == 0:
            known = set()
        counts.append(len(set(prefixes(ids)) - known))
        known |= set(prefixes(ids))
    return counts


class TestSharing:
    @given(batches_of_rows(), st.integers(1, 7))
    def test_each_row_adds_the_prefixes_that_its_batch_has_not(self, rows, batch_size):
        ids = [ids for ids, _ in rows]
        assert fresh_tokens(ids, batch_size) == fresh(ids, batch_size)

    @given(batches_of_rows(), st.integers(1, 7))
    def test_a_batch_adds_as_many_as_its_tree_has_nodes(self, rows, batch_size):
        counts = fresh_tokens([ids for ids, _ in rows], batch_size)
        for begin in range(0, len(rows), batch_size):
            end = begin + batch_size
            assert sum(counts[begin:end]) == len(prefix_tree(rows[begin:end]).input_ids)

    def test_a_batch_starts_anew(self):
        assert fresh_tokens([(1, 2, 3)] * 5, 2) == [2, 0, 2, 0, 2]

    def test_lists_and_empty_rows_will_do(self):
        sharing = Sharing(3)
        assert [sharing.add(row) for row in ([], [1], [1, 2], [1, 2, 3])] == [0, 0, 1, 2]
        assert fresh_tokens([], 1) == []
