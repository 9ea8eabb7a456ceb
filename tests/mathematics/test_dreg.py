"""DReG: another estimator of IWAE's gradient, the same in expectation and steadier in the encoder."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from ref import mlp as nn
from ref import vae
from tests.gradients import check, hand_loss_and_gradient
from tests.small import NOW, batch_of, model_of, theta_of
from tests.tested import needs_backend

pytestmark = needs_backend
MODEL = model_of()
ENCODER = nn.size(MODEL.network.shapes(MODEL)[0])


def log_weights(theta, fixed, x, eps, xp=anp):
    """log p(x|z) + log p(z) − log q(z|x), where q has the mean and std at `fixed`."""
    mean, log_std, _ = nn.encode(xp, MODEL, vae.params_of(MODEL, theta)["encoder"], x)
    q_mean, q_log_std, _ = nn.encode(np, MODEL, vae.params_of(MODEL, fixed)["encoder"], x)
    z = mean + xp.exp(log_std) * eps
    x_hat, _, _ = vae.decode(xp, MODEL, vae.params_of(MODEL, theta), z)
    log_px = xp.sum(-((x - x_hat) ** 2) / (2 * 0.3) - 0.5 * np.log(2 * np.pi * 0.3), axis=-1)
    log_pz = xp.sum(-0.5 * z**2 - 0.5 * np.log(2 * np.pi), axis=-1)
    log_qz = xp.sum(-0.5 * ((z - q_mean) / np.exp(q_log_std)) ** 2 - q_log_std - 0.5 * np.log(2 * np.pi), axis=-1)
    return log_px + log_pz - log_qz


@pytest.mark.parametrize("samples", [1, 2, 7])  # with one sample it sticks the landing: Roeder et al. 2017
def test_the_encoder_sees_the_squared_weights_and_the_decoder_the_weights(samples):
    theta, (x, eps) = theta_of(MODEL), batch_of(MODEL, samples=samples)
    w = np.exp(log_weights(theta, theta, x, eps, np))
    w /= w.sum(axis=0)
    decoder = autograd.grad(lambda t: -anp.sum(w * log_weights(t, theta, x, eps)) / len(x))(theta)
    encoder = autograd.grad(lambda t: -anp.sum(w * w * log_weights(t, theta, x, eps)) / len(x))(theta)
    _, gradient = hand_loss_and_gradient("dreg", MODEL, theta, x, eps, NOW._replace(done=1.0))
    check(gradient, np.concatenate([encoder[:ENCODER], decoder[ENCODER:]]))


def gradients(name: str, samples: int, draws: int, scale=1.0, done=1.0) -> np.ndarray:
    """The gradients of `draws` draws of the noise at one θ, times `scale`, and one batch."""
    theta, (x, _) = scale * theta_of(MODEL), batch_of(MODEL)
    noise = np.random.default_rng(7).normal(size=(draws, samples, len(x), MODEL.latents))
    return np.stack([hand_loss_and_gradient(name, MODEL, theta, x, eps, NOW._replace(done=done))[1] for eps in noise])


@pytest.mark.parametrize(("samples", "done"), [(2, 1.0), (5, 1.0), (5, 0.3)])
def test_in_expectation_it_is_the_gradient_of_iwae_also_in_a_warm_up(samples, done):
    dreg, iwae = (gradients(name, samples, 1000, done=done) for name in ("dreg", "iwae"))
    error = np.sqrt((dreg - iwae).var(axis=0) / len(dreg)) + 1e-12  # of the difference, on the same noise
    assert np.abs((dreg - iwae).mean(axis=0) / error).max() < 5
    decoder = dreg[:, ENCODER:], iwae[:, ENCODER:]
    np.testing.assert_allclose(*decoder, rtol=1e-9, atol=1e-12)


def test_signal_to_noise_in_the_encoder_rises_with_the_samples_and_that_of_iwae_falls():
    # Rainforth et al. 2018, Tucker et al. 2019: as √K and as 1/√K, where the weights are even
    def signal_to_noise(name: str, samples: int) -> float:
        found = gradients(name, samples, 200, scale=0.2)[:, :ENCODER]
        return float(np.mean(np.abs(found.mean(axis=0)) / (found.std(axis=0) + 1e-12)))

    dreg, iwae = ([signal_to_noise(name, samples) for samples in (1, 16)] for name in ("dreg", "iwae"))
    assert dreg[1] > 2 * dreg[0] > 2 * iwae[0] > 3 * iwae[1]
