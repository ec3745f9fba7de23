import pytest
import torch

from avatar.benchmarks.figures.bootstrap import CELLS, middle, redraw

CLIPS = ["b", "a", "b", "c", "b"]


def test_questions_about_one_clip_are_drawn_together_and_as_many_clips_as_there_are():
    weights = torch.cat(list(redraw(CLIPS, 500)))
    assert weights.shape == (500, 5)
    assert torch.equal(weights[:, 0], weights[:, 2])
    assert torch.equal(weights[:, 0], weights[:, 4])
    assert (weights[:, 0] + weights[:, 1] + weights[:, 3] == 3).all()  # b, a, c


def test_each_clip_is_drawn_once_on_average():
    mean = torch.cat(list(redraw(CLIPS, 4000))).mean(0)
    # the variance of a count is (1 - 1/3) * 3 / 3 = 2/3, of the mean of 4000 1/6000: 4 deviations are 0.05
    torch.testing.assert_close(mean, torch.ones_like(mean), atol=0.05, rtol=0)


def test_the_same_seed_draws_the_same_and_another_does_not():
    first, again, other = (torch.cat(list(redraw(CLIPS, 50, seed))) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_large_benchmark_is_drawn_in_pieces_that_fit_into_memory():
    clips = [f"c{i}" for i in range(5130)]
    sizes = [weights.shape for weights in redraw(clips)]
    assert sum(rows for rows, _ in sizes) == 2000
    assert len(sizes) > 1
    assert all(rows * columns <= CELLS for rows, columns in sizes)


def test_a_benchmark_larger_than_a_piece_is_drawn_row_by_row(monkeypatch):
    monkeypatch.setattr("avatar.benchmarks.figures.bootstrap.CELLS", 3)
    assert [len(weights) for weights in redraw(CLIPS, 4)] == [1, 1, 1, 1]


def test_the_middle_lies_between_percentiles_and_leaves_out_what_is_no_number():
    values = torch.tensor([*range(101), torch.nan], dtype=torch.float64)
    assert middle(values) == pytest.approx((2.5, 97.5))  # of 0..100
    assert middle(values, 0.5) == pytest.approx((25.0, 75.0))
    assert middle(torch.full((3,), torch.nan)) is None
