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


@pytest.mark.parametrize("kinds", [3, 7])
def test_of_several_classes_it_is_spanned_by_the_directions_that_separate_them_best(kinds):
    x, labels = points(kinds)
    within, between = scatters(x, labels)
    values, vectors = np.linalg.eig(np.linalg.solve(within, between))
    best = vectors[:, np.argsort(-values.real)[:2]].real
    basis, share = plane(np, x, labels)
    assert_allclose(span(basis), span(best), atol=1e-9)
    assert_allclose(span(basis[:, :1]), span(best[:, :1]), atol=1e-9)
    assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    assert_allclose(share, np.var(x @ basis, axis=0) / np.var(x, axis=0).sum())


def test_of_two_classes_it_has_fishers_direction_and_the_leading_one_besides():
    """Fisher's direction of two classes is W⁻¹·(m₁ − m₀)."""
    x, labels = points(2)
    apart = x[labels == 1].mean(axis=0) - x[labels == 0].mean(axis=0)
    fisher = np.linalg.solve(scatters(x, labels)[0], apart)[:, None]
    rest = x @ (np.eye(5) - span(fisher))
    basis, _ = plane(np, x, labels)
    assert_allclose(span(basis[:, :1]), span(fisher), atol=1e-9)
    assert_allclose(span(basis[:, 1:]), span(np.linalg.eigh(np.cov(rest.T))[1][:, -1:]), atol=1e-9)


def test_of_one_class_it_is_that_of_the_two_leading_principal_directions():
    x, labels = points(1)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    basis, share = plane(np, x, labels)
    assert_allclose(np.abs(np.sum(basis * vectors[:, [4, 3]], axis=0)), [1, 1])
    assert_allclose(share, values[[4, 3]] / values.sum())
    assert fisher_directions(np, x, labels).shape == (5, 0)


@pytest.mark.parametrize("kinds", [1, 3])
def test_points_on_a_line_a_single_point_and_points_that_do_not_differ_have_a_plane(kinds):
    x, labels = points(kinds)
    basis, share = plane(np, x[:, :1], labels)
    assert np.abs(basis).tolist() == [[1, 0]] and share == pytest.approx([1, 0])
    for few in (np.ones((4, 5)), np.ones((1, 5))):
        basis, share = plane(np, few, labels[: len(few)])
        assert basis.shape == (5, 2) and share.tolist() == [0, 0] and np.isfinite(basis).all()
