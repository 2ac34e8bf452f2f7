"""FER2013 inside folders, zips and tars: found, listed where there are several, and no bombs."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from ferserve.fer2013 import containers
from ferserve.fer2013.reader import DatasetError, Fer2013, read_fer2013
from synthetic_fer2013 import write_csv, write_zip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Fer2013:
    return read_fer2013(write_zip(tmp_path_factory.mktemp("zip") / "f.zip", train=1, test=1))


@pytest.fixture(scope="module")
def table(dataset: Fer2013, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_csv(tmp_path_factory.mktemp("csv") / "fer2013.csv", dataset).read_bytes()


def write(path: Path, files: dict[str, bytes]) -> Path:
    """Packs the files into what the path's ending says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif ".tar" in path.name:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


FORMS = pytest.mark.parametrize("form", ["f.zip", "fer2013.tar.gz", "fer2013.tar", "folder"])


@FORMS
@pytest.mark.parametrize("name", ["fer2013.csv", "fer2013/fer2013.csv", "a/b/c/FER.CSV"])
def test_csv_is_found_at_any_depth(
    dataset: Fer2013, table: bytes, tmp_path: Path, form: str, name: str
):
    files = {"fer2013/README": b"x", "fer2013/._fer2013.csv": b"x", name: table}
    path = write(tmp_path / form, files)
    assert read_fer2013(path).sha256() == dataset.sha256()


@FORMS
def test_csv_files_of_another_kind_are_no_data_set(
    dataset: Fer2013, table: bytes, tmp_path: Path, form: str
):
    files = {"train.csv": b"emotion,pixels\n0,1 2\n", "test.csv": b"pixels\n1 2\n"}
    path = write(tmp_path / form, files | {"icml_face_data.csv": table})
    assert read_fer2013(path).sha256() == dataset.sha256()


@FORMS
def test_several_data_sets_are_listed(table: bytes, tmp_path: Path, form: str):
    path = write(tmp_path / form, {"a/fer2013.csv": table, "b/fer2013.csv": table})
    with pytest.raises(DatasetError, match=r"2 data sets.*'a/fer2013\.csv'; 'b/fer2013\.csv'"):
        read_fer2013(path)


def test_images_beside_a_csv_are_two_data_sets(table: bytes, tmp_path: Path):
    files = {"kaggle/train/angry/Training_1.jpg": b"x", "fer2013.csv": table}
    path = write(tmp_path / "f.zip", files)
    with pytest.raises(DatasetError, match=r"'kaggle/train, kaggle/test'; 'fer2013\.csv'"):
        read_fer2013(path)


@FORMS
def test_the_only_csv_is_named_with_what_it_lacks(tmp_path: Path, form: str):
    path = write(tmp_path / form, {"data/train.csv": b"emotion,pixels\n"})
    with pytest.raises(DatasetError, match=r"data/train\.csv: expected .*Usage; found 'emotion'"):
        read_fer2013(path)


@pytest.mark.parametrize("form", ["f.zip", "f.tar.gz"])
def test_nothing_is_written(dataset: Fer2013, table: bytes, tmp_path: Path, form: str):
    (tmp_path / "inner").mkdir()
    path = write(tmp_path / "inner" / form, {"../fer2013.csv": table})
    assert read_fer2013(path).sha256() == dataset.sha256()
    assert list(tmp_path.rglob("*.csv")) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_tar_are_not_followed(table: bytes, tmp_path: Path, kind: bytes):
    outside = tmp_path / "outside.csv"
    outside.write_bytes(table)
    with tarfile.open(tmp_path / "f.tar.gz", "w:gz") as tar:
        entry = tarfile.TarInfo("fer2013.csv")
        entry.type, entry.linkname = kind, str(outside)
        tar.addfile(entry)
    with pytest.raises(DatasetError, match="no FER2013"):
        read_fer2013(tmp_path / "f.tar.gz")


@pytest.mark.parametrize("form", ["f.zip", "f.tar.gz"])
def test_a_bomb_is_refused(
    table: bytes, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(containers, "MAX_UNPACKED", len(table) // 2)
    with pytest.raises(DatasetError, match="unpacks to more than"):
        read_fer2013(write(tmp_path / form, {"fer2013.csv": table}))


def test_a_bomb_beside_the_csv_of_a_tar_is_refused(
    table: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(containers, "MAX_UNPACKED", 2 * len(table))
    files = {"bomb": bytes(3 * len(table)), "fer2013.csv": table}
    with pytest.raises(DatasetError, match="unpacks to more than"):
        read_fer2013(write(tmp_path / "f.tar.gz", files))


def test_a_bomb_in_a_tars_hidden_header_is_refused(table: bytes, tmp_path: Path):
    with tarfile.open(tmp_path / "f.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("fer2013.csv")
        entry.pax_headers = {"comment": "x" * 2_000_000}
        entry.size = len(table)
        tar.addfile(entry, io.BytesIO(table))
    with pytest.raises(DatasetError, match="a header has more than 1048576 bytes"):
        read_fer2013(tmp_path / "f.tar.gz")


def test_an_image_that_unpacks_to_megabytes_is_refused(tmp_path: Path):
    path = write(tmp_path / "f.zip", {"train/angry/Training_1.jpg": bytes(2_000_000)})
    with pytest.raises(DatasetError, match=r"Training_1\.jpg: has more than 1048576 bytes"):
        read_fer2013(path)


def test_a_tar_of_too_many_entries_is_refused(
    table: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(containers, "MAX_ENTRIES", 2)
    files = {"a": b"", "b": b"", "fer2013.csv": table}
    with pytest.raises(DatasetError, match="more than 2 entries"):
        read_fer2013(write(tmp_path / "f.tar.gz", files))


@pytest.mark.parametrize("form", ["f.zip", "f.tar.gz"])
def test_a_cut_archive_is_refused(table: bytes, tmp_path: Path, form: str):
    path = write(tmp_path / form, {"fer2013.csv": table})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match="damaged or not a"):
        read_fer2013(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_whose_bombs_zipfile_would_unpack_whole_is_refused(tmp_path: Path, method: int):
    path = tmp_path / "f.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("train/happy/Training_1.jpg", b"")
    with pytest.raises(DatasetError, match="packed in an uncommon way"):
        read_fer2013(path)


def test_a_tar_whose_hidden_header_claims_terabytes_is_refused(tmp_path: Path):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 45
    (tmp_path / "fer2013.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DatasetError, match="damaged"):
        read_fer2013(tmp_path / "fer2013.tar")


def test_an_encrypted_zip_is_refused(table: bytes, tmp_path: Path):
    path = write(tmp_path / "f.zip", {"fer2013.csv": table})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="is encrypted"):
        read_fer2013(path)
