"""--method all: which runs it makes, reuses and refuses, and what its tables, pictures and page hold."""

import base64
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run
from data import DataError, load
from experiment import compare, options, page, pictures, tables, training
from ref import vae
from ref.objectives import METHODS
from tests.tested import compute, host, on_command_line, open_tested

QUICK = ["--method", "all", "--jobs", "1", "--epochs", "1", "--hidden", "8", "--latent", "3", "--nll-samples", "2"]
SEEDS_AND_SWEEP = [*QUICK, "--seeds", "2", "--sweep", "kappa=1.0,1.2,2", "beta=2"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with a comparison of two seeds and a sweep."""
    out = tmp_path_factory.mktemp("all")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        assert run.main([*SEEDS_AND_SWEEP, *on_command_line(), "--out", "out"]) == 0
    return out / "out"


def contents(folder: Path) -> dict:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def planned(*chosen: str, data="digits", out="out"):
    args = options.parser("").parse_args([*QUICK, *on_command_line(), "--out", str(out), *chosen])
    images = load(data)
    return compare.planned(args, images), compare.planned_sweep(args, images)


def summaries(out: Path, method: str) -> list[dict]:
    return [json.loads((out / f"{method}-{seed}" / "summary.json").read_text()) for seed in (0, 1)]


def test_it_leaves_the_comparison_and_a_run_for_each_method_seed_and_value(compared):
    folders = {str(path.parent.relative_to(compared)) for path in compared.rglob("summary.json")}
    sweep = {"sweep/geco-kappa-1.0-0", "sweep/geco-kappa-2.0-0", "sweep/beta-vae-beta-2.0-0"}
    assert folders == sweep | {f"{method}-{seed}" for method in METHODS for seed in (0, 1)}  # κ = 1.2 is there already
    assert {path.name for path in compared.iterdir() if path.is_file()} == {*compare.COMPARISON_FILES}


def test_its_figures_are_mean_and_standard_deviation_of_the_runs(compared):
    result = json.loads((compared / "comparison.json").read_text())
    for method in METHODS:
        for key in (*tables.FIGURES, *tables.OTHERS):
            values, figure = [s[key] for s in summaries(compared, method)], result["methods"][method]["figures"][key]
            if None in values:
                assert figure is None
            else:
                assert figure["mean"] == pytest.approx(np.mean(values))
                assert figure["std"] == pytest.approx(np.std(values, ddof=1))
    images = load("digits")
    error = np.sum((images.test / 255 - images.train.mean(axis=0) / 255) ** 2, axis=1).mean()
    assert result["mean_image"] == {"rate": 0, "distortion": pytest.approx(error)}
    assert (result["seeds"], result["test_images"], result["nll_samples"]) == ([0, 1], 299, 2)


def test_the_sweeps_go_through_the_defaults_own_run(compared):
    sweeps = json.loads((compared / "comparison.json").read_text())["sweeps"]
    geco = summaries(compared, "geco")[0]
    assert [point["value"] for point in sweeps["kappa"]["points"]] == [1.0, 1.2, 2.0]
    assert sweeps["kappa"]["points"][1]["figures"]["rate"] == {"mean": geco["rate"], "std": None}
    assert [point["value"] for point in sweeps["beta"]["points"]] == [0.5, 2.0] and sweeps["beta"]["title"] == "β-VAE"


def test_the_linear_bound_falls_from_the_total_variance(compared):
    bound = np.array(json.loads((compared / "comparison.json").read_text())["linear_bound"])
    assert bound[0, 0] == pytest.approx(0, abs=1e-9) and bound[0, 1] == pytest.approx(
        (load("digits").train / 255).var(axis=0).sum(), rel=1e-4
    )
    assert (np.diff(bound, axis=0) * [1, -1] > 0).all()


def test_the_same_command_reuses_every_run_and_more_seeds_add_theirs(compared, monkeypatch):
    monkeypatch.chdir(compared.parent)
    runs = {path: content for path, content in contents(compared).items() if path.parent != compared}
    made = []
    monkeypatch.setattr(compare, "run_one", lambda args, *rest: made.append((args.method, args.seed)))
    assert run.main([*SEEDS_AND_SWEEP, *on_command_line(), "--out", "out"]) == 0 and made == []
    assert {path: content for path, content in contents(compared).items() if path.parent != compared} == runs
    # The runs of the third seed, which nobody has made:
    assert run.main([*QUICK, *on_command_line(), "--out", "out", "--seeds", "3"]) == 2
    assert made == [(method, 2) for method in METHODS]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["--lr", "0.01"], "out/vae-0 holds a run made with --lr 0.001, and now --lr 0.01 is asked for"),
        (["--kappa", "1.3"], "out/geco-0 holds a run made with --kappa 1.2, and now --kappa 1.3"),
        (["--data", "sprites"], "out/vae-0 holds a run made with --(data|batch|hidden|lr)"),
    ],
)
def test_runs_of_other_options_are_left_alone_with_one_sentence(compared, changes, sentence, monkeypatch, capsys):
    monkeypatch.chdir(compared.parent)
    before = contents(compared)
    assert run.main([*QUICK, *on_command_line(), *changes, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error) and error.count("\n") == 1 and "--force" in error
    assert contents(compared) == before


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("summary.json", None, "a half-finished run, without summary.json"),
        ("checkpoint.npz", None, "a half-finished run, without checkpoint.npz"),
        ("config.json", "", "cannot be read"),
        ("config.json", "[]", "cannot be read"),
        ("config.json", '{"options": 3}', "cannot be read"),
        ("summary.json", "{", "cannot be read"),
        ("summary.json", '{"rate": 1}', "a run of another version, without active_units"),
    ],
)
def test_half_a_run_and_a_broken_one_are_refused_and_made_anew_with_force(name, content, sentence, compared, tmp_path):
    copy = shutil.copytree(compared, tmp_path / "out")
    (copy / "geco-0" / name).unlink()
    if content is not None:
        (copy / "geco-0" / name).write_text(content)
    members, _ = planned(out=copy)
    with pytest.raises(options.UsageError, match=f"geco-0 holds .*{sentence}.*--force"):
        compare.finished(members[2])
    forced, _ = planned("--force", out=copy)
    assert [compare.finished(run) for run in forced] == [True, True, False, True, True]  # whole ones are reused


def test_a_checkpoint_that_cannot_be_read_gets_one_sentence(tmp_path):
    (tmp_path / "checkpoint.npz").write_text("not a checkpoint")
    with pytest.raises(DataError, match="expected a checkpoint"):
        compare.theta_of(tmp_path)


def test_a_folder_with_a_single_run_or_with_leftovers_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for out, name, sentence in (
        ("a", "config.json", "holds a single run"),
        ("b", "geco-iwae-0/curves.png", "a half-finished run, without config.json"),
    ):
        Path(out, name).parent.mkdir(parents=True)
        Path(out, name).write_text("{}")
        before = contents(tmp_path)
        assert run.main([*QUICK, "--out", out]) == 2 and re.search(sentence, capsys.readouterr().err)
        assert contents(tmp_path) == before


def test_each_method_gets_the_options_that_it_takes():
    (*members,), _ = planned("--kappa", "2", "--beta", "3", "--samples", "7", "--multiplier", "plain", "--seed", "4")
    by = {args.method: args for args in members}
    assert {name: args.kappa for name, args in by.items() if args.kappa} == {"geco": 2, "geco-iwae": 2}
    assert {name: args.beta for name, args in by.items() if args.beta} == {"beta-vae": 3}
    assert {name: args.samples for name, args in by.items()} == {
        **{"vae": 1, "beta-vae": 1, "geco": 1},
        **{"iwae": 7, "geco-iwae": 7},
    }
    assert {name for name, args in by.items() if args.multiplier} == {"geco", "geco-iwae"}
    assert {args.seed for args in members} == {4}


def test_a_sweep_without_values_is_that_of_the_data_set_and_of_own_images_by_their_kappa(tmp_path):
    _, swept = planned("--sweep")
    assert {args.kappa for args in swept if args.method == "geco"} == {*compare.SWEEPS["digits"]["kappa"]}
    images = np.random.default_rng(0).uniform(size=(40, 5, 4)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", train=images[:30], test=images[30:])
    members, swept = planned("--data", str(tmp_path / "mine.npz"), "--sweep", data=str(tmp_path / "mine.npz"))
    kappas = [args.kappa / members[2].kappa for args in swept if args.method == "geco"]
    assert kappas == pytest.approx(compare.OWN_SWEEP["kappa"], rel=1e-2)


def test_the_columns_of_a_picture_show_the_same_images_and_the_same_draws(monkeypatch, tmp_path):
    args, data = options.parser("").parse_args(["--hidden", "8", "--latent", "4"]), load("digits")
    args, backend = options.complete(args, data), open_tested("float32")
    read, shown, labels, grid, panels = (
        training.reader(backend, data.test, False),
        [],
        [],
        pictures.grid,
        pictures.panels,
    )
    model, state = training.build(args, backend, data, training.reader(backend, data.train, False))
    monkeypatch.setattr(pictures, "grid", lambda pixels, *rest: shown.append(pixels) or grid(pixels, *rest))
    monkeypatch.setattr(pictures, "panels", lambda grids: labels.append([*grids]) or panels(grids))
    thetas = {"one": state["theta"], "other": 1.1 * state["theta"], "same": state["theta"]}
    pictures.draw_comparison(tmp_path, backend, model, thetas, read, 299, data.shape)
    assert labels == 2 * [["ground truth", *thetas]]
    for truth, one, other, same in (shown[:4], shown[4:]):
        np.testing.assert_allclose(truth, data.test[:24] / 255, atol=1e-6)
        assert (one == same).all() and (one != other).any()
    model, params = host((model, vae.params_of(model, state["theta"])))
    mean, _, _ = compute(vae.encode, model, params, shown[0])
    np.testing.assert_allclose(shown[1], compute(vae.decode, model, params, mean)[0], atol=1e-6)
    assert (shown[1] != shown[5]).any()


def test_every_panel_has_the_same_grey_scale_and_is_nowhere_cut():
    ramp = np.linspace(0, 1, 64)[None].repeat(4, axis=0)
    grids = {name: pictures.grid(by * ramp, (8, 8, 1), 2) for name, by in (("low", 0.5), ("full", 1), ("over", 2))}
    sheet = np.asarray(pictures.panels(grids))
    panel, top = 102, 28  # two tiles of 48 and their margins
    left = [i * (panel + 14) for i in range(3)]
    tiles = [sheet[top + 2 : top + 50, x + 2 : x + 50] for x in left]
    assert [int(tile.max()) for tile in tiles] == [128, 255, 255] and all(tile.min() == 0 for tile in tiles)
    assert sheet.shape == (top + panel, left[-1] + panel)
    assert all((sheet[:top, x : x + panel] < 128).any() for x in left)  # the labels


def fake_result(data: str, seeds=(0, 1)) -> dict:
    """A comparison whose figures are 5, 6, 7, … ± 0.25 in the order of the columns, on the data set of that name."""
    std, names = 0.25 if len(seeds) > 1 else None, (*tables.FIGURES, *tables.OTHERS)
    figures = {name: {"mean": 5.0 + i, "std": std} for i, name in enumerate(names)} | {"mig": None}
    methods = {m: compare.row(m, [dict.fromkeys(names, 5.0)], data) | {"figures": figures} for m in METHODS}
    return {
        "command": ["run.py", "--method", "all"],
        "data": data,
        "test_images": 7,
        "seeds": list(seeds),
        "nll_samples": 3,
        "mean_image": {"rate": 0.0, "distortion": 52.7},
        "methods": methods,
        "sweeps": {},
        "linear_bound": [(0.0, 52.7), (40.0, 14.6)],
    }


def test_the_slides_numbers_stand_beside_ours_in_their_columns():
    (_, slides), (_, honest) = tables.tables(fake_result("mnist"))
    assert slides[0][1].startswith("KL(q(z|x)‖p(z)), the slides' “Marginal KL”") and "at the mean" in slides[0][3]
    assert slides[3] == ["GECO", "5.0000 ± 0.2500", "10.4975", "15.0000 ± 0.2500", "14.6269"]
    assert slides[4] == ["IWAE", "5.0000 ± 0.2500", "–", "15.0000 ± 0.2500", "–"]
    assert slides[5][2::2] == ["1.3640", "12.9214"] and slides[6][0] == "the mean image"
    assert len(honest[0]) == len(tables.FIGURES) and "MIG" not in honest[0]  # without factors no gap
    (_, slides), (_, honest) = tables.tables(fake_result("cifar10", seeds=(0,)))
    assert slides[3][1:3] == ["5.0000", "383.0849"] and slides[5][2] == "–" and honest[1][1] == "5.00"


def test_the_markdown_is_a_table_whose_rows_have_its_columns(compared):
    text = (compared / "comparison.md").read_text()
    rows = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows[:8]} == {7} and len({len(row) for row in rows[8:]}) == 1 and len(rows) == 8 + 7 + 7
    assert [row[1].strip() for row in rows[-2:]] == ["GECO, --kappa 1.2", "GECO, --kappa 2"]
    assert "log N = 5.70" in text and "seeds 0, 1" in text


class Page(HTMLParser):
    """What a page holds: its tags, and the sources of its images."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.sources, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_holds_every_picture_and_needs_nothing_else(compared):
    text = (compared / "report.html").read_text()
    found = Page(text)
    assert found.open == [] and not {"script", "link", "iframe"} & {*found.tags} and "http" not in text
    assert len(found.sources) == 3 + 3 * len(METHODS) and found.tags.count("table") == 3
    prefix = "data:image/png;base64,"
    pngs = [base64.b64decode(source.removeprefix(prefix), validate=True) for source in found.sources]
    assert all(Image.open(io.BytesIO(png)).size[0] > 100 for png in pngs)
    assert (compared / "reconstructions.png").read_bytes() in pngs and len({*pngs}) == len(pngs)
    assert "@media print" in text and "width=device-width" in text


def test_the_page_escapes_what_it_is_given():
    assert "<td>&lt;b&gt;</td>" in page.table([["a"], ["<b>"]])


def test_the_figure_shows_every_method_and_calls_the_slides_points_no_rate_distortion_pair(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(pictures, "save_figure", lambda path, figure: figures.append(figure))
    pictures.draw_rate_distortion(tmp_path / "x.png", fake_result("mnist"))
    pictures.draw_rate_distortion(tmp_path / "x.png", fake_result("digits"))
    legends = [[t.get_text() for t in figure.axes[0].get_legend().get_texts()] for figure in figures]
    assert all({m.title for m in METHODS.values()} < {*legend} for legend in legends)
    assert any("not a rate–distortion pair" in label for label in legends[0])
    assert not any("slides" in label for label in legends[1])
    crosses = [
        tuple(map(float, line.get_xydata()[0]))
        for line in figures[0].axes[0].lines
        if line.get_marker() == "x" and len(line.get_xydata())
    ]
    assert {*crosses} == {*compare.SLIDES["mnist"].values()}
    low, high = figures[0].axes[0].get_ylim()
    assert low <= 12.92 and high >= 55.85 and math.isfinite(high)
