"""Comparisons of finished runs: which runs they read, make and refuse; their rows, pictures and page."""

import base64
import dataclasses
import io
import math
import re
import shlex
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import run
from data import load as load_data
from experiment import commands, comparison, evaluation, pictures, report
from experiment.command_line import SWEPT, of_a_run, parsed
from experiment.comparison import Finished, rows_of
from experiment.record import Start, UsageError
from experiment.run_folder import PICTURES, read_checkpoint, write_checkpoint
from ref.more import linear
from ref.objectives import METHODS
from tests.shell.runs import completed, contents, json_of, made, refused, status
from tests.shell.undrawn import undrawn
from tests.tested import TESTED, on_command_line

TINY = ["--data", "digits", "--epochs", "1", "--hidden", "8", "--latent", "3", "--nll-samples", "2"]
ALL = ["--method", "all", *TINY]
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with a comparison of every method over two seeds."""
    out = tmp_path_factory.mktemp("all")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        undrawn(patch)
        assert status(*ALL, "--seeds", "2", "--out", "out") == 0
    return out / "out"


def times(folder: Path) -> dict:
    """Every file in a folder and below, and when it was written."""
    return {path: (content, path.stat().st_mtime_ns) for path, content in contents(folder).items()}


def comparison_in(out) -> dict:
    """comparison.json, its rows by name."""
    result = json_of(out, "comparison.json")
    return result | {"rows": {row["name"]: row for row in result["rows"]}}


def compared_with(folders, out, *more: str) -> dict:
    assert status("--compare", *folders, "--out", out, *more) == 0
    return comparison_in(out)


def altered(source: Path, out: Path, change, **arrays_of) -> None:
    """A copy of a run whose record is change(record), with other arrays."""
    shutil.copytree(source, out)
    path, before, config, history, arrays = read_checkpoint(out)
    arrays |= {name: made_of(arrays[name]) for name, made_of in arrays_of.items()}
    write_checkpoint(path, change(before), config, history, arrays)


def test_each_network_decodes_with_the_constants_of_its_own_checkpoint(monkeypatch):
    """Half of the directions that θ is told in adds half as much to the mean image."""
    sheets, center = [], load_data("digits").train.mean(axis=0).reshape(8, 8, 1) / 255
    made("source", "--epochs", "20", quick=TINY)
    altered(Path("source"), Path("other"), lambda run: run.but(lr=1.0), color=lambda color: color / 2)
    monkeypatch.setattr(pictures, "sheet", lambda rows, *_: sheets.append(rows) or Image.new("L", (1, 1)))
    compared_with(["source", "other"], "out")
    for _, (_, whole, *_), (_, half, *_) in sheets:
        inside = (whole > 0) & (whole < 1)
        np.testing.assert_allclose((half - center)[inside], (whole - center)[inside] / 2, atol=1e-5)
        assert len(sheets) == 2 and inside.mean() > 0.3
    altered(Path("source"), Path("third"), lambda run: run.but(lr=2.0), whiten=lambda whiten: -whiten)
    found = []
    monkeypatch.setattr(pictures, "draw_comparison", lambda _, models, data: found.extend(models.values()))
    compared_with(["source", "third"], "again")
    own, other = (model.backend.to_host(model.network.whiten) for model in found)
    assert own.any() and (other == -own).all()


def test_all_leaves_the_comparison_and_a_run_for_each_method_and_seed(compared):
    folders = {path.parent.name for path in compared.rglob("summary.json")}
    assert folders == {f"{method}-{seed}" for method in METHODS for seed in (0, 1)}
    assert {path.name for path in compared.iterdir() if path.is_file()} == {*comparison.FILES}
    lines = comparison.lines_of(json_of(compared, "comparison.json"))
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 2 + len(METHODS)  # a header and the mean image


def test_a_row_is_shown_by_its_first_run(compared, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "draw_comparison", lambda out, models, images: shown.extend(models.values()))
    compared_with([compared / "geco-0", compared / "geco-1"], "out")
    assert [model.run.seed for model in shown] == [0]


def test_a_row_has_mean_and_standard_deviation_over_the_seeds(compared):
    rows = comparison_in(compared)["rows"]
    assert len(rows) == len(METHODS)
    for row in rows.values():
        summaries = [json_of(compared / f"{row['method']}-{seed}", "summary.json") for seed in (0, 1)]
        assert row["seeds"] == [0, 1] and {*row["figures"]} == {*evaluation.COLUMNS}
        for key, figure in row["figures"].items():
            values = [summary.get(key) for summary in summaries]
            if None in values:
                assert figure is None
            else:
                assert figure == pytest.approx({"mean": np.mean(values), "std": np.std(values, ddof=1)})
    said = rows["GECO, --kappa 1.2"]["warnings"]  # an epoch is not enough for it
    assert [sentence.split(":")[0] for sentence in said] == ["seed 0", "seed 1"]
    assert "is not met" in said[0]


@pytest.mark.parametrize("binarize", ["none", "static", "dynamic"])
def test_the_mean_image_and_the_linear_bound_are_of_the_pixels_of_the_models(binarize):
    """By hand: a pixel that is white with probability x is missed by x(1 − m)² + (1 − x)m², and varies by m(1 − m)."""
    made("out", "--method", "vae", "--binarize", binarize, "--likelihood", "gaussian", quick=TINY)
    found, digits = compared_with(["out"], "compared"), load_data("digits")
    x, m = digits.test / 255, digits.train.mean(axis=0) / 255
    grey = np.sum((x - m) ** 2, axis=1).mean(), (digits.train / 255).var(axis=0).sum()
    drawn = np.sum(x * (1 - m) ** 2 + (1 - x) * m**2, axis=1).mean(), np.sum(m * (1 - m))
    assert drawn[0] > 1.3 * grey[0]
    (error, variance), rounding = (grey, 1e-5) if binarize == "none" else (drawn, 0.02)
    assert found["mean_image"] == {"rate": 0, "error": pytest.approx(error, rel=rounding)}
    assert found["linear_bound"][0] == pytest.approx([0, variance], rel=rounding, abs=1e-5)


def test_runs_with_other_options_are_rows_of_their_own_named_by_what_differs(compared, capsys):
    for name, *changes in (("k", "--kappa", "2.5"), ("w", "--latent", "5", "--seed", "7"), ("s", "--samples", "4")):
        made(name, *changes, quick=TINY)
    before = times(compared) | times(Path())
    found = compared_with([compared, "k", "w", "s", "k", compared / "geco-0"], "out")["rows"]
    after = times(compared) | times(Path())
    assert {path: after[path] for path in before} == before
    assert {title: row["seeds"] for title, row in found.items() if row["method"] == "geco"} == {
        "GECO, --kappa 1.2 --latent 3": [0, 1],
        "GECO, --kappa 2.5 --latent 3": [0],
        "GECO, --kappa 1.2 --latent 5": [7],
        "GECO, --kappa 1.2 --samples 4 --latent 3": [0],
    }
    refused(capsys, ["--compare", "k", "--out", "out"], "--out out holds another comparison")
    assert [*compared_with(["k"], "out", "--force")["rows"]] == ["GECO, --kappa 2.5"]


GECO = completed(*TINY, "--kappa", "2").run
OTHERS = {
    "tf32": GECO.but(precision="tf32"),
    "multiplier_rate": GECO.but(multiplier_rate=0.5),
    "vae": completed(*TINY, "--method", "vae").run,
}
ALL_OF_THEM = [GECO, *OTHERS.values(), GECO.but(start=Start("a", "0")), GECO.but(start=Start("a", "1"))]
ALL_OF_THEM += [GECO.but(hidden=(), activation=None), GECO.but(seed=1)]
ALL_OF_THEM += [GECO.but(likelihood="bernoulli", variance=None, output="sigmoid")]


SUMMARY = {"rate": 8.3, "nll": 1.0}


def finished(*runs) -> list[Finished]:
    return [Finished(Path(f"runs/{i}"), run, {}, SUMMARY | {"steps": 11 * run.epochs}) for i, run in enumerate(runs)]


@given(st.lists(st.sampled_from(ALL_OF_THEM), min_size=1, max_size=12))
def test_two_rows_never_share_a_name_no_run_is_lost_and_a_copy_is_no_second_seed(runs):
    rows, _ = rows_of(finished(*runs))
    assert len({row["name"] for row in rows}) == len(rows)
    distinct = [run for i, run in enumerate(runs) if run not in runs[:i]]
    assert sorted(f"runs/{runs.index(run)}" for run in distinct) == sorted(out for row in rows for out in row["runs"])
    for row in rows:
        assert len({*row["seeds"]}) == len(row["seeds"])
        assert (row["figures"]["rate"]["std"] is None) == (len(row["seeds"]) == 1)
    assert len(rows) == len({repr(run.but(seed=0)) for run in distinct})


def test_an_option_that_is_set_in_one_of_two_runs_tells_them_apart():
    for other, *names in (
        ("tf32", "GECO, --kappa 2.0 --precision float32", "GECO, --kappa 2.0 --precision tf32"),
        ("multiplier_rate", "GECO, --kappa 2.0", "GECO, --kappa 2.0 --multiplier-rate 0.5"),
        ("vae", "VAE", "GECO, --kappa 2.0"),
    ):
        rows, _ = rows_of(finished(GECO, OTHERS[other]))
        assert [row["name"] for row in rows] == names


def test_a_run_and_the_run_that_starts_from_it_are_two_rows_and_a_copy_of_a_run_none(capsys):
    made("a", quick=TINY)
    made("b", "--init-from", "a", "--epochs", "1", "--nll-samples", "2", quick=TINY[:2])
    assert status(*TINY[:2], "--init-from", "a", "--seeds", "2", "--out", "c", "--nll-samples", "2") == 0
    starts = [json_of(out, "config.json")["run"]["start"] for out in ("b", "c/geco-0", "c/geco-1")]
    assert starts[0] and starts == [starts[0]] * 3
    shutil.copytree("a", "copy")
    rows = compared_with(["a", "b", "copy"], "out")["rows"]
    assert {title: row["runs"] for title, row in rows.items()} == {
        "GECO, --kappa 1.2": ["a"],
        "GECO, --kappa 1.2 --init-from a": ["b"],
    }
    assert "\ncopy is left out: it is a copy of a\n" in capsys.readouterr().out


SLIDES = {  # their rate and error, on MNIST and on CIFAR-10
    "--method=vae": {"mnist": (1.58, 55.85), "cifar10": (31.97, 77.66)},
    "--method=beta-vae --beta=0.5": {"mnist": (10.59, 15.14), "cifar10": (59.5, 57.97)},
    "--method=geco --kappa=4": {"mnist": (10.5, 14.63)},
    "--method=geco --kappa=3.394": {"cifar10": (383.08, 11.44)},
    "--method=geco-iwae --kappa=4 --samples=5": {"mnist": (1.36, 12.92)},
}
OTHER_SETTINGS = ["--method=beta-vae --beta=4", "--method=geco --kappa=6.5", "--method=geco-iwae --kappa=4 --samples=6"]
OTHER_PIXELS = ["--variance=0.1", "--samples=3", "--binarize=dynamic", "--validation=20"]
OTHER_PIXELS += ["--binarize=dynamic --likelihood=bernoulli --output=sigmoid"]
SAME = ["", "--epochs=3 --seed=4"]


@pytest.mark.parametrize("beside", SAME + OTHER_PIXELS)
@pytest.mark.parametrize("settings", [*SLIDES, *OTHER_SETTINGS])
def test_the_slides_figures_stand_beside_runs_by_the_slides_settings_alone(settings, beside):
    for source in ("mnist", "cifar10", "digits", "mine/mnist", "source"):
        own = completed("--data=digits", *settings.split(), *beside.split()).run
        own = own.but(images=dataclasses.replace(own.images, source=source, name=source.split("/")[-1]))
        expected = SLIDES.get(settings, {}).get(source, ()) if beside in SAME else ()
        for latent in (200, 20):  # of which the slides' network on MNIST has 200
            (row,), _ = rows_of(finished(own.but(hidden=(512, 256), latent=latent)))
            figures = [row["figures"][name] for name in ("slides_rate", "slides_error")]
            shown = expected if latent == 200 or source != "mnist" else ()
            assert [figure["mean"] for figure in figures if figure] == pytest.approx(list(shown), abs=0.005)


def test_settings_are_shared_by_runs_that_all_have_them():
    _, of_both = rows_of(finished(GECO, OTHERS["vae"]))
    _, of_one = rows_of(finished(GECO, GECO.but(seed=1)))
    assert "--multiplier=relative" in of_one
    assert not [option for option in of_both if "multiplier" in option]
    assert {"--latent=3", "--hidden=8", "--variance=0.5", "--likelihood=gaussian"} <= {*of_both} <= {*of_one}
    assert not [option for option in of_one if re.match("--(kappa|seed|data|method)", option)]


def test_the_command_on_the_page_can_be_pasted_back():
    made("it's mine", quick=TINY)
    compared_with(["it's mine"], "my page")
    found = re.findall("<code>(.*?)</code>", Path("my page/report.html").read_text())
    code, settings = (unescape(re.sub("</?span>", "", text)) for text in found)
    python, program, *argv = shlex.split(code)
    assert (python, program) == ("python", "run.py")
    assert argv[1] == "it's mine" and "my page" in argv
    assert run.main([*argv, "--force"]) == 0
    again = completed("--data=digits", "--method=vae", *(o for o in shlex.split(settings) if "multiplier" not in o)).run
    assert again.hidden == (8,) and again.latent == 3


@pytest.mark.parametrize("changes", [{"binarize": "dynamic"}, {"sha256": "0"}, {"shape": (4, 16, 1)}], ids=str)
def test_runs_on_different_images_are_refused_with_one_sentence(changes, compared, capsys):
    other = lambda run: run.but(images=dataclasses.replace(run.images, **changes))  # noqa: E731
    altered(compared / "geco-0", Path("other"), other)
    refused(capsys, ["--compare", compared / "vae-0", "other"], "other and .*vae-0 are runs on different images")


REFUSED = {
    "--compare ALL/vae-0 --data mine.npz": "are not those that",
    "--compare ALL/vae-0 --lr 0.1": "--lr is not used by --compare",
    "--compare empty": "empty holds no run",
    "--compare ALL/vae-0 --out ALL/vae-1": "holds a run",
    "--compare half": "half holds a run that has not ended; go on by python run.py --resume half",
    "--method all --data digits --out ALL/vae-0": "a single run",
    "LIKE --lr 0.01": r"ALL/vae-0 holds another run, which has --lr 0.001; choose another --out, or add --force",
    "LIKE --kappa 1.3": "ALL/geco-0 holds another run",
    "LIKE --binarize static": "ALL/vae-0 holds another run",
}


def test_what_cannot_be_compared_or_made_is_left_alone_with_one_sentence(compared, capsys):
    Path("empty").mkdir()
    np.savez("mine.npz", train=np.eye(64, dtype=np.float32), test=np.eye(64, dtype=np.float32))
    shutil.copytree(compared / "geco-0", "half")
    Path("half/summary.json").unlink()
    before, like = times(compared), shlex.join([*ALL, *on_command_line(), "--out", "ALL"])
    for argv, sentence in REFUSED.items():
        argv = argv.replace("LIKE", like).replace("ALL", str(compared))
        refused(capsys, argv.split(), sentence.replace("ALL", str(compared)))
    assert times(compared) == before


def test_the_same_command_reuses_every_run_and_goes_on_with_half_a_run(compared):
    out = Path(shutil.copytree(compared, "out"))
    (out / "geco-0/summary.json").unlink()
    before = {path: found for path, found in times(out).items() if path.parent not in (out, out / "geco-0")}
    assert status(*ALL, "--seeds", "3", "--out", "out") == 0
    after = times(out)
    assert {path: after[path] for path in before} == before
    assert json_of(out / "geco-0", "summary.json") == json_of(compared / "geco-0", "summary.json")
    assert {path.name for path in out.iterdir() if path.is_dir()} == {f"{m}-{s}" for m in METHODS for s in range(3)}
    assert all(row["seeds"] == [0, 1, 2] for row in comparison_in(out)["rows"].values())


def test_a_broken_run_is_refused_before_any_training_and_made_anew_with_force(compared):
    of_geco, standing_of = read_checkpoint(compared / "geco-0").run, commands.standing_of
    for name, content, sentence in (
        ("checkpoint.npz", None, "holds no checkpoint.npz"),
        ("checkpoint.npz", "not a checkpoint", "expected a checkpoint"),
        ("summary.json", "{", "cannot be read"),
        ("summary.json", '{"rate": 1}', "a run of another version, without error"),
    ):
        shutil.rmtree("geco-0", ignore_errors=True)
        copy = Path(shutil.copytree(compared / "geco-0", "geco-0"))
        assert standing_of(of_geco, copy, False) == standing_of(of_geco, copy, True) == "whole"
        (copy / name).unlink()
        if content:
            (copy / name).write_text(content)
        with pytest.raises(UsageError, match=f"geco-0.*{sentence}.*--force"):
            standing_of(of_geco, copy, False)
        assert standing_of(of_geco, copy, True) == "missing"


def test_runs_on_own_images_have_one_network_and_one_variance(capsys):
    np.save("x.npy", np.random.default_rng(0).uniform(size=(60, 9)) ** 2)
    chosen = ["--epochs", "1", "--nll-samples", "2", "--out", "all"]
    assert status("--data", "x.npy", "--method", "all", "--kappa", "0.3", "0.4", *chosen) == 0
    runs = [found.run for found in comparison.runs_in([Path("all")])]
    assert len(runs) == len(METHODS) + 2
    assert len({(one.hidden, one.latent, one.variance) for one in runs}) == 1
    assert runs[0].variance == pytest.approx(0.3**2 / 9)
    assert f"chosen from the images, for all runs: --latent {runs[0].latent}, " in capsys.readouterr().out


def test_each_method_gets_the_options_that_it_takes():
    asked = {"method": "all", "data": "digits", "kappa": 2, "beta": 3, "samples": 7, "multiplier": "plain", "lr": 1}
    constrained = {"kappa": 2, "multiplier": "plain"}
    own = {"vae": {}, "beta-vae": {"beta": 3}, "geco": constrained, "iwae": {"samples": 7}, "dreg": {"samples": 7}}
    own |= {"geco-iwae": constrained | {"samples": 7}, "rate": {"multiplier": "plain"}, "vr-iwae": {"samples": 7}}
    own["sigma-vae"] = {}
    found = commands.each_run(asked | {"seed": 4}, 1)
    for name in METHODS:
        common = {"method": name, "data": "digits", "lr": 1, "seed": 4}
        assert found[f"{name}-4"] == common | own[name]


def test_the_linear_bound_ends_where_the_known_variances_end(compared, monkeypatch):
    bound = np.array(comparison_in(compared)["linear_bound"])
    total = (load_data("digits").train / 255).var(axis=0).sum()
    assert bound[-1, 1] == pytest.approx(total / 100)
    assert (np.diff(bound, axis=0) * [1, -1] > 0).all()
    monkeypatch.setattr(linear, "principal_variances", lambda *_: ([4.0, 2.0], 1.5))
    known = np.array(comparison.linear_bound(TESTED, load_data("digits"), False))
    assert known[-1] == pytest.approx([0.5 * np.log(2), 2 + 2 + 1.5])
    assert known[0] == pytest.approx([0, 7.5])


def test_a_cell_is_mean_and_spread_and_counts_are_whole():
    runs = [{"rate": 1.0, "active_units": 3}, {"rate": 2.0, "active_units": 4}]
    one, both = evaluation.figures_of(runs[:1]), evaluation.figures_of(runs)
    header, *lines = evaluation.table({"one": one, "both": both, "none": evaluation.figures_of([{}])})
    assert header == ["", "rate", "active"]
    assert lines == [["one", "1.00", "3"], ["both", "1.50 ± 0.71", "3.5 ± 0.7"], ["none", "–", "–"]]


class Page(HTMLParser):
    """What a page holds: its tags, and the sources of its images."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.sources, self.open, self.places = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        self.places += [f"#{value}" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_holds_every_picture_and_needs_nothing_else(compared, monkeypatch):
    monkeypatch.chdir(compared.parent)  # where its command was given
    text = (compared / "report.html").read_text()
    found, prefix = Page(text), "data:image/png;base64,"
    assert found.open == [] and not {"script", "link", "iframe"} & {*found.tags}
    assert "http" not in text
    links = [source for source in found.sources if source.startswith("#")]
    assert {*links} == {*found.places} and len(found.places) == 2 + len(METHODS)
    pngs = {base64.b64decode(source.removeprefix(prefix), validate=True) for source in {*found.sources} - {*links}}
    assert all(Image.open(io.BytesIO(png)).size[0] > 100 for png in pngs)
    ours = [compared / name for name in report.COMPARED]
    ours += [compared / f"{method}-0" / name for method in METHODS for name in PICTURES]
    assert pngs == {path.read_bytes() for path in ours}
    assert "--latent=3" in text and "numpy" in text and text.count("<tr>") == 2 + len(METHODS)
    result = json_of(compared, "comparison.json")
    rows = [result["rows"][0] | {"name": "<i>", "warnings": ["<u>"]}, *result["rows"][1:]]
    result |= {"data": "<b>", "rows": rows, "settings": "<s>"}
    text = report.page(result, "<q>", comparison.lines_of(result), compared)
    for tag in "biusq":
        assert f"&lt;{tag}&gt;" in text and tag not in Page(text).tags
    assert '<td><a href="#run-0"><span>&lt;i&gt;</span></a></td>' in text


