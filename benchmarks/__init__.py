"""What is measured: one folder an experiment, and what they share in `common`."""
