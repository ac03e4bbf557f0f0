"""Opens `.keras` files."""

import json
import pathlib
import zipfile

from keras_bisenet.export.errors import ExportError


def load_model(path):
    """Loads a `.keras` file as `port_and_export.py` and `train.py` write it. No code that it may hold is run.

    Args:
        path: the file.

    Returns:
        `BiSeNet`, not compiled.

    Raises:
        ExportError: the file is missing, damaged, or holds another model.
    """
    import keras

    from keras_bisenet.bisenet import BiSeNet

    path = pathlib.Path(path)
    if not path.is_file():
        raise ExportError(f"{path}: no such file; expected a .keras file of a BiSeNet")
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read("config.json"))["class_name"]
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{path}: is damaged, or no .keras file; export it again") from error
    if found != BiSeNet.__name__:
        raise ExportError(f"{path}: holds a {found}; expected a BiSeNet, as port_and_export.py and train.py write it")
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # the loader trusts the file, and a wrong part fails in any way
        raise ExportError(f"{path}: is damaged, or no BiSeNet of this version; export it again") from error