def test_a_run_has_a_page_with_its_figures_its_pictures_and_its_warnings(capsys):
    summary, error = made("out", "--kappa", "0.01", "--epochs", "4", quick=TINY), capsys.readouterr().err
    warning = error.removeprefix("run.py: ").strip()
    assert error.count("\n") == 1 and "constraint is not met" in warning
    assert "κ² = 0.0001" in warning
    assert all(math.isfinite(v) for v in summary.values() if isinstance(v, float))
    found = Page(text := Path("out/report.html").read_text())
    assert found.open == [] and text.count("data:image/png") == len(PICTURES)
    assert unescape(text).count(warning) == 1
    assert {source for source in found.sources if source[0] == "#"} == {*found.places} == {"#figures", "#run-0"}
    assert f"<span>rate</span></td><td>{summary['rate']:.2f}</td>" in text
    assert "--kappa=0.01" in text
    shutil.copytree("out", "old")
    Image.new("L", (60, 9)).save("out/samples.png", dpi=(200, 200))
    Image.new("L", (70, 9)).save("out/curves.png")  # as version 0.2 stored a sheet
    assert compared_with(["out", "old"], "both")["rows"]["GECO, --kappa 0.01"]["warnings"] == [warning]
    text = Path("both/report.html").read_text()
    assert unescape(text).count(warning) == 1 and 'width="30"' in text and 'width="70"' in text


