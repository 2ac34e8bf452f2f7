"""What exporting raises."""


class ExportError(Exception):
    """A run, an ensemble or a page is not as it must be; the message says what is wrong."""
