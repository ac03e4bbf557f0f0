"""How what a part of the package needs is installed: the one place that knows the words."""


def command(extra: str) -> str:
    """The command that installs an extra of `setup.cfg`. The package is on no index: it comes from a checkout or wheel.

    Args:
        extra: `"runtime"`, `"tf"`, `"detect"`, ...
    """
    return f"pip install '.[{extra}]' in the checkout, or 'WHEEL[{extra}]'"
