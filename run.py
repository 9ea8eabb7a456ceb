"""Train a VAE by one of five objectives, judge it on images it has not seen, and draw what it does.

python run.py                                                GECO on the embedded digits
python run.py --method geco --data mnist                     GECO on MNIST, downloaded once
python run.py --method iwae --data mnist --likelihood bernoulli --binarize dynamic
"""

import argparse
import csv
import io
import json
import math
import platform
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from backend import BACKENDS, BackendError, open_backend
from data import DATASETS, DataError, binarize, load
from data.files import write_whole
from data.images import grid
from ref import linear, vae
from ref.metrics import evaluate
from ref.mlp import ACTIVATIONS
from ref.objectives import GUARD, METHODS, MULTIPLIERS, initial_multiplier
from ref.train import NonFiniteError, Plan, initial_state, initial_theta, make_step, train

FILES = (
    "config.json",
    "metrics.csv",
    "checkpoint.npz",
    "summary.json",
    "reconstructions.png",
    "samples.png",
    "curves.png",
)
COLUMNS = ("epoch", "step", "loss", "rate", "distortion", "constraint_ma", "lambda", "elbo", "seconds")
MEANS = ("loss", "rate", "distortion", "elbo")
METHOD_OPTIONS = {name: option for method in METHODS.values() for name, option in method.options.items()}
MULTIPLIER_OPTIONS = ("multiplier", "multiplier-rate")
EVALUATION_SEED = 20_181_001  # the same draws whatever the run, so that runs are compared on the same noise

# What each data set brings, and what the user's own images do; κ² is a squared error per image.
DEFAULTS = {
    "digits": {"kappa": 1.2, "epochs": 100, "latent": 16, "output": "linear", "lr": 1e-3, "nll_samples": 500}
    | {"hidden": (128, 64)},
    "mnist": {"kappa": 4.0, "epochs": 30, "latent": 200, "output": "sigmoid", "lr": 2e-3, "nll_samples": 100}
    | {"weight_decay": 0.15},
    "cifar10": {"kappa": 3.394, "epochs": 20, "latent": 384, "output": "linear", "lr": 1e-3, "nll_samples": 20},
}
OWN = {"kappa": None, "epochs": 30, "latent": 64, "output": "linear", "lr": 1e-3, "nll_samples": 100}
COMMON = {"hidden": (512, 256), "batch_size": 128, "binarize": "none", "weight_decay": 0.0}
OWN_KAPPA = 0.3  # of the images' variance stays unexplained by default, as on MNIST


