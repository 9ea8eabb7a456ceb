"""The plane in which points are looked at: of the two leading directions, or of the two that separate classes best."""


def fisher_directions(xp, centred, classes):
    """Fisher's linear discriminants, the f with the largest fᵀ·B·f / fᵀ·W·f.   (N, Z), (N,) -> (Z, 0 to 2)

    B is the scatter between the means of the classes, W the scatter within them. W is drawn towards a sphere of the
    same trace by the share Z/(Z + N), because few points know little of directions in which they hardly differ.
    The points have the mean 0. Fisher 1936; Rao 1948.
    """
    (count, size), kinds = centred.shape, xp.unique(classes)
    of_class = xp.zeros_like(centred)  # the mean of each point's class
    for kind in kinds:
        of_class[classes == kind] = xp.mean(centred[classes == kind], axis=0)
    within, between = (centred - of_class).T @ (centred - of_class), of_class.T @ of_class
    share = size / (size + count)
    sphere = xp.trace(within) / size + 1e-12  # above 0 where no two points of a class differ
    half = xp.linalg.inv(xp.linalg.cholesky((1 - share) * within + share * sphere * xp.eye(size)))
    _, rotated = xp.linalg.eigh(half @ between @ half.T)  # half·W·halfᵀ = I
    return half.T @ rotated[:, ::-1][:, : min(2, len(kinds) - 1)]


def plane(xp, points, classes):
    """Two orthonormal directions, and the share of the variance along each.   (N, Z), (N,) -> (Z, 2), (2,)

    The two lie in the plane of Fisher's discriminants. Of two classes there is one discriminant, and of one class none:
    leading principal directions of what varies besides complete the plane. Points of one coordinate have zeros for a
    second direction.
    """
    centred = points - xp.mean(points, axis=0)
    fisher = fisher_directions(xp, centred, classes)
    orthonormal, _ = xp.linalg.qr(fisher)
    rest = centred - centred @ orthonormal @ orthonormal.T
    _, principal = xp.linalg.eigh(rest.T @ rest)
    basis, _ = xp.linalg.qr(xp.concatenate([fisher, principal[:, ::-1]], axis=1))
    basis = xp.concatenate([basis, xp.zeros_like(basis)], axis=1)[:, :2]
    return basis, xp.sum((centred @ basis) ** 2, axis=0) / xp.maximum(xp.sum(centred**2), 1e-300)
