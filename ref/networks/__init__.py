"""Networks with one interface: `plain`, two MLPs, and `principal`, in which an MLP corrects a linear path.

`p` and `d_p` hold the parameters of one side, encoder or decoder, and their gradients by name: views of flat vectors.
"""
