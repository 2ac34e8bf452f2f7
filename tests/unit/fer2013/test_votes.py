"""FER+ votes: two forms of file, what they count, and what an error says."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ferserve.fer2013.dataset import DatasetError
from ferserve.fer2013.reader import Fer2013, read_fer2013
from ferserve.fer2013.votes import CHOICES, majority, read_votes, shares
from synthetic_fer2013 import write_csv, write_published_votes, write_votes, write_zip

TEN = range(1, 11)
"""One vote for angry, two for disgust, and so on to ten for not_a_face."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Fer2013:
    """Its private faces are PrivateTest_0, PrivateTest_1000, ... PrivateTest_6000."""
    return read_fer2013(write_zip(tmp_path_factory.mktemp("data") / "small.zip", train=2, test=1))


@pytest.fixture(scope="module")
def original(dataset: Fer2013, tmp_path_factory: pytest.TempPathFactory) -> Fer2013:
    """The same faces from an original ``fer2013.csv``: row-1, row-2, ... row-28."""
    return read_fer2013(write_csv(tmp_path_factory.mktemp("data") / "fer2013.csv", dataset))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "votes.csv"


def counts_of(**votes: int) -> np.ndarray:
    return np.array([[votes.get(name, 0) for name in CHOICES]], np.int64)


def refusal(path: Path, dataset: Fer2013) -> str:
    with pytest.raises(DatasetError) as caught:
        read_votes(path, dataset)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


# Our form: one row an image, keyed by the file name without its suffix.


def test_people_choose_an_emotion_or_one_of_three_other_answers():
    assert CHOICES[:7] == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert CHOICES[7:] == ("contempt", "unknown", "not_a_face")


def test_votes_belong_to_the_image_that_the_row_names(path: Path, dataset: Fer2013):
    rows = {"PrivateTest_3000": TEN, "PrivateTest_0": [0] * 9 + [10]}
    counts = read_votes(write_votes(path, rows), dataset).of(dataset.private)
    assert counts.dtype == np.int64
    assert counts.shape == (7, 10)
    by_name = dict(zip(dataset.private.ids, counts.tolist(), strict=True))
    assert by_name["PrivateTest_3000.jpg"] == list(TEN)
    assert by_name["PrivateTest_0.jpg"] == [0] * 9 + [10]


def test_a_face_without_a_row_has_no_votes(path: Path, dataset: Fer2013):
    votes = read_votes(write_votes(path, {"PrivateTest_3000": TEN}), dataset)
    assert votes.of(dataset.private).sum() == sum(TEN)
    assert votes.of(dataset.train).tolist() == [[0] * 10] * 14


def test_a_split_without_faces_has_no_rows(path: Path, dataset: Fer2013):
    votes = read_votes(write_votes(path, {"PrivateTest_3000": TEN}), dataset)
    nobody = dataset.private.take(np.array([], np.int64))
    assert votes.of(nobody).shape == (0, 10)


def test_columns_may_stand_in_any_order_beside_others(path: Path, dataset: Fer2013):
    backwards = list(reversed(CHOICES))
    path.write_text(f"{','.join(backwards)},note,image\n{'0,' * 9}10,x,PrivateTest_0\n")
    counts = read_votes(path, dataset).of(dataset.private)
    assert counts.sum(axis=0).tolist() == [10] + [0] * 9


