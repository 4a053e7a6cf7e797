"""The error of everything that is wrong with the data, or with how it is asked for."""


class DataError(ValueError):
    """Data that cannot be used; the message names the culprit and says what to do."""
