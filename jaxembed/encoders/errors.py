"""The errors of everything that is wrong with a model, its name, its folder, or a text for it."""

from __future__ import annotations


class EncoderError(ValueError):
    """A model that cannot be used; the message names it and says what to do."""


class TextError(EncoderError):
    """A text that cannot be encoded; the message names its row."""

    def __init__(self, row: int, fault: str):
        super().__init__(f"text {row} {fault}")
        self.row, self.fault = row, fault

    def in_row(self, row: int) -> TextError:
        """Returns the same error of the text where it stands in more texts."""
        return TextError(row, self.fault)
