"""tests/exercises: what ref/ writes passes, what is classically wrong is named, and nothing else is."""

import ast
import functools
import inspect
from pathlib import Path

import numpy as np
import pytest

from tests.exercises.__main__ import file_of, main, section, sheet
from tests.exercises.catalogue import EXERCISES, B, K, changed
from tests.exercises.diagnosis import diagnose
from tests.exercises.faults import FAULTS, copy, functions, residuals, trained
from tests.page import FILE, ROOT, definitions

BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
MISTAKES = [(exercise, hint) for exercise in EXERCISES for hint in exercise.mistakes]
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.function)


@pytest.fixture
def said(capsys):
    """The status of a command, what it prints, and its errors."""
    return lambda *command: (main([*map(str, command)]), *capsys.readouterr())


@pytest.fixture
def folder(tmp_path) -> Path:
    assert main(["start", str(tmp_path / "exercises")]) == 0
    return tmp_path / "exercises"


@each_exercise
def test_the_body_of_ref_passes_where_the_empty_one_stood(exercise, folder, said):
    status, told, _ = said("check", folder, exercise.name)
    assert status == 1 and "not written" in told
    path = folder / file_of(exercise)
    empty = path.read_text("utf-8")
    written = empty.replace(definitions(empty)[exercise.name], inspect.getsource(exercise.function))
    path.write_text(written, "utf-8")
    status, told, _ = said("check", folder, exercise.name)
    assert status == 0 and "right: 1 of 1" in told


@each_exercise
def test_a_sheet_says_no_formula_and_names_the_section_that_derives_it(exercise):
    nodes = {getattr(node, "name", ""): node for node in ast.parse(sheet(exercise)).body}
    function = nodes[exercise.name]
    assert ast.unparse(function.body[1:]) == "raise NotImplementedError" and "=" not in ast.get_docstring(function)
    _, below = FILE.read_text("utf-8").split(f"\n### {section(exercise)}\n")
    assert f"def {exercise.name}(" in below.partition("\n### ")[0]


@pytest.mark.parametrize(("exercise", "hint"), MISTAKES, ids=lambda value: getattr(value, "name", value))
def test_each_classic_mistake_is_recognised(exercise, hint):
    verdicts = diagnose(exercise, exercise.with_mistake(hint)).values()
    assert hint in verdicts and all(verdict == hint or verdict.startswith("right") for verdict in verdicts)


def verdicts_on(exercise, change):
    """What is said of the right gradients, each array changed by a function."""

    def answer(f, d, *inputs):
        return {name: change(array) for name, array in exercise.answers(f, d).items()}

    return diagnose(exercise._replace(answer=answer), exercise.function).values()


@pytest.mark.parametrize(
    ("factor", "hint"),
    [
        (-1, "it is −1 times the gradient"),
        (0.5, "it is half of the gradient"),
        (2, "it is twice the gradient"),
        (1 / K, "like a mean over the 3 samples where the sum belongs"),
        (K, "a sum over the 3 samples where the mean belongs"),
        (1 / B, "a mean over the 5 images where the sum belongs"),
        (B, "a sum over the 5 images where the mean belongs"),
    ],
)
@pytest.mark.parametrize("name", ["squared_error_backward", "posterior_log_density_backward", "iwae_backward"])
def test_a_lost_factor_is_named(name, factor, hint):
    assert all(hint in verdict for verdict in verdicts_on(BY_NAME[name], lambda array: factor * array))


DENSITY, KL, MLP = "posterior_log_density_backward", "gaussian_kl_backward", "mlp_backward"
W, b = 'out=d_params[f"W{i}"])', 'out=d_params[f"b{i}"])'