class UsageError(Exception):
    """Options that make no sense, in one sentence."""


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one sentence."""

    def error(self, message: str):
        raise UsageError(message)


def number(kind: type, low: float, inclusive: bool = False):
    """An argparse type: a finite number above `low` (or from `low` on)."""

    def parse(text: str):
        try:
            value = kind(text)
            finite = math.isfinite(value)
        except (ValueError, OverflowError):
            value, finite = math.nan, False
        if not finite or value < low or (value == low and not inclusive):
            bound = "at least" if inclusive else "above"
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {'an integer' if kind is int else 'a finite number'} {bound} {low}"
            )
        return value

    return parse


def layer_sizes(text: str) -> tuple[int, ...]:
    """An argparse type: "512,256" or "none"."""
    if text == "none":
        return ()
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layer sizes such as 512,256, nor none")
    return sizes


def parser() -> Parser:
    """The command line. Choices and the options of single methods come from the rows of METHODS."""
    p = Parser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_objective(p.add_argument_group("objective"))
    add_data(p.add_argument_group("data"))
    add_network_and_training(p.add_argument_group("network and training"))
    g = p.add_argument_group("run")
    g.add_argument(
        "--nll-samples", type=number(int, 0), help="samples per image of the NLL; 5000 in publications (by data set)"
    )
    g.add_argument("--backend", choices=BACKENDS, default="numpy", help="(numpy)")
    g.add_argument("--precision", choices=("float32", "float64"), default="float32", help="(float32)")
    g.add_argument("--seed", type=number(int, 0, inclusive=True), default=0, help="(0)")
    g.add_argument("--out", type=Path, help="where the run is written (runs/<data>-<method>-<seed>)")
    g.add_argument("--force", action="store_true", help="overwrite the run that --out holds")
    return p


def add_objective(g) -> None:
    methods = "; ".join(f"{name}: {method.about}" for name, method in METHODS.items())
    g.add_argument("--method", choices=METHODS, default="geco", help=f"{methods} (geco)")
    for name, (default, about) in METHOD_OPTIONS.items():
        shown = "by data set" if default is None else default
        g.add_argument(f"--{name}", type=number(float, 0), help=f"{about} ({shown})")
    g.add_argument("--multiplier", choices=MULTIPLIERS, help="the rule of a constraint's λ (relative)")
    g.add_argument("--multiplier-rate", type=number(float, 0), help="η of that rule (by rule)")
    about = "posterior samples per image in training; vae, beta-vae and geco average over them (by method)"
    g.add_argument("--samples", type=number(int, 0), metavar="K", help=about)
    about = "p(x|z): in the loss, where the method has it, and in the reported ELBO and NLL (gaussian)"
    g.add_argument("--likelihood", choices=("gaussian", "bernoulli"), default="gaussian", help=about)
    g.add_argument("--variance", type=number(float, 0), help="σ² of the Gaussian likelihood (0.5)")


def add_data(g) -> None:
    about = f"{', '.join(DATASETS)}, a folder of pictures or of IDX files, or an .npz with train and test (digits)"
    g.add_argument("--data", default="digits", metavar="NAME|PATH", help=about)
    g.add_argument("--data-dir", type=Path, help="where data sets are kept ($TAMING_VAES_DATA, else the user's cache)")
    g.add_argument("--size", type=number(int, 0), help="scale a folder's pictures to SIZE×SIZE")
    about = "black-and-white pixels drawn once, or anew each time, with the grey as probability (none)"
    g.add_argument("--binarize", choices=("none", "static", "dynamic"), help=about)


def add_network_and_training(g) -> None:
    about = "the encoder's hidden layers, mirrored by the decoder: 512,256 or none (by data set)"
    g.add_argument("--hidden", type=layer_sizes, help=about)
    g.add_argument("--latent", type=number(int, 0), help="latents (by data set)")
    g.add_argument("--activation", choices=ACTIVATIONS, default="silu", help="of the hidden layers (silu)")
    about = "x̂ = sigmoid(l), or x̂ = l in principal coordinates, starting at the best linear VAE (by data set)"
    g.add_argument("--output", choices=("sigmoid", "linear"), help=about)
    g.add_argument("--epochs", type=number(int, 0), help="(by data set)")
    g.add_argument("--batch-size", type=number(int, 0), help="(128)")
    g.add_argument("--lr", type=number(float, 0), help="Adam's learning rate (by data set)")
    g.add_argument("--schedule", choices=("cosine", "constant"), default="cosine", help="of the learning rate (cosine)")
    g.add_argument("--weight-decay", type=number(float, 0, inclusive=True), help="decoupled, of all of θ (by data set)")


def complete(args: argparse.Namespace, data) -> argparse.Namespace:
    """The options with every default filled in. Raises UsageError for those that clash or are not used."""
    method = METHODS[args.method]
    refuse_unused(args, method)
    defaults = COMMON | DEFAULTS.get(args.data, OWN) | {"samples": method.samples}
    if args.likelihood == "bernoulli":
        check_bernoulli(args, data)
        defaults["output"] = "sigmoid"
    else:
        defaults["variance"] = 0.5
    if method.constraint:
        defaults["multiplier"] = args.multiplier or "relative"
    if defaults["kappa"] is None:
        defaults["kappa"] = round(math.sqrt(OWN_KAPPA * total_variance(data.train)), 3)
    defaults |= {name: default for name, (default, _) in method.options.items() if default is not None}
    for name in {*METHOD_OPTIONS} - {*method.options}:
        defaults.pop(name, None)
    pixels, images = data.train.shape[1], len(data.train)
    defaults |= {"latent": min(defaults["latent"], pixels), "batch_size": min(defaults["batch_size"], images)}
    for name, default in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.kappa is not None and not 1e-6 < args.kappa < 1e6:
        raise UsageError(f"--kappa {args.kappa:g} is not between 1e-6 and 1e6")
    if args.batch_size > images:
        raise UsageError(
            f"--batch-size {args.batch_size} is more than the {images} training images; choose a smaller one"
        )
    if args.output == "linear" and args.hidden and args.latent > pixels:
        raise UsageError(f"--latent {args.latent} is more than the {pixels} principal coordinates of these images")
    if method.constraint and args.multiplier_rate is None:
        args.multiplier_rate = MULTIPLIERS[args.multiplier][1](args.epochs * (images // args.batch_size))
    return args


def total_variance(images: np.ndarray) -> float:
    """Squared error of the mean image, a block of images at a time."""
    mean, blocks = images.mean(axis=0, dtype=np.float64), range(0, len(images), 250)
    return sum(float(np.sum((images[i : i + 250] - mean) ** 2)) for i in blocks) / len(images) / white(images) ** 2


def refuse_unused(args: argparse.Namespace, method) -> None:
    """Raises UsageError for an option of another method."""
    takes = [*method.options, *(MULTIPLIER_OPTIONS if method.constraint else ())]
    for name in {*METHOD_OPTIONS, *MULTIPLIER_OPTIONS} - {*takes}:
        if getattr(args, name.replace("-", "_")) is not None:
            listed = ", ".join(f"--{t}" for t in takes) or "none of its own"
            raise UsageError(f"--{name} is not used by --method {args.method} (it takes: {listed})")


def check_bernoulli(args: argparse.Namespace, data) -> None:
    """Bernoulli is a density of black and white pixels with a sigmoid output; anything else must be asked for."""
    for name, value in (("variance", args.variance), ("output linear", args.output == "linear" or None)):
        if value is not None:
            raise UsageError(
                f"--{name} is not used by --likelihood bernoulli; leave it out or use --likelihood gaussian"
            )
    blocks = (data.train[i : i + 1000] for i in range(0, len(data.train), 1000))
    if args.binarize is None and any(np.any((block > 0) & (block < white(block))) for block in blocks):
        raise UsageError(
            "--likelihood bernoulli is a density of black and white pixels and these are grey: "
            "add --binarize dynamic or static, or --binarize none to use them all the same"
        )


def white(pixels: np.ndarray) -> int:
    """The value of a white pixel."""
    return 255 if pixels.dtype == np.uint8 else 1


def reader(backend, pixels: np.ndarray, dynamic: bool):
    """read(rows, noise): those images as floats in [0, 1], binarized anew with `dynamic`.   (B,) -> (B, D)"""
    xp, images, scale = backend.xp, backend.asarray(pixels), 1 / white(pixels)

    def read(rows, noise):
        x = xp.take(images, rows, axis=0).astype(backend.dtype) * scale
        return (backend.uniform(noise, x.shape) < x).astype(backend.dtype) if dynamic else x

    return read


def build(args: argparse.Namespace, backend, data, read):
    """The network, its constants from the training images, and the state before the first step."""
    method, xp = METHODS[args.method], backend.xp
    mean = data.train.mean(axis=0, dtype=np.float64) / white(data.train)
    model = vae.Model(
        hidden=args.hidden,
        latents=args.latent,
        activation=args.activation,
        sigmoid_output=args.output == "sigmoid",
        likelihood=args.likelihood,
        variance=args.variance or 0.5,
        center=backend.asarray(mean),
    )
    noise, lam = backend.noise(args.seed), initial_multiplier(args.kappa) if method.constraint else None
    if model.sigmoid_output or not model.hidden:
        bounded = np.clip(mean, 1e-3, 1 - 1e-3)
        bias = np.log(bounded / (1 - bounded)) if model.sigmoid_output else mean
        theta = initial_theta(backend, model, noise, backend.asarray(bias))
    else:
        target = args.kappa**2 if method.constraint else None
        components = linear.principal_components(backend, read, len(data.train), model.center, args.latent, noise)
        level = linear.level_for(*components[1:], target, model.variance * (args.beta or 1))
        model = linear.in_principal_coordinates(xp, model, *components[:2])
        theta = initial_theta(backend, model, noise, 0.0)
        linear.start_linear(xp, model, theta, components[1], level)
        lam = lam and 1 / (2 * level)
    return model, initial_state(backend, theta, noise, len(data.train), lam)


def existing_run(out: Path, force: bool) -> list[str]:
    """The files of a run that `out` holds already. Raises UsageError for any without `force`."""
    try:
        existing = [name for name in FILES if (out / name).exists()]
    except OSError as error:
        raise UsageError(f"--out {out} cannot be read ({error.strerror}); choose another folder") from error
    if existing and not force:
        raise UsageError(
            f"--out {out} already holds a run ({existing[0]}); choose another folder or add --force to overwrite it"
        )
    return existing


def claim(out: Path, force: bool, config: dict) -> None:
    """Makes the run's folder and writes config.json: what cannot be written is found out before training."""
    existing = existing_run(out, force)
    try:
        write_json(out / "config.json", config)
        for name in set(existing) - {"config.json"}:
            (out / name).unlink()
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written ({error.strerror}); choose another folder") from error