def test_a_byte_order_mark_and_spaces_do_no_harm(path: Path, dataset: Fer2013):
    header = ", ".join(("image", *CHOICES))
    path.write_text(f"{header}\nPrivateTest_0,{', '.join(map(str, TEN))}\n", encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    counts = read_votes(path, dataset).counts
    assert {image: row.tolist() for image, row in counts.items()} == {"PrivateTest_0": list(TEN)}


# The published form: one row a face, in the order of the original fer2013.csv.


def test_published_votes_follow_the_rows_of_the_original_csv(path: Path, original: Fer2013):
    rows = [[number, *TEN[1:]] for number in range(1, 29)]
    votes = read_votes(write_published_votes(path, rows), original)
    for split in (original.train, original.public, original.private):
        numbers = [int(name.removeprefix("row-")) for name in split.ids]
        assert votes.of(split).tolist() == [[number, *TEN[1:]] for number in numbers]


def test_published_votes_are_read_with_a_byte_order_mark_too(path: Path, original: Fer2013):
    write_published_votes(path, [TEN])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_votes(path, original).counts["row-1"].tolist() == list(TEN)


def test_published_votes_do_not_fit_faces_that_have_file_names(path: Path, dataset: Fer2013):
    message = refusal(write_published_votes(path, [TEN]), dataset)
    assert message == (
        "row 1: the data set has no image 'row-1'; expected names such as 'Training_0'"
    )


def test_more_published_votes_than_faces_are_refused(path: Path, original: Fer2013):
    message = refusal(write_published_votes(path, [TEN] * 29), original)
    assert message.startswith("row 29: the data set has no image 'row-29'; expected names such as")


def test_the_hash_depends_on_the_votes_alone(path: Path, original: Fer2013):
    published = read_votes(write_published_votes(path, [TEN, [1] * 10]), original)
    ours = read_votes(write_votes(path, {"row-2": [1] * 10, "row-1": TEN}), original)
    other = read_votes(write_votes(path, {"row-2": [1] * 9 + [2], "row-1": TEN}), original)
    assert published.sha256() == ours.sha256() != other.sha256()


# Two faces of one name: nothing tells whose votes are whose.


@pytest.fixture
def twins(dataset: Fer2013) -> Fer2013:
    """Two private faces have the name PrivateTest_0."""
    ids = ("PrivateTest_0.jpg", "PrivateTest_0.jpg", *dataset.private.ids[2:])
    return replace(dataset, private=replace(dataset.private, ids=ids))


@pytest.mark.parametrize("rows", [1, 2])
def test_faces_that_share_a_name_have_no_votes(path: Path, twins: Fer2013, rows: int):
    write_votes(path, {"PrivateTest_3000": TEN})
    with path.open("a") as file:
        file.write(f"PrivateTest_0,{','.join(map(str, TEN))}\n" * rows)
    votes = read_votes(path, twins)
    assert list(votes.counts) == ["PrivateTest_3000"]
    assert votes.of(twins.private)[:2].tolist() == [[0] * 10] * 2


# Shares and majority.


def test_shares_are_of_all_people_over_the_seven_emotions():
    found = shares(counts_of(happy=6, neutral=2, unknown=2))
    assert found.dtype == np.float32
    assert found.tolist() == [pytest.approx([0, 0, 0, 0.6, 0, 0, 0.2])]


def test_shares_of_no_votes_are_zero():
    assert shares(counts_of()).tolist() == [[0] * 7]


def test_majority_is_the_emotion_with_most_votes_even_below_half():
    assert majority(counts_of(happy=4, sad=3, neutral=3)).tolist() == [3]


@pytest.mark.parametrize(
    "votes",
    [
        {"happy": 5, "sad": 5},
        {"happy": 4, "contempt": 4, "unknown": 2},
        {"happy": 4, "contempt": 6},
        {"sad": 4, "unknown": 6},
        {"not_a_face": 10},
        {},
    ],
    ids=["level", "level-with-contempt", "contempt", "unknown", "not-a-face", "no-votes"],
)
def test_there_is_no_majority_unless_it_is_unique_and_an_emotion(votes: dict[str, int]):
    assert majority(counts_of(**votes)).tolist() == [-1]


# Errors name the file, the row and what was expected.


def test_a_missing_file_is_named(path: Path, dataset: Fer2013):
    message = refusal(path, dataset)
    assert message == "no such file or directory; expected a CSV of FER+ votes"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("image,happy,sad", "image, happy, sad"),
        (",".join(CHOICES), ", ".join(CHOICES)),
        ("emotion,pixels,Usage", "emotion, pixels, Usage"),
        ("", "none"),
    ],
    ids=["too-few", "no-image", "faces", "empty"],
)
def test_other_columns_are_named(path: Path, dataset: Fer2013, header: str, found: str):
    path.write_text(header)
    assert refusal(path, dataset) == (
        f"found the columns {found}; expected image, {', '.join(CHOICES)}, "
        "or those of the published fer2013new.csv"
    )


def test_columns_of_one_name_are_refused(path: Path, dataset: Fer2013):
    path.write_text(",".join(("image", *CHOICES, "angry")))
    assert refusal(path, dataset) == "two columns have one name"


def test_columns_without_a_name_are_passed_over(path: Path, dataset: Fer2013):
    row = ",".join(map(str, TEN))
    path.write_text(f"{','.join(('image', *CHOICES))},,\nPrivateTest_0,{row},,\n")
    assert read_votes(path, dataset).of(dataset.private).sum() == sum(TEN)


def test_a_field_without_end_is_refused(path: Path, dataset: Fer2013):
    path.write_text(f"{','.join(('image', *CHOICES))}\n{'x' * 200_000}\n")
    assert "field larger than field limit" in refusal(path, dataset)


def test_a_file_without_rows_is_refused(path: Path, dataset: Fer2013):
    assert refusal(write_votes(path, {}), dataset) == "no rows; expected one for each image"


@pytest.mark.parametrize("bad", ["x", "", "-1", "0.5", "9" * 5000])
def test_what_is_not_a_whole_number_is_named(path: Path, dataset: Fer2013, bad: str):
    rows = {"PrivateTest_0": TEN, "PrivateTest_1000": [bad, *TEN[1:]]}
    votes = f"{bad}, 2, 3, 4, 5, 6, 7, 8, 9, 10"
    expected = f"row 2: votes are {votes}; expected ten whole numbers of at least 0"
    assert refusal(write_votes(path, rows), dataset) == expected


def test_a_row_that_is_cut_is_named(path: Path, dataset: Fer2013):
    message = refusal(write_votes(path, {"PrivateTest_0": TEN[:4]}), dataset)
    assert re.match(r"row 1: votes are 1, 2, 3, 4, None.*; expected ten whole numbers", message)


def test_an_image_that_the_data_set_lacks_is_named(path: Path, dataset: Fer2013):
    rows = {"PrivateTest_0": TEN, "PrivateTest_9": TEN}
    assert refusal(write_votes(path, rows), dataset) == (
        "row 2: the data set has no image 'PrivateTest_9'; expected names such as 'Training_0'"
    )


def test_a_second_row_for_an_image_is_refused(path: Path, dataset: Fer2013):
    write_votes(path, {"PrivateTest_0": TEN})
    with path.open("a") as file:
        file.write(f"PrivateTest_0,{','.join(map(str, TEN))}\n")
    message = refusal(path, dataset)
    assert message == "row 2: image 'PrivateTest_0' has a row already; expected one row an image"
