"""The error that is the user's to mend, and how a program ends with it."""

import sys
from collections.abc import Callable
from typing import Any


class UserError(ValueError):
    """Bad input or configuration. The message says what, where, what was expected and what to do.

    main.py prints it without a stack trace; every error of that kind derives from it.
    """


def run_program(function: Callable[[], Any]) -> None:
    """Runs a program; what the user can mend is one line on standard error, and exit status 1."""
    try:
        function()
    except UserError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: the package {error.name} is missing: training and its tools need pip install -r"
            " requirements.txt, in a clone."
        )
    except KeyboardInterrupt:
        print("stopped; what was done is kept.", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}")
