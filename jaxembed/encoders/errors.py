"""The error of everything that is wrong with a model, its name or its folder."""


class EncoderError(ValueError):
    """A model that cannot be used; the message names it and says what to do."""
