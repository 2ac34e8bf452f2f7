"""``ferserve predict`` over files, folders and videos."""

import asyncio
import csv
import io
import json
import os
import pty
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ferserve.cli import app
from ferserve.errors import Refusal
from ferserve.fer2013.labels import EMOTIONS
from ferserve.predict.run import in_order
from ferserve.predict.sources import find_sources
from PIL import Image
from typer.testing import CliRunner, Result

av = pytest.importorskip("av", reason="videos need the extra `video`")

from ferserve.predict.video import read_video, turned, write_video  # noqa: E402

RATE = 10
FORMATS = ["table", "csv", "json", "jsonl"]


@pytest.fixture
def ferserve(standin_models, monkeypatch):
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["predict", *map(str, arguments)])

    monkeypatch.setenv("FERSERVE_MODELS_DIR", str(standin_models))
    monkeypatch.setenv("COLUMNS", "200")
    return run


@pytest.fixture
def process(standin_models):
    """The command as a process, in an environment of its own; options are those of ``run``."""

    def run(*arguments: object, env: dict[str, str] | None = None, **options: object):
        return subprocess.run(
            [sys.executable, "-m", "ferserve", "predict", *arguments],
            env=os.environ | {"FERSERVE_MODELS_DIR": str(standin_models)} | (env or {}),
            **{"capture_output": True, "timeout": 120} | options,
        )

    return run


@pytest.fixture
def folder(tmp_path, photo, grey_crop) -> Path:
    """Images, a text, and what hides."""
    folder = tmp_path / "photos"
    for name, content in {
        "b.jpg": photo("astronaut", format="JPEG"),
        "a.png": photo("chelsea"),
        "deep/crop.PNG": grey_crop,
        "notes.txt": b"not an image",
        ".hidden/c.png": grey_crop,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def film(photo) -> list[Image.Image]:
    """The astronaut, moving to the right."""
    picture = np.asarray(Image.open(io.BytesIO(photo("astronaut", size=(256, 256)))))
    return [Image.fromarray(np.roll(picture, 4 * number, axis=1)) for number in range(12)]


@pytest.fixture
def video(film, tmp_path) -> Path:
    path = tmp_path / "film.mp4"
    with write_video(path) as add:
        for number, picture in enumerate(film):
            add(picture, number / RATE)
    return path


# Folders


def test_a_folder_is_searched_for_images(folder):
    found = find_sources([folder]).sources
    assert [str(source.relative) for source in found] == ["a.png", "b.jpg", "deep/crop.PNG"]
    assert [source.path for source in found] == [folder / source.relative for source in found]


def test_files_of_one_name_are_told_apart(tmp_path):
    found = find_sources([tmp_path / "x" / "me.jpg", tmp_path / "y" / "me.jpg"]).sources
    assert [str(source.relative) for source in found] == ["me.jpg", "me-2.jpg"]


def test_no_two_files_have_one_drawing(tmp_path, grey_crop):
    for name in ("me", "me.png", "me-2.png"):
        (tmp_path / name).write_bytes(grey_crop)
    found = find_sources([tmp_path]).sources
    assert sorted(str(source.drawing) for source in found) == ["me-2.png", "me-3.png", "me.png"]


def test_a_folder_is_answered_in_order(ferserve, folder):
    result = ferserve(folder, "--json")
    assert result.exit_code == 0, result.stderr
    items = json.loads(result.stdout)
    assert [Path(item["file"]).name for item in items] == ["a.png", "b.jpg", "crop.PNG"]
    assert [len(item["result"]["faces"]) for item in items] == [0, 1, 1]


def test_limits_that_protect_other_callers_do_not_hold(ferserve, folder, monkeypatch):
    monkeypatch.setenv("FERSERVE_REQUEST_TIMEOUT_MS", "0.001")
    assert ferserve(folder).exit_code == 0


def test_an_empty_folder_is_an_error(ferserve, tmp_path):
    result = ferserve(tmp_path)
    assert result.exit_code == 1
    assert "no image" in result.stderr


def test_content_tells_images_and_videos_whatever_their_names(tmp_path, photo, video):
    mpeg = b"\x47" + bytes(187)
    contents = {
        "clip.3gp": video.read_bytes(),
        "clip.jpg": video.read_bytes(),
        "clip": b"\x1a\x45\xdf\xa3" + bytes(500),
        "clip.ts": 3 * mpeg,
        "clip.mts": 3 * (bytes(4) + mpeg),
        "clip.flv": b"FLV\x01" + bytes(500),
        "clip.vob": b"\0\0\x01\xba" + bytes(500),
        "old.qt": b"\0\0\0\x08wide" + bytes(500),
        "photo.mp4": photo("chelsea"),
        "photo.jfif": photo("chelsea", format="JPEG"),
        "photo": photo("chelsea", format="WEBP"),
        "broken.jpg": b"text",
        "broken.mkv": b"text",
        "app.ts": b"export const answer: number = 42;\n",
        "empty.ts": b"",
        "sound.m4a": b"\0\0\0\x20ftypM4A \0\0\0\0",
        "photo.heic": b"\0\0\0\x20ftypheic\0\0\0\0",
        "notes.TXT": b"text",
        "Makefile": b"all:",
        "__MACOSX/._photo.jpg": b"litter",
        "Thumbs.db": b"litter",
    }
    for name, content in contents.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    search = find_sources([tmp_path / "in"])
    videos = {str(source.relative) for source in search.sources if source.is_video}
    images = {str(source.relative) for source in search.sources if not source.is_video}
    assert videos == {"clip.3gp", "clip.jpg", "clip", "clip.ts", "clip.mts", "clip.flv",
                      "clip.vob", "old.qt", "broken.mkv"}  # fmt: skip
    assert images == {"photo.mp4", "photo.jfif", "photo", "broken.jpg"}
    assert search.left_out == {
        ".ts": 2, ".m4a": 1, ".heic": 1, ".txt": 1, "without a suffix": 1,
    }  # fmt: skip
    (named,) = find_sources([tmp_path / "in" / "broken.mkv"]).sources
    assert named.is_video  # as its name says, for want of better


def test_what_a_folder_has_besides_is_told_at_the_end(ferserve, folder, tmp_path):
    (folder / "more.txt").write_text("x")
    (folder / "app.ts").write_text("let x = 1;")
    (folder / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    (folder / "lost.jpg").symlink_to(tmp_path / "nothing.jpg")
    os.mkfifo(folder / "pipe.jpg")
    result = ferserve(folder, "--json")
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)) == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith("ferserve: left out of the folders: .txt (2), ")
    for part in (".ts (1)", "links to folders (1)", "broken links (1)", "special files (1)"):
        assert part in line


