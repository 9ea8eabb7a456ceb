"""explore.html: its decoder is the model's, its names are text, and in a browser its sliders move pixels."""

import json
import re
import shutil
import subprocess
import zlib
from base64 import b64decode
from html import unescape
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import run
from data import load as load_data
from experiment import explore, load
from experiment.run_folder import EXPLORE
from experiment.trained_model import TrainedModel
from tests.shell.runs import json_of, made, refused
from tests.shell.undrawn import undrawn
from tests.small import NUMPY, model_of, theta_of
from tests.tested import on_command_line

HOSTILE = ("</script><script>throw 1</script>", '<b>bold</b> & "quoted" it\'s', "<!-- 🦊 ]]>")
TEMPLATE = explore.TEMPLATE.read_text(encoding="utf-8")
COMMITTED = Path(explore.__file__).parent / EXPLORE


def part(name: str, page: str) -> str:
    """The text of a script of the page."""
    return re.search(rf'<script[^>]* id="{name}">(.*?)</script>', page, re.DOTALL)[1]


def contents(path: Path) -> dict:
    return json.loads(part("content", path.read_text(encoding="utf-8")))


def evaluated(script: str) -> np.ndarray:
    """The numbers that a script comes to behind the page's decoder, in a JavaScript engine."""
    engine = pytest.importorskip("py_mini_racer").MiniRacer()
    return np.array(json.loads(engine.eval(f"{part('decoder', TEMPLATE)}; {script}")))


@pytest.mark.parametrize("activation", ["silu", "tanh", "relu", None])
@pytest.mark.parametrize("coordinates", [0, 5])
@pytest.mark.parametrize("sigmoid", [True, False])
def test_the_page_decodes_as_the_model_does(activation, coordinates, sigmoid, monkeypatch):
    kind = {"hidden": (6, 5) if activation else (), "activation": activation, "sigmoid_output": sigmoid}
    network = model_of(coordinates=coordinates, **kind)
    run = SimpleNamespace(images=SimpleNamespace(shape=(1, 7, 1), pixels=7))
    model = TrainedModel(NUMPY, run, network, 0.5 * theta_of(network), [])
    z = np.random.default_rng(0).normal(size=(20, 3))
    expected = model.decode(z).reshape(20, 7)
    assert np.mean((expected > 0) & (expected < 1)) > 0.3
    for largest, tolerance in ((explore.HALF, 5e-3), (0, 1e-6)):  # as float16, as float32
        monkeypatch.setattr(explore, "HALF", largest)
        arrays = {name: explore.numbers(a) for name, a in explore.decoder_of(model).items()}
        said = {"decoder": arrays, "activation": activation, "output": "sigmoid" if sigmoid else ""}
        script = f"const model = modelOf({json.dumps(said)}), zs = {z.tolist()};"
        found = evaluated(f"{script} JSON.stringify(zs.map(z => [...decode(model, z)]))")
        assert np.abs(found - expected).max() < tolerance


