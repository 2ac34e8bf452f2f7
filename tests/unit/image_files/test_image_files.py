"""Image files as people and attackers send them: metadata, missing ends, kinds of a format."""

import io
import itertools
import struct
import zlib
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import skimage.data
import tifffile
from ferserve.errors import Refusal, UndecodableImage, UnsupportedMediaType
from ferserve.image_files.others import strip_png
from ferserve.images import DecodedImage, decode_image
from PIL import Image, PngImagePlugin

LIMIT = 50_000_000
PHOTO = Image.fromarray(skimage.data.astronaut()).resize((160, 128))
GREY = np.asarray(PHOTO.convert("L"))


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(data: bytes) -> DecodedImage:
    return decode_image(data, LIMIT)


def same(data: bytes, other: bytes) -> bool:
    return np.array_equal(decode(data).rgb, decode(other).rgb)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


JPEGS = {
    "baseline": encode(PHOTO, "JPEG", quality=90),
    "progressive": encode(PHOTO, "JPEG", quality=90, progressive=True),
    "grey": encode(PHOTO.convert("L"), "JPEG", quality=90),
    "restarts": encode(PHOTO, "JPEG", restart_marker_rows=1),
}


class TestEndsOfJpegFiles:
    @pytest.mark.parametrize("kind", JPEGS)
    def test_a_missing_end_marker_costs_nothing(self, kind: str) -> None:
        data = JPEGS[kind]
        assert same(data[:-2], data)
        assert same(data[:-1], data)

    @pytest.mark.parametrize("kind", JPEGS)
    def test_a_trailer_costs_nothing(self, kind: str) -> None:
        data = JPEGS[kind]
        assert same(data + b"SEFH\x6b\0\0\0trailer\xff\xd8\xff\xe1", data)
        assert same(data + data, data)

    @pytest.mark.parametrize("kind", JPEGS)
    @pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
    def test_missing_pixels_are_damage(self, kind: str, share: float) -> None:
        data = JPEGS[kind]
        cut = data[: int(share * len(data))]
        for filler in (b"", bytes(5000), 5000 * b"\xff"):
            with pytest.raises(UndecodableImage, match="JPEG file is"):
                decode(cut + filler)

    @pytest.mark.parametrize("kind", ["cmyk", *JPEGS])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_an_end_marker_behind_missing_pixels_does_not_hide_them(
        self, kind: str, share: float
    ) -> None:
        data = encode(PHOTO.convert("CMYK"), "JPEG") if kind == "cmyk" else JPEGS[kind]
        # The last scan of a progressive file adds a bit to pixels that are there.
        whole = data.rindex(b"\xff\xda") if kind == "progressive" else len(data)
        cut = data[: int(share * whole)].rstrip(b"\xff") + b"\xff\xd9"
        with pytest.raises(UndecodableImage, match="JPEG file is damaged or truncated"):
            decode(cut)

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_a_picture_that_ends_in_grey_is_answered(self, mode: str) -> None:
        middle = {"L": 128, "RGB": (128, 128, 128), "CMYK": (127, 127, 127, 127)}[mode]
        image = PHOTO.convert(mode)
        image.paste(middle, (64, 64, 160, 128))
        data = encode(image, "JPEG", quality=95)
        assert same(data, data + b"trailer")
        assert len(np.unique(decode(data).pixels[-1, -1])) == 1

    def test_a_progressive_file_that_ends_between_two_scans_lacks_pixels(self) -> None:
        data = JPEGS["progressive"]
        with pytest.raises(UndecodableImage):
            decode(data[: data.rindex(b"\xff\xda")])

    def test_a_progressive_file_that_was_closed_between_two_scans_shows_what_it_has(self) -> None:
        data = JPEGS["progressive"]
        coarse = decode(data[: data.rindex(b"\xff\xda")] + b"\xff\xd9").rgb.astype(int)
        assert np.abs(coarse - decode(data).rgb).mean() < 4


MEBI = 1024 * 1024


