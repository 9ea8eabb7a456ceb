"""The worked example on the page of derivations is what a pocket calculator finds."""

import re
from math import exp, log, pi, tanh

import numpy as np

from tests.page import FILE
from tests.worked_example import EPS, NOW, THETA, X, arrows, table, values


def by_pocket_calculator() -> dict[str, dict]:
    """Every number of the example from the formulas of the page, without ref/."""
    a, b, c, d, e, f, g, h, i, j = THETA.tolist()  # of the encoder a to f, of the decoder g to j
    x, eps, lam = X.item(), EPS.item(), NOW.lam
    hidden = tanh(a * (x - 0.5) + b)
    mean, log_std = c * hidden + e, d * hidden + f
    std = exp(log_std)
    z = mean + std * eps
    unit = tanh(g * z + h)
    logits = i * unit + j
    x_hat = 1 / (1 + exp(-logits))
    d_l = lam * 2 * (x_hat - x) * x_hat * (1 - x_hat)
    d_unit = d_l * i * (1 - unit**2)
    d_z = d_unit * g
    d_mean, d_log_std = d_z + mean, d_z * std * eps + std**2 - 1
    d_hidden = (d_mean * c + d_log_std * d) * (1 - hidden**2)
    encoder = [d_hidden * (x - 0.5), d_hidden, d_mean * hidden, d_log_std * hidden, d_mean, d_log_std]
    return {
        "images": {"x": x},
        "noise": {"eps": eps},
        "encode": {"mean": mean, "log_std": log_std},
        "reparameterize": {"z": z},
        "decode": {"x̂": x_hat, "logits l": logits},
        "likelihood": {"err": (x - x_hat) ** 2, "log_px": -((x - x_hat) ** 2) - log(pi) / 2},
        "normal_log_density": {"log_pz": -(z**2) / 2 - log(2 * pi) / 2},
        "posterior_log_density": {"log_qz": -(eps**2) / 2 - log_std - log(2 * pi) / 2},
        "gaussian_kl": {"kl": (mean**2 + std**2 - 1) / 2 - log_std},
        "objective": {"d_kl": 1.0, "d_err": lam, "d_log_px": None, "d_log_pz": None, "d_log_qz": None},
        "likelihood_backward": {"d_l": d_l},
        "decode_backward": {"d_z": d_z, "the decoder's part": [d_unit * z, d_unit, d_l * unit, d_l]},
        "normal_log_density_backward": {"d_z": None},
        "posterior_log_density_backward": {"d_log_std": None},
        "reparameterize_backward": {"d_mean": d_z, "d_log_std": d_z * std * eps},
        "gaussian_kl_backward": {"d_mean": mean, "d_log_std": std**2 - 1},
        "encode_backward": {"the encoder's part": encoder},
    }


def test_every_number_is_that_of_a_pocket_calculator():
    found, expected = values(), by_pocket_calculator()
    assert found.keys() == expected.keys()
    for function, sent in expected.items():
        assert found[function].keys() == sent.keys()
        for name, value in sent.items():
            ours, theirs = (np.ravel(np.asarray(v, float)) for v in (found[function][name], value))  # None is NaN
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, err_msg=f"{function}: {name}")


def test_every_arrow_of_the_graph_is_told():
    graph = re.search(r"```mermaid\n(.*?)```", FILE.read_text("utf-8"), re.DOTALL)[1]
    assert len(arrows()) == len(table().splitlines()) == graph.count("->")
    told = {(source, name) for source, names, _ in arrows() for name in names}
    assert told == {(source, name) for source, sent in values().items() for name in sent}


def test_the_page_shows_what_the_command_prints():
    page = FILE.read_text("utf-8")
    assert re.search(r"tests\.worked_example.*?```text\n(.*?)\n```", page, re.DOTALL)[1] == table()
