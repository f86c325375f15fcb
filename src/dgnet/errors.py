"""The one exception that is meant for the user's eyes."""


class UserError(ValueError):
    """Something the user gave is not usable.

    Its text is one line that names the file, key or value and says what would be right. The command line prints that
    line alone, without a traceback, and exits with code 2.
    """
