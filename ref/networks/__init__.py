"""Networks with one interface: `plain`, two MLPs, and `principal`, in which an MLP corrects a linear path.

`p` holds the parameters of the encoder or of the decoder by name, as `shapes` lists them. `d_p` holds their gradients.
Both are views of flat vectors.
"""