def test_a_name_breaks_between_its_options_alone():
    for expected in (
        ["GECO + IWAE,", "--kappa 4.1", "--samples 5"],
        ["GECO,", "--kappa 2.0", "--latent 3,", "runs/1"],
        ["the mean image"],
    ):
        name = " ".join(expected)
        assert report.BREAKS.split(name) == expected
        assert len(report.unbroken(name).split("</span> <span>")) == len(expected)


def test_methods_are_columns_where_the_terminal_is_wide_enough(monkeypatch):
    lines = [["", "rate", "error"], ["VAE", "1.00", "22.0"], ["GECO, --kappa 2.0", "3.00", "4.0"]]
    monkeypatch.setenv("COLUMNS", "34")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.for_terminal(lines).splitlines()]
    assert [line for line in table if "-" not in line[0]] == [
        ["", "VAE", "GECO"],
        ["", "", "--kappa 2.0"],
        ["rate", "1.00", "3.00"],
        ["error", "22.0", "4.0"],
    ]
    assert max(map(len, report.for_terminal(lines).splitlines())) == 30
    monkeypatch.setenv("COLUMNS", "29")
    assert report.for_terminal(lines) == evaluation.aligned(lines)


SWEEPS = {
    "--kappa 3 4.5": ["geco-kappa3-0", "geco-kappa4.5-0"],
    "--kappa 3 3 --seeds 2": ["geco-kappa3-0", "geco-kappa3-1"],
    "--method vae --seeds 2 --seed 5": ["vae-5", "vae-6"],
    "--kappa 0.1 0.10000000000000002": ["geco-kappa0.1-0", "geco-kappa0.10000000000000002-0"],
    "--method geco-iwae --kappa 3 4 --samples 2 7": [
        f"geco-iwae-kappa{kappa}-samples{samples}-0" for kappa in (3, 4) for samples in (2, 7)
    ],
    "--method all --beta 0.5 2": ["vae-0", "beta-vae-beta0.5-0", "beta-vae-beta2-0", "sigma-vae-0", "geco-0"],
}


