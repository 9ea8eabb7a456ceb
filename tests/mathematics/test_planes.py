"""The plane in which latents are looked at: Fisher's, or the leading directions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ref.more.planes import fisher_directions, plane

RNG = np.random.default_rng(0)


def points(kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """210 points in five coordinates, of so many classes in turn."""
    labels = np.arange(210) % kinds
    return RNG.normal(size=(210, 5)) * [1, 3, 0.5, 2, 1] + RNG.normal(size=(7, 5))[labels] + 7, labels


def scatters(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scatter within classes, a share of 5/215 a sphere, and that between their means."""
    within, between = np.zeros((5, 5)), np.zeros((5, 5))
    for kind in np.unique(labels):
        own = x[labels == kind]
        within += np.cov(own.T, bias=True) * len(own)
        between += np.outer(own.mean(axis=0) - x.mean(axis=0), own.mean(axis=0) - x.mean(axis=0)) * len(own)
    return (210 * within + 5 * np.trace(within) / 5 * np.eye(5)) / 215, between


def span(directions: np.ndarray) -> np.ndarray:
    """The projection onto the span of directions, whatever their signs and lengths."""
    basis, _ = np.linalg.qr(directions)
    return basis @ basis.T


def best_directions(x: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """So many of Fisher's directions, and then the leading ones of what varies besides."""
    within, between = scatters(x, labels)
    values, vectors = np.linalg.eig(np.linalg.solve(within, between))
    fisher = vectors[:, np.argsort(-values.real)[:count]].real
    rest = x @ (np.eye(5) - span(fisher))
    return np.concatenate([fisher, np.linalg.eigh(np.cov(rest.T))[1][:, ::-1]], axis=1)[:, :2]


@pytest.mark.parametrize("kinds", [1, 2, 3, 7])
def test_it_is_spanned_by_the_directions_that_separate_classes_best_and_else_by_the_leading_ones(kinds):
    x, labels = points(kinds)
    best = best_directions(x, labels, min(2, kinds - 1))
    basis, share = plane(np, x, labels)
    assert_allclose(span(basis), span(best), atol=1e-9)
    assert_allclose(span(basis[:, :1]), span(best[:, :1]), atol=1e-9)
    assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    assert_allclose(share, np.var(x @ basis, axis=0) / np.var(x, axis=0).sum())
    assert fisher_directions(np, x, labels).shape == (5, min(2, kinds - 1))


@pytest.mark.parametrize("kinds", [1, 3])
def test_points_on_a_line_a_single_point_and_points_that_do_not_differ_have_a_plane(kinds):
    x, labels = points(kinds)
    basis, share = plane(np, x[:, :1], labels)
    assert np.abs(basis).tolist() == [[1, 0]] and share == pytest.approx([1, 0])
    for few in (np.ones((4, 5)), np.ones((1, 5))):
        basis, share = plane(np, few, labels[: len(few)])
        assert basis.shape == (5, 2) and share.tolist() == [0, 0] and np.isfinite(basis).all()
