"""Training beside PyTorch: how fast it is, and whether it computes the same."""
