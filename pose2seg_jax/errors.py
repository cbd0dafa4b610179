"""The error that is the user's to mend."""


class UserError(ValueError):
    """Bad input or configuration. The message says what, where, what was expected and what to do.

    main.py prints it without a stack trace; every error of that kind derives from it.
    """
