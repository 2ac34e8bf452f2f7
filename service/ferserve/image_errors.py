"""Why an image was refused."""


class ImageError(ValueError):
    """An image was refused.

    Attributes:
        detail: Why, in words that may be sent to the client.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class UnsupportedMediaType(ImageError):  # noqa: N818 - named for the API's problem
    """The bytes are of no accepted image format, or of a kind of it that is not decoded."""


class UndecodableImage(ImageError):  # noqa: N818
    """The bytes begin like an image but are damaged, truncated or empty."""


class TooManyPixels(ImageError):  # noqa: N818
    """Width times height, or the memory that decoding takes, is over the limit."""


class ImageTooSmall(ImageError):  # noqa: N818
    """The shorter side is under ``MIN_SIDE``."""