def with_metadata() -> dict[str, tuple[bytes, bytes]]:
    """Files with megabytes of metadata, and the same without."""
    jpeg, png = JPEGS["baseline"], encode(PHOTO, "PNG")
    webp, gif = encode(PHOTO, "WEBP"), encode(PHOTO, "GIF")
    text = PngImagePlugin.PngInfo()
    text.add_text("notes", "a" * 70 * MEBI, zip=True)
    entries = 60_000 * struct.pack("<HHII", 0x9999, 4, 1, 7)
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + entries + bytes(4)
    many = b"".join(segment(0xE1, b"Exif\0\0" + exif[:60_000]) for _ in range(40))
    bomb = b"profile\0\0" + zlib.compress(bytes(100 * MEBI))
    vp8 = webp[12:]
    vp8x = riff(b"VP8X", b"\x2c\0\0\0" + struct.pack("<I", 159)[:3] + struct.pack("<I", 127)[:3])
    extended = (
        vp8x
        + riff(b"ICCP", b"i" * 5 * MEBI)
        + vp8
        + riff(b"EXIF", exif)
        + riff(b"XMP ", b"x" * MEBI)
    )
    at = 13 + 3 * 256
    return {
        "EXIF of JPEG": (jpeg[:2] + many + jpeg[2:], jpeg),
        "XMP and comments of JPEG": (
            jpeg[:2]
            + 30 * segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"x" * 60_000)
            + 30 * segment(0xFE, b"c" * 60_000)
            + jpeg[2:],
            jpeg,
        ),
        "ICC of JPEG": (
            jpeg[:2]
            + b"".join(
                segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 255]) + b"x" * 60_000)
                for n in range(1, 256)
            )
            + jpeg[2:],
            jpeg,
        ),
        "text of PNG": (encode(PHOTO, "PNG", pnginfo=text), png),
        "profile of PNG": (png[:33] + chunk(b"iCCP", bomb) + png[33:], png),
        "EXIF of PNG": (png[:33] + chunk(b"eXIf", exif) + png[33:], png),
        "a damaged chunk of PNG": (png[:33] + chunk(b"tEXt", b"a")[:-1] + b"?" + png[33:], png),
        "metadata of WebP": (
            b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended,
            webp,
        ),
        "comments of GIF": (
            gif[:at] + b"!\xfe" + 50_000 * (b"\x05words") + b"\0" + gif[at:],
            gif,
        ),
    }


METADATA = with_metadata()


@pytest.mark.parametrize("name", METADATA)
def test_metadata_never_costs_the_picture(name: str) -> None:
    data, plain = METADATA[name]
    assert same(data, plain)


class TestKindsOfJpeg:
    def changed(self, marker: int, *, bits: int = 8) -> bytes:
        data = bytearray(JPEGS["baseline"])
        at = data.index(b"\xff\xc0")
        data[at + 1], data[at + 4] = marker, bits
        return bytes(data)

    @pytest.mark.parametrize(
        ("marker", "bits", "words"),
        [
            (0xC1, 12, "12 bits a sample"),
            (0xC3, 8, r"lossless or hierarchical coding \(SOF3\)"),
            (0xC9, 8, r"arithmetic coding \(SOF9\)"),
        ],
    )
    def test_those_that_are_not_decoded_are_called_so(
        self, marker: int, bits: int, words: str
    ) -> None:
        with pytest.raises(UnsupportedMediaType, match=f"a JPEG with {words} is not supported"):
            decode(self.changed(marker, bits=bits))

    def test_scans_are_bounded_by_the_pixels_they_pass_over(self) -> None:
        large = encode(Image.new("RGB", (5000, 5000)), "JPEG", progressive=True)
        last = large[large.rindex(b"\xff\xda") : -2]
        with pytest.raises(UnsupportedMediaType, match="this many scans"):
            decode(large[:-2] + 300 * last + b"\xff\xd9")

    def test_tiny_segments_are_bounded(self) -> None:
        data = JPEGS["baseline"]
        with pytest.raises(UnsupportedMediaType, match="segments"):
            decode(data[:2] + 20_000 * segment(0xFE, b"") + data[2:])


@pytest.mark.parametrize(
    ("bits", "compression", "words"),
    [(24, 4, "compression 4"), (8, 1, "compression 1"), (2, 0, "2 bits a pixel")],
)
def test_kinds_of_bmp_that_are_not_decoded_are_called_so(
    bits: int, compression: int, words: str
) -> None:
    data = bytearray(encode(PHOTO, "BMP"))
    data[28:34] = struct.pack("<HI", bits, compression)
    with pytest.raises(UnsupportedMediaType, match=f"a BMP with {words} is not supported"):
        decode(bytes(data))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_bmp_of_two_colours_is_not_taken_for_one_bit_a_pixel(bits: int) -> None:
    palette = bytes(4) + b"\xff\xff\xff\0"
    header = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, bits, 0, 0, 0, 0, 2, 0)
    head = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 14 + len(header + palette))
    with pytest.raises(UnsupportedMediaType, match=f"{bits} bits with two colours"):
        decode(head + header + palette + bytes(256))


