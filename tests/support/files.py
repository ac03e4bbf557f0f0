"""What lies in a folder."""


def content(folder):
    """Path below a folder -> bytes, of each file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder):
    """Names of what lies in a folder itself, sorted."""
    return sorted(path.name for path in folder.iterdir())
