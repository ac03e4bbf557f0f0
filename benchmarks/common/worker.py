"""The other end of `processes.run_job`: calls a function with the arguments that the benchmark sent."""

import json
import sys
import traceback


def answer(function):
    """Calls `function` with the JSON object in the first argument. After an error the last line printed tells it."""
    try:
        function(**json.loads(sys.argv[1]))
    except Exception as error:
        traceback.print_exc()
        # Some messages run over many lines; the first one says what happened.
        sys.exit(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