def write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_metrics(path: Path, rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def write_checkpoint(path: Path, backend, state: dict, config: dict) -> None:
    arrays = {name: backend.to_host(array) for name, array in state.items()}
    write_whole(path, lambda file: np.savez(file, config=np.array(json.dumps(config)), **arrays))


def epoch_row(reports: list[dict]) -> dict:
    """One row of metrics.csv: the means of an epoch's reports, and where λ and its moving average stand at the end."""
    steps = sum(r["steps"] for r in reports)
    means = {k: sum(r[k] * r["steps"] for r in reports) / steps for k in MEANS}
    return {**reports[-1], **means, "seconds": sum(r["seconds"] for r in reports)}


def fit(args: argparse.Namespace, backend, model, state: dict, read, config: dict) -> tuple[list[dict], list[dict]]:
    """Trains; writes metrics.csv and checkpoint.npz after each epoch. Returns the epochs' rows and all reports."""
    method, images = METHODS[args.method], int(state["order"].shape[0])
    plan = Plan(
        epochs=args.epochs,
        batch_size=args.batch_size,
        steps_per_epoch=images // args.batch_size,
        samples=args.samples,
        lr=args.lr,
        cosine=args.schedule == "cosine",
        weight_decay=args.weight_decay,
        multiplier=args.multiplier or "relative",
        multiplier_rate=args.multiplier_rate or 0.0,
        options={name: getattr(args, name) for name in method.options},
    )
    step = make_step(backend, model, method, plan, read, state)
    rows, history, reports = [], [], []
    with tqdm(total=plan.epochs * plan.steps_per_epoch, desc=args.method, unit="step", disable=None) as bar:
        for report in train(backend, step, state, plan):
            reports.append(report)
            bar.update(report["steps"])
            live = {"rate": report["rate"], "err": report["distortion"], "λ": report["lambda"]}
            bar.set_postfix({name: f"{value:.2f}" for name, value in live.items() if value is not None})
            if report["step"] % plan.steps_per_epoch == 0:
                rows.append(epoch_row(reports))
                history, reports = history + reports, []
                write_metrics(args.out / "metrics.csv", rows)
                write_checkpoint(args.out / "checkpoint.npz", backend, state, config)
    return rows, history


def draw_pictures(out: Path, backend, model, theta, read, shape: tuple[int, int, int], count: int) -> None:
    """reconstructions.png: originals, decoded at the mean, at a sample. samples.png: decoded draws from the prior."""
    xp, params, noise = backend.xp, vae.params_of(model, theta), backend.noise(EVALUATION_SEED)
    x = read(xp.arange(count), noise)
    mean, log_std, _ = vae.encode(xp, model, params, x)
    eps = backend.normal(noise, mean.shape)
    z = xp.stack([mean, vae.reparameterize(xp, mean, log_std, eps)])
    at_mean, sampled = vae.decode(xp, model, params, z)[0]
    write_png(out / "reconstructions.png", backend.to_host(xp.concatenate([x, at_mean, sampled])), shape, count)
    prior = vae.decode(xp, model, params, backend.normal(noise, (100, model.latents)))[0]
    write_png(out / "samples.png", backend.to_host(prior), shape, 10)


def write_png(path: Path, pixels: np.ndarray, shape: tuple[int, int, int], columns: int) -> None:
    write_whole(path, lambda file: grid(pixels, shape, columns).save(file, "PNG"))


def draw_curves(path: Path, history: list[dict], kappa: float | None) -> None:
    """curves.png: the rate and the distortion against the step and, under a constraint, its moving average and λ."""
    panels = [("rate", "rate [nats]"), ("distortion", "distortion [squared error per image]")]
    if kappa is None:
        panels.append(("elbo", "ELBO [nats]"))
    else:
        panels += [("constraint_ma", "moving average of C [squared error per image]"), ("lambda", "λ")]
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.plot([r["step"] for r in history], [r[key] for r in history])
        axes.set(xlabel="step", title=label)
        axes.title.set_fontsize(10)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
        if kappa is not None and key in ("distortion", "constraint_ma"):
            level = kappa**2 if key == "distortion" else 0
            axes.axhline(level, color="black", linestyle=":", label=f"κ² = {level:.4g}" if level else None)
            low = min(r[key] for r in history)
            axes.set_ylim(min(low, level) - 0.1 * kappa**2, max(level + kappa**2, 2 * low))
        if key == "distortion" and kappa is not None:
            axes.legend()
        if key == "lambda":
            axes.set_yscale("log")
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))