def test_float16_is_read_as_numpy_reads_it():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    stored = json.dumps(explore.numbers(every))
    found = evaluated(f"JSON.stringify([...numbers({stored})])")
    assert np.array_equal(found.astype(np.float32), every.astype(np.float32))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with two short runs of unlike networks, of κ = 1.5 and κ = 2."""
    out = tmp_path_factory.mktemp("explore")
    with pytest.MonkeyPatch.context() as patch:
        undrawn(patch)
        made(out / "a", "--kappa", "1.5", "--output", "sigmoid", "--latent", "7")
        made(out / "b", "--kappa", "2")
    return out


def test_what_the_page_says_of_a_run_is_what_the_model_says(trained):
    found, data = contents(trained / "a" / EXPLORE), load_data("digits")
    summary, (one,), model = json_of(trained / "a", "summary.json"), found["runs"], load(trained / "a")
    rows = [int(name.removeprefix("test/")) for name in found["names"]]
    images = data.test[rows]
    assert zlib.decompress(b64decode(found["test"])) == images.tobytes()
    assert sorted(rows) == [*range(len(data.test))] != rows
    assert found["labels"] == data.labels[1][rows].tolist()
    assert (one["rate"], one["error"], one["target"]) == (summary["rate"], summary["error"], 2.25)
    assert sum(one["rates"]) == pytest.approx(summary["rate"], rel=1e-4)
    assert one["active"] == summary["active_units"]
    assert sorted(one["rates"][: one["active"]], reverse=True) == one["rates"][: one["active"]]
    mean, std = model.encode(images)
    for name, array in (("means", mean), ("stds", std)):
        stored = np.frombuffer(b64decode(one[name]["base64"]), "<f2").reshape(len(rows), -1)
        own = array[:, one["order"]][:, : stored.shape[1]]
        assert np.allclose(stored, own, rtol=1e-3, atol=1e-4)
    off = model.decode(mean).reshape(images.shape) - images / 255
    assert np.allclose(one["error_at_mean"], (off**2).sum(axis=1), rtol=1e-3)
    likely = model.scores(images, 500)["calibrated_log_likelihood"]
    assert np.corrcoef(one["log_likelihood"], likely)[0, 1] > 0.98
    assert np.mean(one["log_likelihood"]) == pytest.approx(likely.mean(), rel=0.02)
    assert one["weighs"] == {"figure": "error", "square": True}
    model.run = model.run.but(method="geco-iwae")  # whose constraint is on no figure of the page
    weighs = explore.of_run(model, summary, images, np.arange(len(images)), [])["weighs"]
    assert weighs == {"figure": "error under q_IW", "square": True}


def test_the_plane_of_the_classes_is_where_they_differ_and_comes_first():
    labels = np.arange(600) % 3
    means = np.random.default_rng(0).normal(size=(600, 4)) * [9, 1, 1, 9]
    means[:, 1:3] += 6 * np.stack([labels == 1, labels == 2], axis=1)
    by_class, leading = explore.planes_of(means, labels.tolist())
    for plane, places in ((by_class, [1, 2]), (leading, [0, 3])):
        assert np.linalg.norm(np.array(plane["directions"])[:, places]) == pytest.approx(2**0.5, abs=0.01)
    assert leading["share"] == pytest.approx(162 / (162 + 18), abs=0.02)
    assert [plane["name"] for plane in explore.planes_of(means, [])] == [leading["name"]]


def test_a_page_that_would_be_too_large_is_not_written_and_the_run_is_whole(elsewhere, monkeypatch, capsys):
    sentence, command = f"{EXPLORE} is not written: it would have 0.[0-9] MB or more", ["--load", "out", "--explore"]
    monkeypatch.setattr(explore, "LARGEST", 30_000)
    made("out")
    assert re.search(sentence, capsys.readouterr().err)
    refused(capsys, command, sentence, "out")
    monkeypatch.setattr(explore, "LARGEST", 1000)  # the weights alone are larger
    monkeypatch.setattr(explore, "content", None)
    refused(capsys, command, sentence, "out")


def test_an_old_run_gets_its_page_and_a_comparison_one_of_all_runs(trained, elsewhere, capsys):
    shutil.copytree(trained, "runs")
    path, command = Path("runs/a") / EXPLORE, ["--load", "runs/a", "--explore", *on_command_line()]
    before = path.read_bytes()
    refused(capsys, command, "exists; choose another --out or add --force", "runs")
    refused(capsys, [*command, "--force", "--out", "runs/a/config.json"], "choose another --out$", "runs")
    path.write_text("old")
    assert run.main([*command, "--force"]) == 0 and path.read_bytes() == before
    Path("runs/a/summary.json").rename("summary.json")  # as if the run had been stopped
    assert run.main([*command, "--force"]) == 0 and path.read_bytes() == before
    Path("summary.json").rename("runs/a/summary.json")
    assert run.main(["--compare", "runs", "--explore", "--out", "all"]) == 0
    assert capsys.readouterr().out.endswith(f", {EXPLORE}\n")
    assert {one["options"]["kappa"] for one in contents(Path("all") / EXPLORE)["runs"]} == {1.5, 2}


def test_the_committed_page_is_that_of_four_kappas_in_the_present_template():
    text = COMMITTED.read_text(encoding="utf-8")
    assert text == TEMPLATE.replace(explore.PLACE, part("content", text))
    assert len(text.encode()) < 4e6
    assert {one["target"] for one in contents(COMMITTED)["runs"]} == {9, 16, 25, 36}


TRIED = """
const errors = [], wait = () => new Promise(done => setTimeout(done, 50));
addEventListener("error", event => errors.push(event.message), true);
addEventListener("unhandledrejection", event => errors.push(`${event.reason}`));
console.error = message => errors.push(message);

