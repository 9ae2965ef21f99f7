"""What is said of a delivery that failed."""


class Failed(Exception):
    """The target did not take it. The text is for the channel's owner, and says nothing of what is
    inside; `after` is how many seconds it asked to be left alone.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after
