"""What a first reading may skip: the network in principal coordinates, the linear VAE, and how a model is judged."""
