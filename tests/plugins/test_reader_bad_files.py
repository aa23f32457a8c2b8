"""Every reader on every kind of bad file: one error, all problems, file and line."""

from __future__ import annotations

import contextlib
import gzip
import random
import re
from pathlib import Path

import pytest
from reader_samples import SAMPLES, START, ReaderContext, Sample

from dynmm_framework.data.rows import SHOWN, RowsError, check
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError
from dynmm_framework.protocols import DatasetReader


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Sample:
    return SAMPLES[request.param](tmp_path)


@pytest.fixture(params=[name for name in SAMPLES if name != "sequence_pairs"])
def timed_sample(request: pytest.FixtureRequest, tmp_path: Path) -> Sample:
    """A dataset with times and ratings."""
    return SAMPLES[request.param](tmp_path)


def fails(sample: Sample, **settings: object) -> DataError:
    with pytest.raises(DataError) as caught:
        sample.reader(**settings).read(ReaderContext())
    assert caught.value.hint, "an error says what to do next"
    return caught.value


def lines(error: DataError) -> list[int]:
    return [problem.line for problem in error.problems]


def test_good_file_is_read(sample: Sample) -> None:
    reader = sample.reader()
    assert isinstance(reader, DatasetReader)
    ctx = ReaderContext()
    assert sample.main in reader.files(ctx)
    dataset = reader.read(ctx)
    assert isinstance(dataset, Dataset)
    assert (dataset.n_users, dataset.n_items, len(dataset.interactions)) == (3, 4, 12)
    assert dataset.users["id"].to_pylist() == ["1", "2", "3"]
    histories = dataset.interactions.histories()
    names = dataset.items["id"].to_pylist()
    assert [names[item] for item in histories[1]] == ["11", "12", "13", "14"]
    if sample.timed:
        assert dataset.interactions.timestamps is not None
        assert dataset.interactions.timestamps[0] == START
    if sample.rated:
        assert dataset.interactions.ratings is not None
        assert dataset.interactions.ratings[:2].tolist() == [1.0, 4.0]
    assert not ctx.lines
    assert check(reader, ctx) == ()


def test_gzip_is_read_whatever_the_name(sample: Sample) -> None:
    sample.main.write_bytes(gzip.compress(sample.main.read_bytes()))
    assert len(sample.reader().read(ReaderContext()).interactions) == 12


def test_missing_file(sample: Sample) -> None:
    sample.main.unlink()
    error = fails(sample)
    assert re.search(r"does not exist|there is no", str(error))
    assert str(sample.main) in str(error) or sample.main.name in str(error)


def test_folder_in_place_of_the_file(sample: Sample) -> None:
    sample.main.unlink()
    (sample.main / "inner.txt").mkdir(parents=True)
    error = fails(sample)
    assert "inner.txt" in str(error), "the error tells what the folder holds"


def test_empty_file(sample: Sample) -> None:
    sample.main.write_bytes(b"")
    assert f"{sample.main}: is empty" in str(fails(sample))


def test_file_without_rows(sample: Sample) -> None:
    for text in (sample.header, sample.header.rstrip("\n")):
        sample.main.write_text(text or "\n")
        assert re.search(r"has no rows|is empty", str(fails(sample)))


def test_no_permission(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(self: Path, *args: object, **kw: object) -> object:
        if self == sample.main:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **kw)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    error = fails(sample)
    assert f"{sample.main}: cannot be read: Permission denied" in str(error)
    assert "permissions" in error.hint


