"""CelebA's own division of its photos: two tables that `celebamask.prepare` reads. Here both are the same file."""

from fuzzing import cases
from keras_bisenet.utils.errors import DataError

INSTRUMENTED = ("keras_bisenet.utils.text_files", "keras_bisenet.data.celebamask")


def seeds():
    return {
        "partition": b"119613.jpg 0\n099094.jpg 1\n",
        "mapping": b"idx orig_idx orig_file\n0 119613 119613.jpg\n1 99094 099094.jpg\n",
        "both": b"0 119613.jpg\n119613.jpg 2\n1 119613.jpg",
    }


def read(content, folder):
    from keras_bisenet.data import celebamask

    for name in (celebamask.PARTITION, celebamask.MAPPING):
        (folder / name).write_bytes(content)
    try:
        # `prepare` would go on with photos and processes.
        celebamask._official_split(folder, ["0", "1"])
    except DataError as error:
        cases.check_refusal(error, folder)
