"""From a photo to labels: one module a way of running a file.

Each has a class `Runner(path, threads, inputs, **options)`; `path` is the contestant's file, or the checkpoint if it
has none, `inputs` the `Inputs`. Its three methods are called one after the other, and timed:
    prepare(photo): `[H, W, 3]` uint8 RGB -> what `run` takes; None if that lies in the runtime's own memory
    run(prepared) -> what `labels` takes
    labels(outputs) -> `[H, W]` whole numbers
"""