def table_profile(kind: bytes) -> bytes:
    """A profile whose table is said to have half a gigabyte."""
    sizes = bytes([3, 15, 255, 0])
    table = kind + bytes(4) + sizes + bytes(40)
    head = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02100000, b"scnr", b"RGB ", b"Lab ")
    head = head.ljust(36, b"\0") + b"acsp" + bytes(88)
    return head + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@pytest.mark.parametrize("kind", [b"mft1", b"mft2", b"mAB ", b"mBA ", b"mpet"])
def test_a_profile_with_tables_is_ignored(kind: bytes) -> None:
    assert strip_png(encode(PHOTO, "PNG", icc_profile=table_profile(kind))).profile is None
    assert same(encode(PHOTO, "PNG", icc_profile=table_profile(kind)), encode(PHOTO, "PNG"))


@pytest.mark.parametrize(("bits", "colour"), [(2, 0), (4, 0), (16, 0), (16, 2)])
def test_a_png_whose_clear_colour_pillow_would_miss_is_called_so(bits: int, colour: int) -> None:
    data = encode(PHOTO, "PNG")
    header = chunk(b"IHDR", struct.pack(">II5B", 160, 128, bits, colour, 0, 0, 0))
    data = data[:8] + header + chunk(b"tRNS", bytes(2 if colour == 0 else 6)) + data[33:]
    with pytest.raises(UnsupportedMediaType, match=f"{bits} bits with a transparent colour"):
        decode(data)


@pytest.mark.parametrize("lossless", [True, False])
def test_of_a_lossless_webp_it_is_told_what_it_may_take_beside(lossless: bool) -> None:
    told = []

    def reserve(count: int, work: int, doubt: int) -> AbstractContextManager[None]:
        told.append(doubt)
        return nullcontext()

    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    data = encode(Image.fromarray(noise), "WEBP", lossless=lossless)
    decode_image(data, LIMIT, reserve=reserve)
    assert told == [5_800 * 400 * 400 // 16 if lossless else 0]


def test_a_bmp_whose_alpha_is_empty_is_opaque() -> None:
    pixels = np.dstack([np.asarray(PHOTO)[..., ::-1], np.zeros((128, 160), np.uint8)])
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 160, -128, 1, 32, 3, 0, 0, 0, 0, 0) + masks
    header = header.ljust(108, b"\0")
    head = struct.pack("<2sIHHI", b"BM", 122 + pixels.size, 0, 0, 122)
    assert np.array_equal(decode(head + header + pixels.tobytes()).rgb, np.asarray(PHOTO))


def test_a_png_of_ios_apps_is_called_so() -> None:
    data = encode(PHOTO, "PNG")
    with pytest.raises(UnsupportedMediaType, match="CgBI"):
        decode(data[:8] + chunk(b"CgBI", bytes(4)) + data[8:])


# Of TIFF every kind that tifffile writes is decoded to the pixels that tifffile reads, or refused
# by name. Those that must be decoded are listed; no kind may be called damaged.
COLOURS = {
    "miniswhite": (1, ()),
    "minisblack": (1, ()),
    "grey and alpha": (2, ("unassalpha",)),
    "rgb": (3, ()),
    "rgba": (4, ("unassalpha",)),
    "premultiplied": (4, ("assocalpha",)),
    "rgbx": (4, ("unspecified",)),
    "palette": (1, ()),
    "separated": (4, ()),
    "cielab": (3, ()),
}
PHOTOMETRIC = {
    "grey and alpha": "minisblack",
    "rgba": "rgb",
    "premultiplied": "rgb",
    "rgbx": "rgb",
}
DECODED = {
    ("bool", "miniswhite"), ("bool", "minisblack"),
    ("uint8", "miniswhite"), ("uint8", "minisblack"), ("uint8", "grey and alpha"),
    ("uint8", "rgb"), ("uint8", "rgba"), ("uint8", "premultiplied"), ("uint8", "rgbx"),
    ("uint8", "palette"), ("uint8", "separated"),
    ("uint16", "miniswhite"), ("uint16", "minisblack"), ("uint16", "rgb"), ("uint16", "rgba"),
    ("uint16", "premultiplied"), ("uint16", "rgbx"), ("uint16", "separated"),
    ("float32", "minisblack"),
}  # fmt: skip
DTYPES = [
    *("bool", "uint8", "uint16", "uint32", "int8", "int16", "int32"),
    *("float16", "float32", "float64"),
]


