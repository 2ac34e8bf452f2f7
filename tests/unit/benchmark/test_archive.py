"""Uploaded zips: what is taken, and what is refused before anything is unpacked."""

import contextlib
import hashlib
import io
import stat
import tracemalloc
import zipfile
from collections import Counter

import numpy as np
import pytest
from class_folders import images, zipped
from ferserve.benchmark.archive import ENTRY_SIGNATURE, MAX_ENTRIES, LabelledArchive
from ferserve.errors import (
    InvalidArchive,
    PayloadTooLarge,
    Refusal,
    TooManyImages,
    UnsupportedMediaType,
)
from ferserve.fer2013.labels import EMOTIONS
from ferserve.settings import Settings

LIMITS = Settings(benchmark_max_upload_bytes=125_000, max_upload_bytes=400_000)


def opened(files: dict[str, bytes], **how: int) -> LabelledArchive:
    return LabelledArchive(zipped(files, **how), LIMITS)


def classes(archive: LabelledArchive) -> Counter[str]:
    return Counter(EMOTIONS[file.label] for file in archive.files)


def test_the_folder_names_the_class():
    files = images(2)
    archive = opened(files)
    assert classes(archive) == dict.fromkeys(EMOTIONS, 2)
    for file in archive.files:
        assert file.name.startswith(f"{EMOTIONS[file.label]}/")
        assert archive.read(file) == files[file.name]


def test_files_are_in_order_whatever_their_order_in_the_zip():
    files = images(2)
    backwards = dict(reversed(files.items()))
    assert [f.name for f in opened(files).files] == [f.name for f in opened(backwards).files]


def test_the_hash_is_that_of_the_file():
    data = zipped(images())
    assert LabelledArchive(data, LIMITS).sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "prefix", ["photos/", "a/b/", "./"], ids=["one folder", "two folders", "dot"]
)
def test_the_class_folders_may_lie_in_another(prefix):
    files = {prefix + name: content for name, content in images(1).items()}
    assert classes(opened(files)) == dict.fromkeys(EMOTIONS, 1)


def test_folders_may_be_capitalised():
    files = {name.title(): content for name, content in images(1).items()}
    assert classes(opened(files)) == dict.fromkeys(EMOTIONS, 1)


def test_what_desktops_leave_behind_is_passed_over():
    litter = {"__MACOSX/angry/._0.png": b"x", "angry/.DS_Store": b"x", "Thumbs.db": b"x"}
    assert classes(opened(images(1) | litter)) == dict.fromkeys(EMOTIONS, 1)


@pytest.mark.parametrize(
    "name",
    ["angry/._0.png", ".ipynb_checkpoints/0.png", "angry/.ipynb_checkpoints/0-checkpoint.png",
     "photos/__MACOSX/angry/0.png", "angry/thumbs.db"],
)  # fmt: skip
def test_hidden_files_and_folders_are_passed_over(name):
    assert classes(opened(images(1) | {name: b"x"})) == dict.fromkeys(EMOTIONS, 1)


def test_entries_for_folders_are_no_images():
    folders = {f"{emotion}/": b"" for emotion in EMOTIONS}
    assert classes(opened(folders | images(1))) == dict.fromkeys(EMOTIONS, 1)


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"angry"], ids=["empty", "PNG", "text"]
)
def test_what_is_no_zip_is_refused(data):
    with pytest.raises(UnsupportedMediaType):
        LabelledArchive(data, LIMITS)


@pytest.mark.parametrize("keep", [4, 200, -1, -30])
def test_a_truncated_zip_is_refused(keep):
    with pytest.raises(InvalidArchive):
        LabelledArchive(zipped(images())[:keep], LIMITS)


@pytest.mark.parametrize(
    "name",
    ["../angry/x.png", "/angry/x.png", "angry/../../x.png", "angry\\x.png", "C:/angry/x.png",
     "angry/x\n.png"],
)  # fmt: skip
def test_names_that_play_tricks_are_refused(name):
    with pytest.raises(InvalidArchive, match="plain relative path"):
        opened(images(1) | {name: b"x"})


def test_a_name_with_a_hidden_tail_is_refused():
    data = zipped(images(1) | {"angry/x.png@.exe": b"x"}).replace(b"x.png@", b"x.png\0")
    with pytest.raises(InvalidArchive, match="plain relative path"):
        LabelledArchive(data, LIMITS)


def test_links_are_refused():
    data = io.BytesIO(zipped(images(1)))
    link = zipfile.ZipInfo("angry/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidArchive, match="links"):
        LabelledArchive(data.getvalue(), LIMITS)


def test_encrypted_files_are_refused():
    data = bytearray(zipped({"angry/x.png": b"x"}))
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 8] |= 1
    with pytest.raises(InvalidArchive, match="encrypted"):
        LabelledArchive(bytes(data), LIMITS)


