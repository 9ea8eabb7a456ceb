"""Networks with one interface: `plain`, two MLPs, and `principal`, in which an MLP corrects a linear path.

shapes(model)                                           parameters of the encoder and of the decoder, by name
encode(xp, model, p, x)                                 (B, D) -> mean (B, Z), log_std (B, Z), cache
encode_backward(xp, model, p, cache, d_mean, d_log_std, d_p)     writes the encoder's gradient into d_p
decode(xp, model, p, z)                                 (N, Z) -> the logits l (N, D), cache
decode_backward(xp, model, p, cache, d_logits, d_p)     writes the decoder's gradient into d_p, returns d_z (N, Z)

`p` holds the parameters of one half by name, and `d_p` their gradients: views of one flat vector each.
"""
