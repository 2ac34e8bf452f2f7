"""An image file → the parts that its pixels need, in time linear in its length.

Metadata has cost Pillow and libtiff seconds and gigabytes: quadratic EXIF, compressed text, chains
of tags. So all of it is left out before they see the file. What is kept of it, the orientation and
the colour profile, is read here.
"""

from collections.abc import Callable

from ferserve.image_files.file import ImageFile as ImageFile
from ferserve.image_files.jpeg import strip_jpeg
from ferserve.image_files.others import strip_bmp, strip_gif, strip_png, strip_webp
from ferserve.image_files.tiff import strip_tiff

STRIPPERS: dict[str, Callable[[bytes], ImageFile]] = {
    "JPEG": strip_jpeg,
    "PNG": strip_png,
    "WEBP": strip_webp,
    "GIF": strip_gif,
    "BMP": strip_bmp,
    "TIFF": strip_tiff,
}
"""What strips the files of each accepted format."""