def tiff(dtype: str, colour: str, planar: str, **options: object) -> bytes:
    """A file whose channels are the photo's, shifted against each other."""
    samples, extra = COLOURS[colour]
    channels = np.stack([np.roll(GREY, 5 * n, 1) for n in range(samples)], -1)
    if dtype == "bool":
        stored = channels > 127
    elif dtype.startswith("float"):
        stored = (channels / 255).astype(dtype)
    else:
        stored = np.rint(channels / 255.0 * np.iinfo(dtype).max).astype(dtype)
    if colour in ("rgba", "premultiplied", "grey and alpha"):
        stored[..., -1] = np.iinfo(dtype).max if dtype[0] in "iu" else 1
    if samples == 1:
        stored = stored[..., 0]
    elif planar == "separate":
        stored = np.moveaxis(stored, -1, 0)
    if samples > 1:
        options |= {"planarconfig": planar, "extrasamples": extra}
    if colour == "palette":
        options["colormap"] = np.stack([np.arange(256) * 257] * 3).astype(np.uint16)
    file = io.BytesIO()
    photometric = PHOTOMETRIC.get(colour, colour)
    tifffile.imwrite(file, stored, photometric=photometric, metadata=None, **options)
    return file.getvalue()


def expected(data: bytes, colour: str, planar: str) -> np.ndarray | None:
    """The picture as tifffile reads it, in 8 bits; None where colours are of a print or of Lab."""
    values = tifffile.imread(io.BytesIO(data))
    if values.ndim == 3 and planar == "separate":
        values = np.moveaxis(values, 0, -1)
    if values.dtype.kind in "bf":
        values = values * 255.0
    else:
        values = values * (255.0 / np.iinfo(values.dtype).max)
    if colour == "miniswhite":
        values = 255 - values
    if colour in ("separated", "cielab"):
        return None
    if colour == "grey and alpha":
        values = values[..., 0]
    return values[..., :3] if values.ndim == 3 else values