const pixels = () => [...$("decoded").getContext("2d").getImageData(0, 0, W, H).data].filter((_, i) => i % 4 === 0);
const shown = () => ["figures", "ten", "sliders"].map(id => $(id).textContent);
function slide(slider, value) {
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
}
function drag() {
  const captured = [];
  $("plane").setPointerCapture = id => captured.push(id);  // there is no pointer to capture
  const {left, top} = $("plane").getBoundingClientRect();
  for (const [kind, x, y] of [["down", 200, 150], ["move", 120, 240], ["up", 120, 240]])
    $("plane").dispatchEvent(new PointerEvent(`pointer${kind}`, {clientX: left + x, clientY: top + y}));
  if (captured.length !== 1) throw new Error("a drag captures its pointer once");
}
async function tried() {
  while (now.z === null) await wait();
  const first = {
    names: [...$("legend").children].slice(0, 3).map(button => button.textContent),
    whose: $("whose").textContent,
    elements: document.querySelectorAll("#legend b, script").length,
  };
  const seen = [pixels()], steps = [
    () => slide(document.querySelector(".latent input"), 2.5),
    () => slide($("way"), 0.4),
    drag,
    () => $("plane").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"})),
    ...["prior", "aggregate", "back", "origin"].map(id => () => $(id).click()),
    () => document.querySelector("#samples button").click(),
  ];
  for (const step of steps) {
    step();
    await wait();
    seen.push(pixels());
  }
  const order = model().order, z = [...now.z], before = shown();
  const [noise, drawings] = ["prior", "aggregate"].map(from => [...drawn(5, from)]);
  slide($("run"), 1);
  const fetched = performance.getEntriesByType("resource").length;
  return {...first, seen, order, z, noise, drawings, before, after: shown(), fetched, errors};
}
document.currentScript.remove();
addEventListener("load", () => tried().then(found => document.body.textContent = JSON.stringify(found)));
"""
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not here")
def test_in_a_browser_each_way_through_the_latents_moves_the_pixels_and_names_are_text(trained, tmp_path):
    data, path = load_data("digits"), tmp_path / "hostile.html"
    files = [f"{HOSTILE[0]}{i}" for i in range(len(data.test))]
    data = data._replace(classes=(*HOSTILE, *data.classes[3:]), files=([], files))
    runs = [(load(trained / name), json_of(trained / name, "summary.json")) for name in ("b", "a")]
    explore.write(path, runs, data)
    path.write_text(path.read_text("utf-8").replace("<script", f"<script>{TRIED}</script>\n<script", 1), "utf-8")
    command = [BROWSER, *QUIET, f"--user-data-dir={tmp_path}", "--virtual-time-budget=60000", path.as_uri()]
    dom = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120).stdout
    found = json.loads(unescape(re.search("<body[^>]*>(.*)</body>", dom, re.DOTALL)[1]))
    assert found["names"] == [*HOSTILE]
    assert found["whose"].startswith(HOSTILE[0]) and found["elements"] == 3
    assert len(found["seen"]) == 10 and all(old != new for old, new in pairwise(found["seen"]))
    assert all(old != new for old, new in zip(found["before"], found["after"], strict=True))
    assert "κ² = 4" in found["after"][0] and found["fetched"] == 0 and found["errors"] == []
    model, order = load(trained / "a"), found["order"]  # κ = 1.5 comes first
    z = np.array(found["z"])[None, np.argsort(order)]
    assert np.argsort(order).tolist() != order
    assert np.abs(np.array(found["seen"][-1]) / 255 - model.decode(z).ravel()).max() < 0.01
    noise, drawings = np.array(found["noise"]), np.array(found["drawings"])
    mean, std = (array[:, order] for array in model.encode(data.test))  # drawn from one image's q(z|x)
    assert np.abs(mean + std * noise - drawings).max(axis=1).min() < 5e-3 < np.abs(noise - drawings).max()
