"""From a checkpoint to a file: one module a converter. Each has `convert`, see `benchmarks.runtimes.convert`."""