def test_what_cannot_be_read_is_told_and_fails_the_run(ferserve, grey_crop, monkeypatch):
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        (top / "secret").mkdir()
        for file in ("a.png", "b.png", "unknown", "secret/c.png"):
            (top / file).write_bytes(grey_crop)
        for closed in ("b.png", "unknown", "secret"):
            (top / closed).chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            search = find_sources([top])
        finally:
            if root:
                os.seteuid(0)
        monkeypatch.setattr("ferserve.predict.sources.find_sources", lambda *_: search)
        (top / "b.png").chmod(0o644)
        result = ferserve(top, "--json")
        (top / "secret").chmod(0o755)
    assert [str(source.relative) for source in search.sources] == ["a.png", "b.png"]
    assert result.exit_code == 1
    assert sorted(result.stderr.splitlines()) == [
        f"ferserve: {top}/secret: Permission denied",
        f"ferserve: {top}/unknown: Permission denied",
    ]


@pytest.mark.parametrize(
    "address",
    ["https://example.org/me.jpg", "http://example.org/clip.mp4", "s3://bucket/me.png",
     "rtsp://camera/stream", "data:image/png;base64," + 5000 * "A"],
)  # fmt: skip
def test_an_address_is_not_opened_but_to_be_downloaded_first(ferserve, address):
    result = ferserve(address, "--json")
    assert result.exit_code == 1
    (item,) = json.loads(result.stdout)
    assert "download it first" in item["problem"]["detail"]