def test_truncated_gzip(sample: Sample) -> None:
    rows = [(1 + k % 3, 11 + k, 1 + k % 5, (START + k * 7919) * sample.unit) for k in range(5000)]
    sample.rewrite(rows)
    packed = gzip.compress(sample.main.read_bytes())
    sample.main.write_bytes(packed[: len(packed) // 2])
    error = fails(sample)
    assert "truncated" in str(error)
    assert error.problems[-1].line > 1


def test_damaged_gzip(sample: Sample) -> None:
    packed = bytearray(gzip.compress(sample.main.read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    packed[-6] ^= 0xFF
    sample.main.write_bytes(bytes(packed))
    assert re.search("damaged|truncated|is not", str(fails(sample)))


def test_last_row_cut_off(sample: Sample) -> None:
    text = sample.main.read_text()
    last = text.rstrip("\n").rsplit("\n", 1)[1]
    sample.main.write_text(text[: -len(last) - 1] + last[: 1 if sample.timed else 2])
    error = fails(sample)
    assert lines(error) == [sample.first_line + 11]
    assert re.search("cut off|no item", str(error))


def test_invalid_bytes(sample: Sample) -> None:
    data = sample.main.read_bytes().split(b"\n")
    at = sample.first_line + 4 - 1
    data[at] = data[at].replace(b"1", b"\x81\xe9", 1)
    sample.main.write_bytes(b"\n".join(data))
    error = fails(sample)
    assert sample.first_line + 4 in lines(error)
    assert "(0x81) is not utf-8; is the file in latin-1 or cp1252?" in str(error)


def test_utf16(sample: Sample) -> None:
    sample.main.write_bytes(sample.main.read_text().encode("utf-16"))
    assert "byte 1 of the line (0xff) is not utf-8; the file is in utf-16" in str(fails(sample))


def test_bad_rows_are_reported_at_once(sample: Sample) -> None:
    rows = sample.good_rows()
    rows[3] = ("", *rows[3][1:]) if sample.timed else ("x9!", *rows[3][1:])
    rows[7] = (rows[7][0], "", *rows[7][2:])
    wanted = [sample.first_line + 3, sample.first_line + 7]
    if sample.timed:
        rows[9] = (*rows[9][:3], "soon")
        wanted.append(sample.first_line + 9)
    if sample.rated:
        rows[10] = (*rows[10][:2], "good", rows[10][3])
        wanted.append(sample.first_line + 10)
    sample.rewrite(rows)
    error = fails(sample)
    assert sorted(lines(error)) == wanted
    assert {problem.file for problem in error.problems} == {str(sample.main)}
    if sample.timed:
        assert "'soon' is neither a number nor a date and time in ISO 8601" in str(error)
        assert "'good' is not a number" in str(error)
        assert str(error).count("is empty") == 2
    assert check(sample.reader(), ReaderContext()) == tuple(error.problems)


@pytest.mark.parametrize("value", ["nan", "-5"])
def test_nan_and_negative_times(timed_sample: Sample, value: str) -> None:
    rows = timed_sample.good_rows()
    rows[5] = (*rows[5][:3], value)
    timed_sample.rewrite(rows)
    settings = {"undated": "error"} if "kuairec" in str(timed_sample.reader) else {}
    error = fails(timed_sample, **settings)
    assert lines(error) == [timed_sample.first_line + 5]
    assert ("nan is not finite" if value == "nan" else "-5 is negative") in str(error)


def test_times_too_fine_for_their_unit(timed_sample: Sample) -> None:
    rows = [
        (user, item, rating, time * 1000) for user, item, rating, time in timed_sample.good_rows()
    ]
    timed_sample.rewrite(rows)
    error = fails(timed_sample)
    assert f"{rows[0][3]} lies after the year 9999; is it in m" in str(error)
    assert len(error.problems) == 12


def test_infinite_rating(timed_sample: Sample) -> None:
    rows = timed_sample.good_rows()
    rows[5] = (*rows[5][:2], "nan", rows[5][3])
    timed_sample.rewrite(rows)
    error = fails(timed_sample)
    assert lines(error) == [timed_sample.first_line + 5]
    assert "nan is not finite" in str(error)


def test_many_bad_rows_are_counted(sample: Sample) -> None:
    rows = [("", item, rating, time) for _, item, rating, time in sample.good_rows()] * 10
    if not sample.timed:
        rows = [(f"u{k}", *row[1:]) for k, row in enumerate(rows)]
    sample.rewrite(rows)
    error = fails(sample)
    assert isinstance(error, RowsError)
    assert len(error.problems) == SHOWN + 1
    assert error.problems[-1].message == "and 100 more problems"
    assert len(check(sample.reader(), ReaderContext())) == 120


def test_repeated_rows_are_counted_and_kept(sample: Sample) -> None:
    rows = sample.good_rows()
    sample.rewrite([*rows, rows[4], rows[4], rows[7]])
    ctx = ReaderContext()
    dataset = sample.reader().read(ctx)
    assert len(dataset.interactions) == 15
    assert len(ctx.lines) == 1
    assert "3 of 15 rows repeat an earlier pair of user and item" in ctx.lines[0]
    assert "data.filters.deduplicate" in ctx.lines[0]


@pytest.mark.parametrize(
    ("name", "old", "new", "wanted"),
    [
        ("ml100k_atomic", "item_id:token", "item:token", "no column 'item_id:token' (did you mean"),
        ("kuairec", "watch_ratio", "ratio", "no column 'watch_ratio' (did you mean 'ratio'?)"),
        ("own_csv", "stars", "starz", "no column 'stars' (did you mean 'starz'?)"),
        ("own_jsonl", '"uid"', '"user_uid"', "no column 'uid' (did you mean 'user_uid'?)"),
        (
            "amazon_2018",
            '"overall"',
            '"over_all"',
            "no column 'overall' (did you mean 'over_all'?)",
        ),
    ],
)
def test_missing_column(tmp_path: Path, name: str, old: str, new: str, wanted: str) -> None:
    sample = SAMPLES[name](tmp_path)
    sample.main.write_text(sample.main.read_text().replace(old, new))
    error = fails(sample)
    assert wanted in str(error)
    assert "; the columns are: " in str(error)
    if sample.header:
        assert lines(error) == [1]


def test_wrong_number_of_fields(tmp_path: Path) -> None:
    for name in ("ml100k_official", "ml100k_atomic", "ml1m_official", "kuairec", "own_csv"):
        sample = SAMPLES[name](tmp_path / name)
        text = sample.main.read_text().splitlines()
        separator = {"ml1m_official": "::", "kuairec": ",", "own_csv": ","}.get(name, "\t")
        at = sample.first_line + 2
        text[at - 1] += f"{separator}9"
        text[at + 1] = text[at + 1].rsplit(separator, 1)[0]
        sample.main.write_text("\n".join(text) + "\n")
        error = fails(sample)
        width = 8 if name == "kuairec" else 4
        assert [(p.line, p.message) for p in error.problems] == [
            (at, f"has {width + 1} fields, not {width}"),
            (at + 2, f"has {width - 1} fields, not {width}"),
        ]


def test_problems_of_all_files_come_together(tmp_path: Path) -> None:
    sample = SAMPLES["ml1m_official"](tmp_path)
    sample.rewrite([*sample.good_rows(), (1, 2, "x", 3)])
    (tmp_path / "movies.dat").write_text("11::A::B\n11::C::D\n")
    (tmp_path / "users.dat").write_text("1::F::1\n")
    error = fails(sample)
    assert [(Path(problem.file).name, problem.line) for problem in error.problems] == [
        ("ratings.dat", 13),
        ("movies.dat", 2),
        ("users.dat", 1),
    ]
    assert "'11' appears again; it is on line 1 already" in str(error)
    assert "has 3 fields, not the 5 of this format (UserID, Gender, Age" in str(error)


@pytest.mark.parametrize(
    ("put_in", "message"),
    [("\r", "holds a carriage return in the middle"), ("\x1f", "holds the control character 0x1f")],
)
def test_control_characters_are_located(tmp_path: Path, put_in: str, message: str) -> None:
    sample = SAMPLES["ml1m_official"](tmp_path)
    rows = sample.good_rows()
    rows[4] = (f"1{put_in}1", *rows[4][1:])
    sample.rewrite(rows)
    error = fails(sample)
    assert [(problem.line, problem.message) for problem in error.problems] == [(5, message)]


@pytest.mark.parametrize("name", SAMPLES)
def test_random_damage_never_ends_in_a_traceback(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name](tmp_path)
    rng = random.Random(name)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    pieces = [b'"', b"\n", b"\r", b"\x00", b",", b"\t", b"::", b"\xff", b"nan", b"{", b"]", b"'"]
    for _ in range(40):
        path = rng.choice(files)
        before = path.read_bytes()
        at = rng.randrange(len(before))
        head, tail = before[:at], before[at:]
        damaged = rng.choice([head, head + rng.choice(pieces) + tail, head + tail[9:]])
        if at % 5 == 0:
            damaged = gzip.compress(damaged)[: rng.choice([30, 9999])]
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            sample.reader().read(ReaderContext())
        path.write_bytes(before)
