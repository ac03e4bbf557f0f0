"""What 8 bits cost."""
