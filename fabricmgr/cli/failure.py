"""How a command ends badly: one line on stderr, and an exit code a script can tell apart."""

REFUSED = 1  # the manager said no
USAGE = 2  # the command was wrong
UNREACHABLE = 3  # no manager answered
NOT_LOGGED_IN = 4


class Failure(Exception):
    """message: one line. code: the exit code."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
