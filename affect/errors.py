"""The one exception for mistakes that a user can mend.

Library code raises `UserError` with a sentence that names the file, the value and the way out. `affect.cli`
turns it into one line on stderr and exit code 2; every other exception is a bug and keeps its traceback.
"""


class UserError(ValueError):
    """A problem in the user's files, flags or settings, worded for the user."""