@pytest.mark.parametrize(
    ("dtype", "colour"),
    [pair for pair in itertools.product(DTYPES, COLOURS) if pair[1] != "palette"]
    + [("uint8", "palette")],
)
def test_a_tiff_shows_its_own_pixels_or_is_refused_by_name(dtype: str, colour: str) -> None:
    plans = ("contig", "separate") if COLOURS[colour][0] > 1 else ("contig",)
    codings = ((None, False), ("zlib", False), ("zlib", dtype in ("uint8", "uint16")))
    parts = ({"rowsperstrip": 40}, {"tile": (64, 48)})
    decoded, refusals = 0, []
    for planar, order, (compression, predictor), part in itertools.product(
        plans, "<>", codings, parts
    ):
        data = tiff(
            dtype,
            colour,
            planar,
            byteorder=order,
            compression=compression,
            predictor=predictor,
            **part,
        )
        try:
            picture = decode(data)
        except UnsupportedMediaType as refusal:
            refusals.append(refusal.detail)
            continue
        assert (planar, "tile" in part) == ("contig", False)
        decoded += 1
        shown = expected(data, colour, planar)
        if shown is None:
            with Image.open(io.BytesIO(tiff(dtype, colour, "contig"))) as plain:
                assert plain.size == (picture.width, picture.height)
            assert same(data, tiff(dtype, colour, "contig"))
        else:
            seen = picture.rgb.astype(float)
            shown = shown if shown.ndim == 3 else shown[..., np.newaxis]
            assert np.abs(seen - shown).max() <= 1, (planar, order, compression, part)
    assert all("a TIFF of" in words and "is not supported" in words for words in refusals)
    assert (decoded > 0) == ((dtype, colour) in DECODED)
    if (dtype, colour) in DECODED and len(plans) == 1 and dtype != "float32":
        assert decoded == 6, "every byte order and compression"


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        *itertools.product(["L", "RGB", "CMYK", "I;16"], ["tiff_lzw", "packbits"]),
    ],
)
def test_the_compressions_of_tiff_give_one_picture(mode: str, compression: str) -> None:
    image = PHOTO.convert("L") if mode == "I;16" else PHOTO.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    assert same(encode(image, "TIFF", compression=compression), encode(image, "TIFF"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("colour", ["minisblack", "miniswhite", "rgb"])
def test_a_big_tiff_shows_its_own_pixels_or_is_refused_by_name(dtype: str, colour: str) -> None:
    plain = tiff(dtype, colour, "contig")
    assert same(tiff(dtype, colour, "contig", bigtiff=True, byteorder="<"), plain)
    with pytest.raises(UnsupportedMediaType, match="a BigTIFF of big-endian byte order"):
        decode(tiff(dtype, colour, "contig", bigtiff=True, byteorder=">"))


@pytest.mark.parametrize(
    ("number", "name"),
    [(34925, "34925"), (50000, "50000"), (6, "6"), (7, "JPEG"), (3, "CCITT"), (4, "CCITT")],
)
def test_other_compressions_of_tiff_are_refused_by_name(number: int, name: str) -> None:
    data = bytearray(encode(PHOTO, "TIFF"))
    at = data.index(struct.pack("<HHI", 259, 3, 1))
    data[at + 8 : at + 10] = struct.pack("<H", number)
    with pytest.raises(UnsupportedMediaType, match=f"compression {name}, is not"):
        decode(bytes(data))


@pytest.mark.parametrize("tag", [256, 259, 262, 278])
def test_numbers_of_tiff_that_only_the_decoder_would_read_are_refused(tag: int) -> None:
    # SLONG: it once hid the size of a tile, of a gigabyte.
    data = bytearray(grey_tiff(bytes(160 * 128), {259: 1}))
    at = data.index(struct.pack("<HHI", tag, 4, 1))
    assert decode(bytes(data)).width == 160
    data[at + 2] = 9
    with pytest.raises(UnsupportedMediaType, match=f"tag {tag} has no whole numbers"):
        decode(bytes(data))


@pytest.mark.parametrize("tags", [{322: 32768, 323: 32768}, {322: 16, 323: 16, 324: 8, 325: 256}])
def test_tiles_of_tiff_are_refused_with_offsets_and_without(tags: dict[int, int]) -> None:
    with pytest.raises(UnsupportedMediaType, match="in tiles"):
        decode(grey_tiff(bytes(160 * 128), {259: 1} | tags))


def test_tags_of_tiff_that_pixels_do_not_need_are_left_out() -> None:
    # 60,000 unknown tags take libtiff seconds, each sorted into its place.
    data = encode(PHOTO, "TIFF")
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = data[at + 2 : at + 2 + 12 * count]
    junk = b"".join(struct.pack("<HHII", 60_000 - n, 4, 1, 0) for n in range(9_000))
    longer = data + struct.pack("<H", count + 9_000) + entries + junk + bytes(4)
    assert same(longer[:4] + struct.pack("<I", len(data)) + longer[8:], data)


def grey_tiff(strip: bytes, fields: dict[int, int]) -> bytes:
    sizes = {256: 160, 257: 128, 258: 8, 259: 7, 262: 1, 273: 8, 277: 1, 278: 128}
    fields = dict(sorted((sizes | {279: len(strip)} | fields).items()))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    data = b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip
    return data + struct.pack("<H", len(fields)) + entries + bytes(4)


def test_strips_of_tiff_that_are_hundreds_of_megabytes_together_are_refused() -> None:
    with pytest.raises(UndecodableImage, match="overlap"):
        decode(grey_tiff(bytes(4000), {259: 8, 279: 2**29}))


def test_a_gif_of_more_blocks_than_any_metadata_has_is_refused() -> None:
    gif = encode(PHOTO, "GIF")
    at = 13 + 3 * 256
    with pytest.raises(UnsupportedMediaType, match="blocks"):
        decode(gif[:at] + b"!\xfe" + 200_000 * b"\1c" + b"\0" + gif[at:])


def test_nothing_but_refusals_comes_of_a_damaged_directory() -> None:
    data = encode(PHOTO, "TIFF", compression="tiff_lzw", exif=Image.Exif())
    (at,) = struct.unpack_from("<I", data, 4)
    for place in range(at, len(data)):
        for value in (0, 255):
            changed = bytearray(data)
            changed[place] = value
            try:
                decode(bytes(changed))
            except Refusal:
                continue