# Outputs


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_names_that_are_not_utf8_cost_nothing(process, tmp_path, grey_crop, format, locale):
    faces, output = tmp_path / "faces", tmp_path / "answers"
    faces.mkdir()
    Path(os.fsdecode(os.fsencode(faces) + b"/caf\xe9.png")).write_bytes(grey_crop)
    (faces / "größe.png").write_bytes(grey_crop)
    arguments = [faces, "--format", format]
    with ThreadPoolExecutor() as threads:
        ended = threads.submit(process, *arguments, env=locale)
        written = process(*arguments, "--output", output, env=locale)
        piped = ended.result()
    assert (piped.returncode, written.returncode) == (0, 0), piped.stderr + written.stderr
    text = output.read_text("utf-8")
    if format in ("table", "csv"):
        assert "caf\\xe9.png" in text
        assert "größe.png" in text
    assert piped.stdout.decode("utf-8").count(".png") == 2


def test_a_video_may_have_any_name(ferserve, video, tmp_path):
    odd = tmp_path / os.fsdecode(b"film\xff.mp4")
    video.rename(odd)
    drawn = tmp_path / "drawn"
    result = ferserve(odd, "--json", "--fps", "5", "--annotate", drawn)
    assert result.exit_code == 0, result.stdout
    assert {item["file"] for item in json.loads(result.stdout)} == {f"{tmp_path}/film\\xff.mp4"}
    assert (drawn / odd.name).exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_one_line_that_names_the_output(process, folder, format):
    with Path("/dev/full").open("w") as full, ThreadPoolExecutor() as threads:
        arguments = (folder / "b.jpg", "--format", format)
        to_full = {"stdout": full, "stderr": subprocess.PIPE, "capture_output": False}
        ended = threads.submit(process, *arguments, **to_full)
        written = process(*arguments, "--output", "/dev/full")
        piped = ended.result()
    assert piped.stderr == b"ferserve: standard output: No space left on device\n"
    assert written.stderr == b"ferserve: /dev/full: No space left on device\n"
    assert (piped.returncode, written.returncode) == (1, 1)


@pytest.mark.parametrize("format", FORMATS)
def test_a_closed_pipe_ends_silently(process, folder, format):
    reading, writing = os.pipe()
    os.close(reading)
    ended = process(folder / "b.jpg", "--format", format,
                    stdout=writing, stderr=subprocess.PIPE, capture_output=False)  # fmt: skip
    os.close(writing)
    assert ended.stderr == b""
    assert ended.returncode == 1


