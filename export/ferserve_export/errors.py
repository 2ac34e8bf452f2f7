"""What exporting raises."""


class ExportError(Exception):
    """A run or a page is not as it must be; the message says what is wrong."""
