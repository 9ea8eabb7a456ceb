"""What a first reading may skip: principal coordinates, the linear VAE, and how a model is judged."""
