"""What all scripts share: the flags are parsed, one function is called, and what a user can mend ends in one line.

Every script imports this module before anything that may not be installed.
"""

import os
import re
import sys
import warnings

_HELP = {"help", "helpshort", "helpfull", "helpxml", "?"}

# TensorFlow reads it when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def start(main, arguments=None, interrupted="nothing was written"):
    """Parses the flags and runs a script to its end.

    Args:
        main, arguments, interrupted: see `call`.
    """
    from absl import app

    try:
        app.run(lambda argv: call(main, argv, arguments, interrupted))
    except SystemExit as error:
        # Who asks for help has done nothing wrong; absl ends with 1.
        if error.code == 1 and _HELP & {argument.lstrip("-") for argument in sys.argv if argument.startswith("-")}:
            sys.exit(0)
        raise


def call(main, argv, arguments=None, interrupted="nothing was written"):
    """Calls the main function of a script, once its flags are parsed.

    Args:
        main: function of the flags' values (as attributes), and of the list of arguments if there are any. Returns
            None, or what failed, a str.
        argv: list: name of the script, and the arguments without a flag.
        arguments: what these arguments are, a str; None for a script that takes none.
        interrupted: what an interrupted script leaves behind, or how to continue, a str.

    Raises:
        absl.app.UsageError: the arguments are missing, or there are any and the script takes none.
        SystemExit: status 1 with one line on stderr if a `UserError` is raised or `main` returns what failed; 130 if
            the user interrupts the script.
    """
    from absl import app, flags, logging

    if arguments is None and len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    if arguments is not None and len(argv) < 2:
        raise app.UsageError(f"expected {arguments}; see --help")
    logging.set_verbosity(logging.WARNING)
    # A name that is no text in the encoding of the terminal is shown with backslashes, as on stderr.
    sys.stdout.reconfigure(errors="backslashreplace")
    # One line, without the place in the code.
    warnings.showwarning = lambda message, *_: print(f"warning: {one_line(message)}", file=sys.stderr)
    import weight_port
    from keras_bisenet.utils.errors import UserError

    try:
        failed = main(flags.FLAGS, *([argv[1:]] if arguments else []))
    except UserError as error:
        sys.exit(f"error: {one_line(error)}")
    except weight_port.UserError as error:  # lists of tensors have several lines
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"error: interrupted; {interrupted}", file=sys.stderr)
        sys.exit(130)
    if failed:
        sys.exit(f"error: {failed}")


def one_line(text):
    """A text without line breaks, terminal codes and bytes that are no text; names of files may hold all of them."""
    return re.sub(
        "[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]",
        lambda match: match[0].encode("unicode_escape").decode(),
        str(text),
    )


def _report_missing_package(kind, error, trace):
    if not issubclass(kind, ModuleNotFoundError):
        sys.__excepthook__(kind, error, trace)
        return
    print(
        f"error: this Python ({sys.executable}) has no {error.name}; 'make export' installs what the scripts need into "
        ".venv: run them by .venv/bin/python",
        file=sys.stderr,
    )


sys.excepthook = _report_missing_package
