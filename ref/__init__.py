"""The reference: objectives for a variational autoencoder, every gradient derived by hand.

Symbols
    B images · K posterior samples an image · D pixels · Z latents · M principal coordinates · P parameters
    x (B, D) images in [0, 1]           x̂ = x_hat (K, B, D) reconstructions: sigmoid(l) or l, with the logits l
    mean, log_std (B, Z)                q(z|x) = N(mean, diag std²); always log std, never log variance
    eps (K, B, Z)                       noise, an argument of every forward pass: z = mean + std·eps
    err (K, B)                          ‖x − x̂‖², summed over an image's pixels
    log_px, log_pz, log_qz (K, B)       log p(x|z), log p(z), log q(z|x)
    log_w = log_px + log_pz − log_qz    the log importance weight; w̃ = softmax over K
    kl (B,)                             KL(q(z|x)‖p(z)), p(z) = N(0, I); its mean is the rate
    λ = lam, κ, C, C_ma                 a multiplier, GECO's tolerance, a constraint, its moving average
    θ = theta (P,)                      all parameters; the weights are views of it

Signs and conventions
    Every loss is minimised. Units are nats, and squared error per image. `d_` + a name is the gradient of the loss with
    respect to it. Below `f` stands `f_backward`, its mirror image. `xp` is the array namespace: NumPy, CuPy, or
    autograd's. Forward passes are pure; backward passes write into the flat gradient.

Reading order
    densities → mlp → vae → objectives → adam → train, and then more/: principal → linear → information → metrics.
    README.md derives every gradient.
    "The slides" are those of Kuzina, Prokopenko & Shumovskaia 2018, which show GECO as algorithm 1.
"""
