"""`train.txt` of a folder of labeled photos: `folder.read_split`."""

from fuzzing import cases
from keras_bisenet.utils.errors import DataError

INSTRUMENTED = ("keras_bisenet.utils.text_files", "keras_bisenet.data.folder")


def seeds():
    return {
        "names": b"0\n1\n",
        "spaces": b"\xef\xbb\xbf  0 \r\n\r\n1",
        "twice": b"0\n0\n",
        "elsewhere": b"../labels/0\n",
        "long": b"0" * 3000,
        "empty": b"",
    }


def read(content, folder):
    from keras_bisenet.data import folder as data

    for name in ("images/0.jpg", "images/1.jpg", "labels/0.png", "labels/1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    path = folder / "train.txt"
    path.write_bytes(content)
    try:
        data.read_split(folder, "train")
    except DataError as error:
        cases.check_refusal(error, path)