@pytest.mark.parametrize("asked", SWEEPS)
def test_each_method_value_and_seed_is_a_run(asked):
    given = parsed(asked.split())
    found = commands.each_run(of_a_run(given), given.get("seeds", 1))
    assert [*found][: len(SWEEPS[asked])] == SWEEPS[asked]
    for own in found.values():
        assert not any(isinstance(own.get(name), tuple) for name in SWEPT)
    values = [(own.get("kappa"), own.get("samples")) for own in found.values()]
    if "samples" in asked:
        assert values == [(3, 2), (3, 7), (4, 2), (4, 7)]


def test_several_values_are_made_once_compared_and_said_beside_their_points(monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save_plot", lambda path, figure: drawn.append(figure))
    sweep = ["--kappa", "1", "1.2", "--seeds", "2", *TINY]
    assert status(*sweep) == 0
    out = Path("runs/digits-geco-kappa1x1.2")
    made_there = {f"geco-kappa{kappa}-{seed}" for kappa in ("1", "1.2") for seed in (0, 1)}
    assert {path.parent.name for path in out.rglob("summary.json")} == made_there
    rows = comparison_in(out)["rows"]
    assert {name: row["seeds"] for name, row in rows.items()} == {f"GECO, --kappa {k}": [0, 1] for k in (1.0, 1.2)}
    (axes,) = drawn[-1].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["best linear VAE (Gaussian)", "GECO"]
    beside = {text.get_text(): text.xy for text in axes.texts}
    for k, label in ((1.0, "κ = 1"), (1.2, "κ = 1.2")):
        figures = rows[f"GECO, --kappa {k}"]["figures"]
        assert beside.pop(label) == (figures["rate"]["mean"], figures["error"]["mean"])
    assert not beside
    before = times(out / "geco-kappa1-0")
    assert status(*sweep) == 0 and times(out / "geco-kappa1-0") == before