def summarize(args, data, backend, model, state: dict, read, rows: list[dict]) -> dict:
    """summary.json: the figures on the test set."""
    method, options = METHODS[args.method], {name: getattr(args, name) for name in METHODS[args.method].options}
    figures = evaluate(
        backend,
        model,
        state["theta"],
        read,
        len(data.test),
        backend.noise(EVALUATION_SEED),
        args.nll_samples,
        constraint=method.constraint and (lambda xp, terms: method.constraint(xp, terms, **options)),
        samples=args.samples,
        progress=lambda batches: tqdm(batches, desc="evaluation", unit="batch", disable=None, leave=False),
    )
    last = rows[-1]
    return {
        "method": args.method,
        "data": data.name,
        "backend": backend.name,
        "seed": args.seed,
        "epochs": args.epochs,
        "steps": last["step"],
        **figures,
        "nll_samples": args.nll_samples,
        "lambda": last["lambda"],
        "constraint_ma": last["constraint_ma"],
        "kappa": options.get("kappa"),
        "seconds": sum(row["seconds"] for row in rows),
    }


def warn(args: argparse.Namespace, summary: dict, rows: list[dict]) -> str | None:
    """The sentence that a run deserves if it missed κ² by more than a twentieth of it, or if λ ended at its guard."""
    excess, tolerance, lam = summary["constraint_ma"], args.kappa**2, summary["lambda"]
    guarded = args.multiplier != "plain" and at_guard(args.kappa, lam)
    guard = f"; λ = {lam:.3g} is at its guard" if guarded else ""
    if excess > 0.05 * tolerance:
        best = min(tolerance + excess, *(row["distortion"] for row in rows))
        return (
            f"the constraint is not met: squared error {tolerance + excess:.4g} at the end of training, "
            f"κ² = {tolerance:.4g}, too much by {excess:.4g}; the best so far was {best:.4g}{guard}; "
            f"allow --kappa {math.sqrt(best) * 1.01:.3g}, or give the run more --epochs, --latent or --hidden"
        )
    return f"the constraint does not bind{guard}; lower --kappa {args.kappa:g}" if guard else None


