"""A variational autoencoder that learns to draw digits, with its gradient by hand.

This is all of it; everything else in the repository is proof, generality and speed. The encoder
turns images x into q(z|x) = N(mean, std²), the decoder turns latents z into images x̂. GECO
(Rezende & Viola 2018) finds the least KL of q(z|x) to the prior p(z) = N(0, I), in nats, at
which the squared error of an image is κ². B images, D pixels, H hidden units, Z latents.
"""

import lzma
import math
from pathlib import Path

import numpy as np

D, H, Z, KAPPA = 784, 200, 16, 5.0
EPOCHS, BATCH, RATE = 30, 100, 4e-3
SHAPES = [(D, H), (H,), (H, 2 * Z), (2 * Z,), (Z, H), (H,), (H, D), (D,)]  # W0, b0, …, W3, b3


def views(theta):
    """θ, a vector of all weights -> the encoder's W0, b0, W1, b1, the decoder's W2, b2, W3, b3."""
    cuts = np.cumsum([math.prod(shape) for shape in SHAPES])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(theta, cuts), SHAPES, strict=True)]


def encode(theta, x):
    """Images x (B, D) -> the hidden units (B, H), mean and log std of q(z|x) (B, Z)."""
    W0, b0, W1, b1, *_ = views(theta)
    a0 = x @ W0 + b0
    h0 = np.tanh(a0)
    out = h0 @ W1 + b1
    mean, log_std = out[:, :Z], out[:, Z:]
    return h0, mean, log_std


def decode(theta, z):
    """Latents z (B, Z) -> the hidden units (B, H) and images x̂ (B, D)."""
    *_, W2, b2, W3, b3 = views(theta)
    a2 = z @ W2 + b2
    h2 = np.tanh(a2)
    logits = h2 @ W3 + b3
    x_hat = 0.5 * np.tanh(0.5 * logits) + 0.5  # sigmoid, without overflow
    return h2, x_hat


def forward(theta, x, eps):
    """Images x (B, D) and noise eps (B, Z) -> KL and squared error of each image (B,)."""
    h0, mean, log_std = encode(theta, x)
    std = np.exp(log_std)  # its derivative by log_std is std itself
    z = mean + std * eps
    h2, x_hat = decode(theta, z)
    kl = (mean**2 + std**2 - 1) / 2 - log_std
    err = (x - x_hat) ** 2
    return kl.sum(axis=1), err.sum(axis=1), (x, eps, h0, mean, std, z, h2, x_hat)


def backward(theta, cache, lam):
    """The gradient of mean(kl) + λ·(mean(err) − κ²), from the last line of forward to the first."""
    _, _, W1, _, W2, _, W3, _ = views(theta)
    (x, eps, h0, mean, std, z, h2, x_hat), B = cache, len(cache[0])
    d_x_hat = lam / B * 2 * (x_hat - x)  # err = (x - x_hat) ** 2
    d_mean, d_log_std = mean / B, (std**2 - 1) / B  # kl = (mean**2 + std**2 - 1) / 2 - log_std
    d_logits = d_x_hat * x_hat * (1 - x_hat)  # x_hat = 0.5 * np.tanh(0.5 * logits) + 0.5
    d_W3, d_b3, d_h2 = h2.T @ d_logits, d_logits.sum(0), d_logits @ W3.T  # logits = h2 @ W3 + b3
    d_a2 = d_h2 * (1 - h2**2)  # h2 = np.tanh(a2)
    d_W2, d_b2, d_z = z.T @ d_a2, d_a2.sum(0), d_a2 @ W2.T  # a2 = z @ W2 + b2
    d_mean, d_log_std = d_mean + d_z, d_log_std + d_z * eps * std  # z = mean + std * eps
    d_out = np.concatenate([d_mean, d_log_std], axis=1)  # mean, log_std = out[:, :Z], out[:, Z:]
    d_W1, d_b1, d_h0 = h0.T @ d_out, d_out.sum(0), d_out @ W1.T  # out = h0 @ W1 + b1
    d_a0 = d_h0 * (1 - h0**2)  # h0 = np.tanh(a0)
    d_W0, d_b0 = x.T @ d_a0, d_a0.sum(0)  # a0 = x @ W0 + b0
    return np.concatenate([d.ravel() for d in (d_W0, d_b0, d_W1, d_b1, d_W2, d_b2, d_W3, d_b3)])


if __name__ == "__main__":
    packed = Path(__file__).parents[1] / "data/t10k-images-idx3-ubyte.xz"  # 10,000 digits of MNIST
    pixels = np.frombuffer(lzma.decompress(packed.read_bytes()), np.uint8, offset=16)
    images, rng = pixels.reshape(-1, D).astype(np.float32) / 255, np.random.default_rng(0)
    theta = np.zeros(sum(math.prod(shape) for shape in SHAPES), np.float32)
    for W in views(theta)[::2]:  # Glorot & Bengio 2010; the biases stay zero
        W[...] = rng.uniform(-1, 1, W.shape) * math.sqrt(6 / sum(W.shape))
    batches = np.array([rng.permutation(len(images)) for _ in range(EPOCHS)]).reshape(-1, BATCH)
    m, v, lam, c_ma, steps = 0 * theta, 0 * theta, 8 / KAPPA**2, None, len(batches)
    for t, rows in enumerate(batches, start=1):
        kl, err, cache = forward(theta, images[rows], rng.standard_normal((BATCH, Z), np.float32))
        grad = backward(theta, cache, lam)
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2  # Adam, its rate half a cosine
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        rate = RATE * (1 + math.cos(math.pi * t / steps)) / 2
        theta -= rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        c_hat = err.mean() - KAPPA**2  # GECO: λ grows while the error is above κ² on average
        c_ma = c_hat if t == 1 else 0.99 * c_ma + 0.01 * c_hat
        lam *= math.exp(np.clip(0.01 * c_ma / KAPPA**2, -4 / steps, 4 / steps))
        if t % 500 == 0:
            print(f"step {t}: KL {kl.mean():.2f} nats, error {KAPPA**2 + c_ma:.2f}, λ = {lam:.3f}")
    _, x_hat = decode(theta, rng.standard_normal((4, Z), np.float32))  # z from the prior
    for row in np.hstack(x_hat.reshape(4, 14, 2, 28).mean(axis=2)[:, 1:-1, 4:-4]):
        print("".join(" .:-=+*#%@"[int(9.99 * pixel)] for pixel in row))
