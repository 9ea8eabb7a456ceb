"""What a gradient looks like: right, a mistake that explains every number of it, or not yet."""

from collections.abc import Callable, Iterator
from traceback import walk_tb

import numpy as np

from tests.exercises.catalogue import B, D, Exercise, K, Misuse, Z

RIGHT = 1e-10
SAME = 1e-9  # of a mistake that explains the answer
AXES = {K: "samples", B: "images", Z: "latents", D: "pixels"}
# Multiples that are easily met by mistake, with words and what each looks like; 1 comes first.
FACTORS = {1.0: ("", ""), 2.0: ("twice", ""), 0.5: ("half of", "")}
for size, axis in {**AXES, K * B: "samples of all images"}.items():
    FACTORS[1 / size] = f"1/{size} of", f", like a mean over the {size} {axis} where the sum belongs"
    FACTORS[float(size)] = f"{size} times", f", like a sum over the {size} {axis} where the mean belongs"
FACTORS |= {-factor: (f"−1 times {words}".rstrip(), looks) for factor, (words, looks) in FACTORS.items()}


def diagnose(exercise: Exercise, function: Callable) -> dict[str, str]:
    """What to say of each gradient, or of "" where there is none; "right, …" is right."""
    d_out = exercise.d_out()
    expected = exercise.expected(d_out)
    try:
        with np.errstate(all="ignore"):
            found = exercise.answers(function, d_out)
    except NotImplementedError:
        return {"": "not written"}
    except Misuse as error:
        return {"": str(error)}
    except (Exception, SystemExit) as error:  # whatever a learner's code raises is an answer
        return {"": f"raises {type(error).__name__}: {(str(error).splitlines() or [''])[0]}{line_of(error)}"}
    return {name: verdict(exercise, d_out, name, found[name], expected[name]) for name in expected}


def line_of(error: BaseException) -> str:
    """Where in the learner's file it was raised."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_globals.get("__name__") == "learner"]
    return f" (line {lines[-1]})" if lines else ""


def verdict(exercise: Exercise, d_out, name: str, found, expected: np.ndarray) -> str:
    """One gradient against autograd's."""
    if found is None:
        return "not written"
    try:
        found = np.asarray(found, float)
    except (TypeError, ValueError):
        return f"is a {type(found).__name__}, expected an array {expected.shape}"
    if found.shape != expected.shape:
        return of_another_shape(found, expected)
    if not np.isfinite(found).all():
        first = place(np.argwhere(~np.isfinite(found))[0])
        return f"not finite, or never written, at {np.sum(~np.isfinite(found))} of {found.size} places, first {first}"
    error = distance(found, expected)
    if error <= RIGHT:
        return f"right, residual {error:.1e}"
    known = list(explanations(exercise, d_out, name, expected))
    for factor, (words, looks) in FACTORS.items():
        for mistaken, text in known:
            if np.any(mistaken) and distance(found, factor * mistaken) <= SAME:
                if text and words:
                    return f"{text}, and then it is {words} that{looks}"
                return text or f"it is {words} the gradient{looks}"
    return not_yet(found, expected, error)


def explanations(exercise: Exercise, d_out, name: str, expected: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
    """What classic mistakes would give, each with its words; the gradient itself comes first."""
    factors = {**exercise.factors, **{f"1/{factor}": 1 / value for factor, value in exercise.factors.items()}}
    yield expected, ""
    if expected.ndim == 2 and expected.shape[0] == expected.shape[1]:
        yield expected.T, "it is transposed"
    for hint in exercise.mistakes:
        mistaken = exercise.answers(exercise.with_mistake(hint), d_out)[name]
        if distance(mistaken, expected) > SAME:
            yield mistaken, hint
    if d_out.shape:
        yield exercise.expected(np.ones_like(d_out))[name], "the gradient that arrives is not multiplied in"
    for factor, value in factors.items():
        yield expected * value, f"it is {factor} times the gradient"


def of_another_shape(found: np.ndarray, expected: np.ndarray) -> str:
    """Why the shape is wrong, where the numbers say so."""
    told = f"its shape is {found.shape}, expected {expected.shape}"
    if found.T.shape == expected.shape and distance(found.T, expected) <= SAME:
        return f"{told}: it is transposed"
    for axis in range(found.ndim):
        if found.sum(axis).shape == expected.shape and distance(found.sum(axis), expected) <= SAME:
            return f"{told}: right once it is summed over axis {axis}, the {AXES.get(found.shape[axis], 'rows')}"
    try:
        copied = np.broadcast_to(found, expected.shape)
    except ValueError:
        return told
    return f"{told}: right once it is copied along the other axes" if distance(copied, expected) <= SAME else told


def not_yet(found: np.ndarray, expected: np.ndarray, error: float) -> str:
    if not found.any():
        return "not yet: it is zero everywhere"
    worst = np.unravel_index(np.argmax(np.abs(found - expected)), expected.shape)
    numbers = f"found {found[worst]:.4g}, expected {expected[worst]:.4g}"
    return f"not yet: relative error {error:.2g}, largest {place(worst)}: {numbers}"


def place(index) -> str:
    return f"at index ({', '.join(map(str, index))})" if len(index) else "in its one number"


def distance(found, expected) -> float:
    """‖found − expected‖/‖expected‖"""
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-300))
