"""The exception for mistakes that the user can correct.

Library code raises `UserError` with a sentence that names the file, the value and what to do. `affect.cli` turns it
into one line on stderr and exit code 2. Every other exception is a bug and keeps its traceback.
"""


class UserError(ValueError):
    """A problem in the user's files, flags or settings; the message is written for the user."""