@pytest.mark.parametrize(
    ("name", "old", "new", "hint"),
    [
        (DENSITY, "-xp.sum(d_log_qz, axis=0)[:, None]", "-d_log_qz[..., None]", "right once it is summed over axis 0"),
        (DENSITY, " * xp.ones_like(log_std)", "", "right once it is copied along the other axes"),
        (DENSITY, "xp.sum(d", "xp.mean(d", "1/3 of the gradient, like a mean over the 3 samples"),
        (MLP, f"d_a, {W}", "d_a); d_params[f'W{i}'] = 0 * d_a", "another array"),
        (MLP, "xp.sum(d_a, axis=0, out", "xp.mean(d_a, axis=0, out", "like a mean over the 5 images"),
        (MLP, f"xp.sum(d_a, axis=0, {b}", "pass", "never written, at 6 of 6 places, first at index (0)"),
        (MLP, "xp.matmul(d_a, ", "xp.matmul(d_a.T, ", "raises ValueError: matmul"),
        (KL, "d_kl * mean, d", "mean, d", "the gradient that arrives is not multiplied in"),
        (KL, "d_kl * mean, ", "", "returns 1 gradients, expected 2: mean, log_std"),
        (KL, "d_kl * mean", "xp.log(-abs(mean))", "not finite"),
        (KL, "* mean", "* mean + (mean == mean[1, 2])", "largest at index (1, 2)"),
        (KL, "d_kl * mean", "(d_kl * mean).T", "it is transposed"),
        (KL, "d_kl * mean", "0 * mean", "not yet: it is zero everywhere"),
        (MLP, "return d_h if input_gradient else None", "return None", "not written"),
        (KL, "d_kl * mean", "print", "is a builtin_function_or_method, expected an array (5, 7)"),
        ("geco_backward", "now.lam *", "1 *", "it is 1/λ times the gradient"),
        ("geco_backward", "return Gradient", "return dict", "returns a dict, expected Gradient(kl=…, err=…)"),
        ("dreg_backward", "log_qz_of_z=", "log_qz=", "a gradient of log_qz, which has to be None"),
        ("backward", "if d.log_pz is not None", "if True", "fails for GECO, which leaves out terms"),
        ("iwae_backward", "-1 / images", "1 / 0", "raises ZeroDivisionError: "),
    ],
)
def test_what_else_goes_wrong_is_named(name, old, new, hint):
    verdicts = diagnose(BY_NAME[name], changed(BY_NAME[name].function, old, new))
    assert any(hint in verdict for verdict in verdicts.values()), verdicts


@each_exercise
def test_what_nothing_explains_is_given_no_hint(exercise):
    noise = np.random.default_rng(2)
    verdicts = verdicts_on(exercise, lambda array: array * noise.uniform(1.0, 1.001, np.shape(array)))
    assert all(verdict.startswith("not yet: relative error") for verdict in verdicts)


HEAD = "def squared_error_backward(xp, d_err, x, x_hat):"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def f(:", "cannot be run: SyntaxError"),
        ("import sys; sys.exit()", "cannot be run: SystemExit"),
        ("", "defines no squared_error_backward"),
        (f"{HEAD}\n    return x @ x", "raises ValueError: matmul"),
        (f"{HEAD}\n\n    return nothing", "(line 3)"),
        (f"{HEAD} pass", "not written"),
    ],
)
def test_a_file_that_fails_is_answered_in_a_sentence(text, told, folder, said):
    (folder / file_of(EXERCISES[0])).write_text(text, "utf-8")
    status, out, err = said("check", folder, 1)
    assert status == 1 and told in out and "Traceback" not in out + err


@pytest.mark.parametrize("command", ["start {}", "check {}/none", "check {} 13", "fault {} 9", "fault {} 0"])
def test_a_command_that_cannot_be_followed_is_refused_and_overwrites_nothing(command, folder, said):
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    status, out, err = said(*command.format(folder).split())
    assert status == 2 and len(err.splitlines()) == 1 and not out
    assert before == {path: path.read_bytes() for path in folder.rglob("*")}


@functools.cache
def without_a_mistake(method: str, folder: Path) -> np.ndarray:
    return trained(copy(folder / method), method)


@each_fault
def test_a_fault_trains_to_plausible_numbers_that_are_not_those_of_ref(fault, tmp_path, tmp_path_factory):
    numbers = trained(copy(tmp_path / "fault", fault), fault.method)
    assert np.isfinite(numbers).all() and 0 < numbers[-1, 1] < 20 and 0.5 < numbers[-1, 2] < 0.9 * numbers[0, 2]
    right = without_a_mistake(fault.method, tmp_path_factory.getbasetemp())
    assert not np.array_equal(numbers, right)


@each_fault
def test_a_fault_is_one_text_of_the_function_that_it_names(fault):
    paths = [ROOT / "tests/exercises/loop.py", *(ROOT / "ref").rglob("*.py")]
    texts = [definitions(path.read_text("utf-8")).get(fault.function, "") for path in paths]
    assert sum(text.count(fault.right) for text in texts) == 1


def test_a_fault_is_told_only_to_who_names_it(tmp_path, said):
    fault, command = FAULTS[4], ["fault", tmp_path, 5]
    status, told, _ = said(*command)
    assert status == 0 and fault.function not in told and fault.about not in told and "█" in told
    assert said(*command, "--answer", "geco_backward") == (1, "No: geco_backward is as it should be.\n", "")
    assert said(*command, "--answer", "nothing")[0] == 2
    status, told, _ = said(*command, "--answer", fault.function)
    assert status == 0 and fault.about in told
    assert fault.function in functions(tmp_path / "fault_5")


@each_fault
def test_the_residuals_show_a_fault_that_makes_a_gradient_wrong_and_no_other(fault, tmp_path):
    shown = residuals(copy(tmp_path / "fault", fault))
    assert ("no residual shows it" in shown) == (fault.function in ("step", "relative_multiplier"))
    assert "not autograd's" in shown or "no residual shows it" in shown
