"""Why the command can't go on, for the person who typed it."""


class Refusal(Exception):
    """One sentence and the exit code: 2 what was asked for is wrong, 3 the database is, 4 another manager works here."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code
