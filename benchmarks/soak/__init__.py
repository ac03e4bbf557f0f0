"""Whether long runs hold no more and more."""