def at_guard(kappa: float, lam: float) -> bool:
    """Whether λ has gone as far as the multiplier's rule lets it go."""
    return abs(math.log(lam / initial_multiplier(kappa))) > 0.999 * math.log(GUARD)


def table(summary: dict, pixels: int) -> str:
    """The summary as one row under its header."""
    cells = {
        "method": summary["method"],
        "rate": f"{summary['rate']:.2f}",
        "distortion": f"{summary['distortion']:.3f}",
        "at the mean": f"{summary['distortion_at_mean']:.3f}",
        "RMSE": f"{math.sqrt(summary['distortion'] / pixels):.3f}",
        "PSNR": f"{10 * math.log10(pixels / summary['distortion']):.1f} dB",
        "ELBO": f"{summary['elbo']:.2f}",
        f"NLL (K = {summary['nll_samples']})": f"{summary['nll']:.2f} ± {summary['nll_standard_error']:.2f}",
        "active": str(summary["active_units"]),
    }
    if summary["lambda"] is not None:
        cells |= {"C": f"{summary['constraint']:+.3f}", "λ": f"{summary['lambda']:.3g}"}
    cells["seconds"] = f"{summary['seconds']:.1f}"
    widths = [max(len(name), len(cell)) for name, cell in cells.items()]
    return "\n".join(
        "  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)) for line in (cells, cells.values())
    )


