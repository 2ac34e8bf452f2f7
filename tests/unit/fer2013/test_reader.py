import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import DatasetError, Fer2013, read_fer2013
from synthetic_fer2013 import face, jpeg, write_csv, write_zip


@pytest.fixture(scope="module")
def kaggle_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zip(tmp_path_factory.mktemp("data") / "fer2013.zip", train=3, test=2)


@pytest.fixture(scope="module")
def dataset(kaggle_zip: Path) -> Fer2013:
    return read_fer2013(kaggle_zip)


def rewrite(source: Path, target: Path, skip: str = "", **added: bytes) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if not (skip and skip in name):
                new.writestr(name, old.read(name))
        for name, data in added.items():
            new.writestr(name, data)
    return target


def test_labels_follow_the_data_sets_order_not_the_alphabet():
    assert EMOTIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def test_zip_gives_three_splits_with_labels_from_the_folder_names(dataset: Fer2013):
    assert [len(s) for s in (dataset.train, dataset.public, dataset.private)] == [21, 14, 14]
    for split in (dataset.train, dataset.public, dataset.private):
        assert split.faces.dtype == np.uint8
        assert split.faces.shape[1:] == (48, 48)
        # The made-up file names carry the label in their thousands.
        numbers = [int(name.split("_")[1].removesuffix(".jpg")) // 1000 for name in split.ids]
        assert split.labels.tolist() == numbers


def test_test_images_are_public_then_private(dataset: Fer2013):
    assert dataset.test.ids == dataset.public.ids + dataset.private.ids
    assert np.array_equal(dataset.test.faces[14:], dataset.private.faces)


def test_unpacked_folder_reads_like_the_zip(kaggle_zip: Path, dataset: Fer2013, tmp_path: Path):
    with zipfile.ZipFile(kaggle_zip) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "README.txt").write_text("a stray file does no harm")
    folder = read_fer2013(tmp_path)
    assert np.array_equal(folder.train.faces, dataset.train.faces)
    assert folder.test.ids == dataset.test.ids
    assert folder.sha256() == dataset.sha256()


def test_a_tar_of_the_images_reads_like_the_zip(kaggle_zip: Path, dataset: Fer2013, tmp_path: Path):
    with zipfile.ZipFile(kaggle_zip) as archive:
        archive.extractall(tmp_path / "images")
    with tarfile.open(tmp_path / "fer2013.tgz", "w:gz") as tar:
        tar.add(tmp_path / "images", "fer2013")
    assert read_fer2013(tmp_path / "fer2013.tgz").sha256() == dataset.sha256()


def test_csv_reads_like_the_zip(dataset: Fer2013, tmp_path: Path):
    table = read_fer2013(write_csv(tmp_path / "fer2013.csv", dataset))
    assert np.array_equal(table.private.faces, dataset.private.faces)
    assert np.array_equal(table.train.labels, dataset.train.labels)
    assert table.train.ids[0] == "row-1"
    assert table.sha256() == dataset.sha256()


def test_hash_changes_with_one_pixel(dataset: Fer2013):
    faces = dataset.train.faces.copy()
    faces[0, 0, 0] ^= 1
    changed = Fer2013(
        type(dataset.train)(faces, dataset.train.labels, dataset.train.ids),
        dataset.public,
        dataset.private,
    )
    assert changed.sha256() != dataset.sha256()


def test_missing_path_is_named(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"nowhere\.zip: no such file"):
        read_fer2013(tmp_path / "nowhere.zip")


@pytest.mark.parametrize("keep", [0, 100, 5000], ids=["empty", "first-bytes", "half"])
def test_truncated_zip_is_named_with_what_was_expected(kaggle_zip: Path, tmp_path: Path, keep: int):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(kaggle_zip.read_bytes()[:keep])
    with pytest.raises(DatasetError, match=r"broken\.zip: damaged or not a zip.*train/<emotion>"):
        read_fer2013(broken)


def test_zip_with_flipped_bytes_is_refused(kaggle_zip: Path, tmp_path: Path):
    data = bytearray(kaggle_zip.read_bytes())
    data[200:400] = bytes(200)
    broken = tmp_path / "flipped.zip"
    broken.write_bytes(data)
    with pytest.raises(DatasetError, match=r"flipped\.zip"):
        read_fer2013(broken)


def test_folder_with_other_files_says_what_was_expected(tmp_path: Path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"no FER2013 images found; expected train/<emotion>"):
        read_fer2013(tmp_path)


def test_missing_class_is_named(kaggle_zip: Path, tmp_path: Path):
    path = rewrite(kaggle_zip, tmp_path / "six.zip", skip="train/disgust")
    with pytest.raises(DatasetError, match=r"six\.zip: no Training image of disgust"):
        read_fer2013(path)


def test_unknown_class_is_named(kaggle_zip: Path, tmp_path: Path):
    image = jpeg(face(0, np.random.default_rng(0)))
    path = rewrite(kaggle_zip, tmp_path / "f.zip", **{"train/bored/Training_1.jpg": image})
    with pytest.raises(DatasetError, match=r"unknown emotion 'bored'; expected angry, disgust"):
        read_fer2013(path)


def test_test_image_among_the_training_images_is_refused(kaggle_zip: Path, tmp_path: Path):
    image = jpeg(face(0, np.random.default_rng(0)))
    path = rewrite(kaggle_zip, tmp_path / "f.zip", **{"train/sad/PublicTest_1.jpg": image})
    with pytest.raises(DatasetError, match=r"train/sad/PublicTest_1\.jpg: expected"):
        read_fer2013(path)