def in_terminal(command: list[object], columns: int, **options: object) -> tuple[bytes, object]:
    """Runs a command whose stderr is a terminal; its stdout, too, where no other is given."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    ended = subprocess.Popen(command, **{"stdout": theirs, "stderr": theirs} | options)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # Linux' end of a terminal
        pass
    os.close(ours)
    ended.wait(60)
    return shown, ended


def test_names_are_whole_in_a_file_and_keep_their_end_in_a_terminal(
    ferserve, process, tmp_path, grey_crop, standin_models
):
    long = tmp_path / ("a" * 120) / "portrait-of-nobody.png"
    long.parent.mkdir()
    long.write_bytes(grey_crop)
    assert str(long) in process(long, env={"COLUMNS": "40"}).stdout.decode()
    assert ferserve(long, "--output", tmp_path / "table").exit_code == 0
    assert str(long) in (tmp_path / "table").read_text()
    command = [sys.executable, "-m", "ferserve", "predict", long]
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    environment |= {"FERSERVE_MODELS_DIR": str(standin_models), "TERM": "xterm"}
    shown, _ = in_terminal(command, 100, env=environment)
    assert "portrait-of-nobody.png" in shown.decode()
    assert "…" in shown.decode()


def test_what_is_redirected_arrives_though_a_bar_is_shown(tmp_path, folder, standin_models):
    command = [sys.executable, "-m", "ferserve", "predict", folder / "b.jpg", "--format", "jsonl"]
    environment = os.environ | {"FERSERVE_MODELS_DIR": str(standin_models), "TERM": "xterm"}
    with (tmp_path / "answers").open("wb") as file:
        shown, _ = in_terminal(command, 80, stdout=file, env=environment)
    assert b"dominant_emotion" not in shown
    (line,) = (tmp_path / "answers").read_text().splitlines()
    assert json.loads(line)["file"] == str(folder / "b.jpg")


def test_json_lines_are_the_items_of_json(ferserve, folder):
    items = json.loads(ferserve(folder, "--format", "json").stdout)
    lines = ferserve(folder, "--format", "jsonl").stdout.splitlines()
    for line, item in zip(lines, items, strict=True):
        document = json.loads(line)
        assert document["file"] == item["file"]
        assert document["result"]["faces"] == item["result"]["faces"]


def test_csv_has_a_row_for_each_face_and_for_what_has_none(ferserve, folder, tmp_path):
    table = tmp_path / "faces.csv"
    result = ferserve(folder, folder / "notes.txt", "--format", "csv", "--output", table)
    assert result.exit_code == 1  # of the text
    assert result.stdout == ""
    with table.open(newline="") as file:
        cat, astronaut, crop, text = csv.DictReader(file)
    assert (cat["face"], cat["problem"]) == ("", "")
    assert (astronaut["face"], crop["face"]) == ("1", "1")
    assert sum(float(astronaut[emotion]) for emotion in EMOTIONS) == pytest.approx(1, abs=1e-5)
    assert int(astronaut["width"]) > 50
    assert crop["face_confidence"] == ""
    assert text["problem"] == "unsupported_media_type"


def test_control_characters_of_a_name_stand_in_answers_but_not_in_tables(ferserve, tmp_path):
    name = tmp_path / "a\x1b[31m\n.jpg"
    assert r"a\x1b[31m\x0a.jpg" in ferserve(name).stdout
    assert json.loads(ferserve(name, "--json").stdout)[0]["file"] == str(name)


def test_output_takes_no_input_and_empties_no_file_in_vain(ferserve, folder, tmp_path):
    photo = folder / "b.jpg"
    before = photo.read_bytes()
    refused = ferserve(photo, "--output", folder / "deep" / ".." / "b.jpg")
    assert (refused.exit_code, photo.read_bytes()) == (2, before)
    twin = folder / "twin.csv"
    twin.hardlink_to(photo)
    assert ferserve(photo, "--output", twin).exit_code == 2
    earlier = tmp_path / "faces.csv"
    earlier.write_text("earlier answers")
    assert ferserve(photo, "--output", earlier, "--model", "third").exit_code == 1
    assert earlier.read_text() == "earlier answers"


def test_pictures_are_drawn_beside_and_never_over_the_files(ferserve, folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    drawn = tmp_path / "drawn"
    assert ferserve(folder, "--annotate", drawn, "--format", "jsonl").exit_code == 0
    for name, changed in {"a.png": False, "b.jpg": True, "deep/crop.PNG": True}.items():
        with Image.open(folder / name) as original, Image.open(drawn / name) as picture:
            assert picture.size == original.size
            difference = np.abs(
                np.asarray(picture.convert("RGB"), int) - np.asarray(original.convert("RGB"), int)
            )
        assert (difference.max() > 100) == changed, name
    refused = ferserve(folder / "b.jpg", "--annotate", folder, "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)[0]["problem"]["code"] == "unreadable_file"
    assert {path: path.read_bytes() for path in before} == before


def test_drawings_inside_the_folder_are_not_looked_at_the_next_time(ferserve, folder):
    for _ in range(2):
        result = ferserve(folder, "--annotate", folder / "drawn", "--json")
        assert len(json.loads(result.stdout)) == 3
    assert not (folder / "drawn" / "drawn").exists()


# Videos


def test_a_video_comes_back_as_it_was_written(film, video):
    with read_video(video) as found:
        pictures = list(found)
    assert [picture.number for picture in pictures] == list(range(1, 13))
    assert [picture.seconds for picture in pictures] == pytest.approx(np.arange(12) / RATE)
    for picture, original in zip(pictures, film, strict=True):
        assert np.abs(picture.rgb.astype(int) - np.asarray(original, int)).mean() < 10


def test_fewer_frames_are_spread_evenly(video):
    with read_video(video, fps=5) as found:
        assert [picture.number for picture in found] == [1, 3, 5, 7, 9, 11]
    with read_video(video, fps=100) as found:
        assert len(list(found)) == 12


@pytest.mark.parametrize("fps", [2, 5, 7.5])
def test_frames_are_chosen_by_their_time(tmp_path, fps):
    burst = np.arange(30) / 30
    times = [*burst, *(5.03 + burst), 9.0, *np.sort(10 + np.random.default_rng(0).random(40))]
    path = tmp_path / "variable.mp4"
    with write_video(path) as add:
        for number, time in enumerate(times):
            add(Image.new("RGB", (64, 64), (number, 0, 0)), float(time))
    with read_video(path, fps=fps) as found:
        chosen = np.array([picture.seconds for picture in found])
    intervals = np.floor((chosen + 0.002) * fps)
    assert (np.diff(intervals) >= 1).all()
    assert set(intervals) == set(np.floor((np.array(times) + 0.002) * fps))
    steady = np.diff(chosen[chosen < 1])
    assert steady == pytest.approx(np.full(len(steady), 1 / fps), abs=0.5 / 30 + 0.001)


@pytest.mark.parametrize("fps", [None, 5])
def test_the_time_of_a_film_of_joined_files_goes_on(tmp_path, film, fps):
    part, joined = tmp_path / "part.ts", tmp_path / "joined.ts"
    with write_video(part) as add:
        for number, picture in enumerate(film):
            add(picture, number / RATE)
    joined.write_bytes(2 * part.read_bytes())
    with read_video(joined, fps=fps) as found:
        seconds = [picture.seconds for picture in found]
    assert len(seconds) == (12 if fps else 24)
    assert all(before < after for before, after in pairwise(seconds))


def test_frames_of_one_time_are_written_one_after_the_other(tmp_path):
    path = tmp_path / "halting.mp4"
    with write_video(path) as add:
        for seconds in (0, 0.04, 0.04, 0.08):
            add(Image.new("RGB", (64, 48), "red"), seconds)
    with read_video(path) as found:
        seconds = [picture.seconds for picture in found]
    assert seconds == pytest.approx([0, 0.04, 0.04, 0.08], abs=0.001)


def test_odd_sides_lose_a_line(tmp_path):
    path = tmp_path / "odd.mp4"
    with write_video(path) as add:
        for number in range(3):
            add(Image.new("RGB", (65, 49), "red"), number / RATE)
    with read_video(path) as found:
        assert [picture.rgb.shape for picture in found] == [(48, 64, 3)] * 3


def test_pixels_become_square(tmp_path):
    path = tmp_path / "dvd.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        container.mux(stream.encode(av.VideoFrame(48, 64, "yuv420p")))
        container.mux(stream.encode())
    with read_video(path) as found:
        assert [picture.rgb.shape for picture in found] == [(64, 64, 3)]


def test_pictures_are_turned_against_the_clock():
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, axis=2)
    assert turned(picture, 90)[:, :, 0].tolist() == [[2, 5], [1, 4], [0, 3]]
    assert turned(picture, -90)[:, :, 0].tolist() == [[3, 0], [4, 1], [5, 2]]
    assert turned(picture, 0) is picture or (turned(picture, 0) == picture).all()


def test_a_video_is_answered_frame_by_frame_with_tracks(ferserve, video):
    result = ferserve(video, "--format", "jsonl")
    assert result.exit_code == 0, result.stderr
    items = [json.loads(line) for line in result.stdout.splitlines()]
    assert [item["frame"] for item in items] == list(range(1, 13))
    for before, after in pairwise(items):
        assert after["seconds"] - before["seconds"] == pytest.approx(1 / RATE, abs=1e-3)
        (old,), (new,) = before["result"]["faces"], after["result"]["faces"]
        assert (old["track"], new["track"]) == (1, 1)
        assert new["box"]["x"] - old["box"]["x"] == pytest.approx(4, abs=3)
    first = items[0]["result"]["faces"][0]
    assert first["emotions_smoothed"] == first["emotions"]


def test_a_video_is_drawn(ferserve, video, tmp_path):
    drawn = tmp_path / "drawn"
    result = ferserve(video, "--annotate", drawn, "--fps", "5", "--format", "csv")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["frame"] for row in rows] == ["1", "3", "5", "7", "9", "11"]
    assert {row["track"] for row in rows} == {"1"}
    assert all(float(row["happy_smoothed"]) > 0 for row in rows)
    with read_video(drawn / "film.mp4") as found:
        pictures = list(found)
    assert [picture.seconds for picture in pictures] == pytest.approx(np.arange(6) / 5)
    with read_video(video) as found:
        original = next(found)
    assert np.abs(pictures[0].rgb.astype(int) - original.rgb).max() > 100
    assert [path.name for path in drawn.iterdir()] == ["film.mp4"]


def test_a_table_has_a_row_for_each_face_of_a_video(ferserve, video, folder):
    result = ferserve(video, folder / "b.jpg")
    assert result.exit_code == 0
    assert "face 1, 0.0 to 1.1 s" in result.stdout
    assert "mean of 12 of 12 frames" in result.stdout
    assert "b.jpg" in result.stdout


def test_a_bad_video_costs_only_its_place(ferserve, video, tmp_path):
    broken, text = tmp_path / "broken.mp4", tmp_path / "text.mkv"
    broken.write_bytes(video.read_bytes()[:-2000])
    text.write_text("no video")
    result = ferserve(broken, text, tmp_path / "missing.mov", video, "--format", "jsonl")
    assert result.exit_code == 1
    items = [json.loads(line) for line in result.stdout.splitlines()]
    codes = {Path(i["file"]).name: i["problem"]["code"] for i in items if "problem" in i}
    assert codes == {
        "broken.mp4": "undecodable_video",
        "text.mkv": "undecodable_video",
        "missing.mov": "unreadable_file",
    }
    assert sum(item["file"] == str(video) for item in items) == 12


def test_the_frames_before_the_damage_are_answered(ferserve, video):
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        start, size = packets[8].pos, packets[8].size
    content = bytearray(video.read_bytes())
    content[start : start + size] = size * b"\xff"
    video.write_bytes(content)
    decoded = []
    with suppress(Refusal), read_video(video) as found:
        for picture in found:
            decoded.append(picture.number)
    *seen, last = json.loads(ferserve(video, "--json").stdout)
    assert [item["frame"] for item in seen] == decoded != []
    assert last["problem"]["code"] == "undecodable_video"


def box(kind: bytes, content: bytes) -> bytes:
    """A box of an MP4 file (ISO/IEC 14496-12, section 4.2)."""
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def test_a_container_without_pictures_is_called_that(ferserve, tmp_path):
    empty, sound, cut = (tmp_path / f"{name}.mp4" for name in ("empty", "sound", "cut"))
    time_scale = bytes(12) + (1000).to_bytes(4, "big") + bytes(84)
    empty.write_bytes(box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", box(b"mvhd", time_scale)))
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(cut), "w", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        container.add_stream("libx264", rate=RATE).pix_fmt = "yuv420p"
        container.start_encoding()
    items = json.loads(ferserve(empty, sound, cut, "--json").stdout)
    assert [item["problem"]["detail"] for item in items] == [
        "it has no track: the container is empty",
        "it has no pictures, only audio",
        "it has no pictures, only a track for them",
    ]


def test_without_pyav_a_video_says_what_to_install(ferserve, video, monkeypatch):
    monkeypatch.setitem(sys.modules, "ferserve.predict.video", None)
    result = ferserve(video, "--json")
    assert result.exit_code == 1
    (item,) = json.loads(result.stdout)
    assert item["problem"]["code"] == "video_not_supported"
    assert "ferserve[video]" in item["problem"]["detail"]


# Parts


async def test_results_come_in_order_and_few_jobs_are_begun_ahead():
    begun: list[int] = []

    def job(number: int):
        async def work() -> int:
            begun.append(number)
            await asyncio.sleep(0.001 * (number % 3))
            return number

        return work

    taken = []
    async for number in in_order(map(job, range(20)), at_once=4):
        taken.append(number)
        assert len(begun) <= number + 4
    assert taken == list(range(20))