def run(argv: list[str] | None) -> None:
    """One run from options to pictures."""
    args = parser().parse_args(argv)
    backend = open_backend(args.backend, args.precision)
    data = load(args.data, args.data_dir, args.size)
    if (data.train.max(axis=0) == data.train.min(axis=0)).all():
        raise UsageError(f"the training images of --data {args.data} are all the same; there is nothing to learn")
    if args.binarize == "static":
        data = data._replace(train=binarize(data.train, 0), test=binarize(data.test, 1))
    args = complete(args, data)
    args.out = args.out or Path("runs") / f"{data.name}-{args.method}-{args.seed}"
    options = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    libraries = {name: metadata.version(name) for name in ("numpy", "pillow", "matplotlib")}
    versions = {"python": platform.python_version(), **libraries, **backend.versions}
    config = {
        "command": ["run.py", *(sys.argv[1:] if argv is None else argv)],
        "options": options,
        "versions": versions,
    }
    dynamic = args.binarize == "dynamic"
    read = reader(backend, data.train, dynamic)
    existing_run(args.out, args.force)
    model, state = build(args, backend, data, read)
    claim(args.out, args.force, config)  # only now, because a network may not fit into memory
    rows, history = fit(args, backend, model, state, read, config)
    read_test = reader(backend, data.test, dynamic)
    summary = summarize(args, data, backend, model, state, read_test, rows)
    write_json(args.out / "summary.json", summary)
    if METHODS[args.method].constraint and (warning := warn(args, summary, rows)):
        print(f"run.py: {warning}", file=sys.stderr)
    draw_pictures(args.out, backend, model, state["theta"], read_test, data.shape, min(10, len(data.test)))
    draw_curves(args.out / "curves.png", history, summary["kappa"])
    print(table(summary, data.test.shape[1]))
    print(f"rate, ELBO and NLL in nats, distortion in squared error per image; all in {args.out}/: {', '.join(FILES)}")


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 2 for bad input, 1 for numbers that are not finite, 130 for Ctrl-C, each with one sentence."""
    try:
        with np.errstate(all="ignore"):  # training itself watches for numbers that are not finite
            run(argv)
    except (UsageError, DataError, BackendError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("run.py: out of memory: lower --hidden, --latent, --samples or --batch-size", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"run.py: {error}; what was written before is kept", file=sys.stderr)
        return 2
    except NonFiniteError as error:
        advice = "the likely cause is too large a step: lower --lr (and --multiplier-rate, if λ ran away)"
        print(f"run.py: {error}; {advice}; what was written after the last whole epoch is kept", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("run.py: interrupted; what was written after the last whole epoch is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