def test_unreadable_image_is_named(kaggle_zip: Path, tmp_path: Path):
    path = rewrite(kaggle_zip, tmp_path / "f.zip", **{"train/sad/Training_9.jpg": b"not a JPEG"})
    with pytest.raises(DatasetError, match=r"train/sad/Training_9\.jpg: not a readable JPEG"):
        read_fer2013(path)


def test_image_of_another_size_is_named(kaggle_zip: Path, tmp_path: Path):
    image = jpeg(np.zeros((64, 32), np.uint8))
    path = rewrite(kaggle_zip, tmp_path / "f.zip", **{"train/sad/Training_9.jpg": image})
    with pytest.raises(DatasetError, match=r"Training_9\.jpg: 32×64 pixels; expected 48×48"):
        read_fer2013(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3,1 2 3,Training", "row 1: expected 2304 pixels"),
        ("7," + "0 " * 2304 + ",Training", "row 1: emotion is 7"),
        ("x," + "0 " * 2304 + ",Training", "row 1: emotion or pixels is not a number"),
        ("3," + "300 " * 2304 + ",Training", "row 1: expected 2304 pixels of 0 to 255"),
        ("3," + "0 " * 2304 + ",Testing", "row 1: Usage is 'Testing'"),
        ("3", "row 1: Usage is None"),
    ],
    ids=["too-few-pixels", "label-7", "label-x", "pixel-300", "usage", "cut-row"],
)
def test_bad_csv_row_is_named(tmp_path: Path, row: str, message: str):
    path = tmp_path / "fer2013.csv"
    path.write_text(f"emotion,pixels,Usage\n{row}\n")
    with pytest.raises(DatasetError, match=message):
        read_fer2013(path)


def test_csv_without_the_columns_says_which(tmp_path: Path):
    path = tmp_path / "other.csv"
    path.write_text("name,age\nx,1\n")
    message = "expected one column each of emotion, pixels, Usage; found 'name', 'age'"
    with pytest.raises(DatasetError, match=message):
        read_fer2013(path)


@pytest.mark.parametrize(
    "header",
    ["\ufeffemotion,pixels,Usage", "emotion, pixels , Usage", "Emotion,PIXELS,usage",
     '\ufeff"emotion","pixels"," Usage"'],
    ids=["byte order mark", "blanks", "letter case", "quoted"],
)  # fmt: skip
def test_csv_header_may_be_written_otherwise(dataset: Fer2013, tmp_path: Path, header: str):
    path = write_csv(tmp_path / "fer2013.csv", dataset)
    rows = path.read_text(encoding="utf-8").split("\n", 1)[1]
    path.write_text(f"{header}\n{rows}", encoding="utf-8")
    assert read_fer2013(path).sha256() == dataset.sha256()


def test_the_challenges_second_csv_is_read(dataset: Fer2013, tmp_path: Path):
    path = write_csv(tmp_path / "icml_face_data.csv", dataset)
    rows = [row.split(",") for row in path.read_text().splitlines()[1:]]
    lines = ["emotion, Usage, pixels", *(f"{label},{usage},{px}" for label, px, usage in rows)]
    path.write_text("\n".join(lines))
    assert read_fer2013(path).sha256() == dataset.sha256()


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path):
    path = tmp_path / "twice.csv"
    path.write_text("emotion,pixels,Usage, usage\n")
    with pytest.raises(
        DatasetError, match=r"one column each of .*Usage; found 'emotion'.*' usage'"
    ):
        read_fer2013(path)


def test_an_endless_csv_line_is_refused(tmp_path: Path):
    path = tmp_path / "line.csv"
    path.write_text("emotion,pixels,Usage\n" + "0," + "1 " * 50_000)
    with pytest.raises(DatasetError, match="a line has more than 65536 characters"):
        read_fer2013(path)


def test_emotion_folders_may_be_capitalised(kaggle_zip: Path, dataset: Fer2013, tmp_path: Path):
    with zipfile.ZipFile(kaggle_zip) as old, zipfile.ZipFile(tmp_path / "f.zip", "w") as new:
        for name in old.namelist():
            split, emotion, file = name.split("/")
            new.writestr(f"{split}/{emotion.title()}/{file}", old.read(name))
    assert read_fer2013(tmp_path / "f.zip").sha256() == dataset.sha256()


def test_an_image_that_is_there_in_two_letter_cases_is_refused(kaggle_zip: Path, tmp_path: Path):
    image = jpeg(face(0, np.random.default_rng(0)))
    path = rewrite(kaggle_zip, tmp_path / "f.zip", **{"train/Angry/Training_0.jpg": image})
    with pytest.raises(DatasetError, match=r"train/angry/Training_0\.jpg: appears twice"):
        read_fer2013(path)


LITTER = (
    "__MACOSX/train/angry/._Training_0.jpg",
    "train/angry/._Training_0.jpg",
    "train/.DS_Store",
    "train/angry/Thumbs.db",
    "train/.ipynb_checkpoints/Training_0-checkpoint.jpg",
    "train/angry/.ipynb_checkpoints/Training_0.jpg",
    ".ipynb_checkpoints/fer2013-checkpoint.csv",
)


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_litter_is_passed_over(kaggle_zip: Path, dataset: Fer2013, tmp_path: Path, form: str):
    path = rewrite(kaggle_zip, tmp_path / "f.zip", **dict.fromkeys(LITTER, b"x"))
    if form == "folder":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "folder")
        path = tmp_path / "folder"
    assert read_fer2013(path).sha256() == dataset.sha256()
