class Failure(Exception):
    """The benchmark cannot run; the message says what to do."""