def test_only_the_common_ways_of_packing_are_taken():
    with pytest.raises(InvalidArchive, match="deflate"):
        opened(images(1), compression=zipfile.ZIP_LZMA)
    assert opened(images(1), compression=zipfile.ZIP_STORED).files


@pytest.mark.parametrize("name", ["contempt/x.png", "x.png", "angry/more/x.png", "README.txt"])
def test_a_file_in_no_emotions_folder_is_refused_by_name(name):
    with pytest.raises(InvalidArchive, match=f"{name}.*expected one folder for each of angry"):
        opened(images(1) | {name: b"x"})


def test_an_emotion_without_images_is_refused_by_name():
    files = {name: data for name, data in images(1).items() if not name.startswith(("fear", "sad"))}
    with pytest.raises(InvalidArchive, match="no image of fear, sad"):
        opened(files | {"fear/": b""})


def test_a_zip_of_folders_alone_is_refused():
    with pytest.raises(InvalidArchive, match="no image of angry"):
        opened({"angry/": b""})


def test_two_sets_of_folders_are_refused():
    files = {
        f"{root}/{name}": data for root in ("train", "test") for name, data in images().items()
    }
    with pytest.raises(InvalidArchive, match="2 places"):
        LabelledArchive(zipped(files), LIMITS)


def test_a_name_that_is_there_twice_is_refused():
    data = io.BytesIO(zipped(images(1)))
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("angry/./0.png", b"other")
    with pytest.raises(InvalidArchive, match="twice"):
        LabelledArchive(data.getvalue(), LIMITS)


def test_too_many_entries_are_refused_before_they_are_looked_at():
    with pytest.raises(TooManyImages, match="at most 50000 entries"):
        LabelledArchive(b"PK" + ENTRY_SIGNATURE * (MAX_ENTRIES + 1), LIMITS)


def test_a_directory_of_endless_names_is_refused_before_it_is_read():
    name = 65_000 * "n"
    folder = {f"angry/{name}{number}": b"" for number in range(280)}
    with pytest.raises(TooManyImages, match="directory"):
        LabelledArchive(zipped(folder), Settings())


def test_folders_inside_folders_without_end_are_refused():
    with pytest.raises(InvalidArchive, match="folders"):
        opened(images(1) | {100 * "a/" + "angry/a.png": b""})


def test_a_bomb_is_refused():
    with pytest.raises(PayloadTooLarge, match="times its size"):
        opened({f"{emotion}/0.bmp": bytes(140_000) for emotion in EMOTIONS})


def test_too_much_in_all_is_refused():
    with pytest.raises(PayloadTooLarge, match="at most 1000000"):
        opened(images(1) | {f"angry/{n}": bytes(350_000) for n in range(3)})


def test_one_file_that_is_too_large_is_refused():
    with pytest.raises(PayloadTooLarge, match="400000"):
        opened(images(1) | {"angry/large": bytes(400_001)}, compression=zipfile.ZIP_STORED)


def test_a_file_that_unpacks_to_more_than_the_directory_says_gives_nothing():
    data = bytearray(zipped(images(1) | {"angry/liar": bytes(30_000_000)}))
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        position = data.rindex(signature)
        data[position + offset : position + offset + 4] = (100).to_bytes(4, "little")
    archive = LabelledArchive(bytes(data), LIMITS)
    (liar,) = [file for file in archive.files if file.name == "angry/liar"]
    tracemalloc.start()
    try:
        with pytest.raises(Refusal, match="damaged"):
            archive.read(liar)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_damage_anywhere_is_refused_or_harmless():
    rng = np.random.default_rng(0)
    sound = zipped(images(1))
    for _ in range(1000):
        data = bytearray(sound)
        for place in rng.integers(2, len(data), 3):
            data[place] = rng.integers(256)
        with contextlib.suppress(Refusal):
            archive = LabelledArchive(bytes(data), LIMITS)
            for file in archive.files:
                archive.read(file)


def test_damage_to_the_directory_is_refused_or_harmless():
    rng = np.random.default_rng(0)
    sound = zipped(images(1))
    directory = sound.index(b"PK\x01\x02")
    for _ in range(2000):
        data = bytearray(sound)
        for place in rng.integers(directory, len(data), 2):
            data[place] = rng.integers(256)
        with contextlib.suppress(Refusal):
            archive = LabelledArchive(bytes(data), LIMITS)
            for file in archive.files:
                archive.read(file)


def test_messages_cannot_break_a_line():
    with pytest.raises(Refusal) as refusal:
        opened(images(1) | {"angry/\n\x1b[31m" + "x" * 1000: b""})
    assert "\n" not in str(refusal.value)
    assert "\x1b" not in str(refusal.value)
    assert len(str(refusal.value)) < 300
