"""From items to vectors: nothing ends the run, nothing is encoded twice, everything is counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_media import BAD_IMAGES, BAD_SOUNDS, encoded, picture, tone, wav, write
from toy_encoders import DIM, CountingEncoder, ListeningContext, PickyEncoder, ToyEncoder

from dynmm_framework.data.features import Features
from dynmm_framework.errors import ArtifactError, ConfigError, DataError, StageError
from dynmm_framework.features.cache import FeatureCache
from dynmm_framework.features.encode import Encoded, encode_items
from dynmm_framework.testing.generated import generate_dataset

HERE = Path(__file__).parent


def table(*texts: str | None, column: str = "text") -> pa.Table:
    return pa.table(
        {"id": [f"i{n}" for n in range(len(texts))], column: pa.array(texts, pa.string())}
    )


def run(encoder, items: pa.Table, folder: Path, **settings) -> tuple[Encoded, ListeningContext]:
    ctx = ListeningContext()
    settings = {"modality": "text", "identity": "toy", "batch_size": 4, "workers": 2, **settings}
    return encode_items(encoder, items, cache=FeatureCache(folder), ctx=ctx, **settings), ctx


def reasons(encoded: Encoded) -> dict[str, str]:
    return dict(zip(*encoded.missing.to_pydict().values(), strict=True))


def same(one: Encoded, other: Encoded) -> bool:
    return (
        one.features.vectors.tobytes() == other.features.vectors.tobytes()
        and np.array_equal(one.features.present, other.features.present)
        and one.missing.equals(other.missing)
    )


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return generate_dataset(tmp_path_factory.mktemp("media"), n_users=5, n_items=40).items


@pytest.mark.parametrize("modality", ["text", "image", "audio"])
def test_all_three_modalities_from_end_to_end(tmp_path: Path, generated, modality: str):
    if modality == "audio":
        pytest.importorskip("soundfile")
    encoder = ToyEncoder(modality)
    result, ctx = run(encoder, generated, tmp_path, modality=modality, shard_size=8)
    features = result.features
    assert features.vectors.shape == (40, DIM)
    values = generated.column(modality).to_pylist()
    if modality == "text":  # the title stands in
        assert features.present.all()
    else:
        assert features.present.tolist() == [value is not None for value in values]
        assert result.counts() == {"none given": values.count(None)}
    assert not features.vectors[~features.present].any()
    pending = ctx.bars[-1][1]
    assert ctx.bars[-1][0] == f"encode {modality}"
    assert sum(n for n, note in ctx.steps if note) == pending
    assert re.fullmatch(r"[\d.,e+]+ items/s, \d+ (s|min) left", ctx.steps[-1][1])
    again, _ = run(ToyEncoder(modality), generated, tmp_path, modality=modality)
    assert same(again, result)


def test_items_of_a_genre_have_alike_vectors(tmp_path: Path, generated):
    result, _ = run(ToyEncoder("image"), generated, tmp_path, modality="image")
    rows = np.flatnonzero(result.features.present)
    vectors = result.features.vectors[rows] / np.linalg.norm(
        result.features.vectors[rows], axis=1, keepdims=True
    )
    alike = vectors @ vectors.T
    same_genre = (rows[:, None] - rows) % 6 == 0
    assert alike[same_genre].mean() > alike[~same_genre].mean() + 0.02


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_images_are_missing_and_counted_and_the_run_goes_on(tmp_path: Path):
    paths = [str(write(tmp_path, name, make())) for name, (make, _) in BAD_IMAGES.items()]
    good = [str(write(tmp_path, f"{n}.png", encoded(picture(30 + n), "PNG"))) for n in range(5)]
    values = [*paths[:7], *good, *paths[7:], str(tmp_path / "absent"), None, "http://x/y.jpg"]
    result, ctx = run(
        ToyEncoder("image"), table(*values, column="image"), tmp_path / "c", modality="image"
    )
    expected = [reason for _, reason in BAD_IMAGES.values()]
    expected += ["no such file", "none given", "a URL, not a file"]
    assert result.missing.column("reason").to_pylist() == expected
    assert result.features.present.sum() == 5
    counts = ctx.records["features_image"]["missing"]
    assert counts == result.counts() == {r: expected.count(r) for r in dict.fromkeys(expected)}
    assert ctx.records["features_image"]["present"] == 5
    assert ctx.records["features_image"]["items"] == len(values)
    assert "image: 5 of 22 items have a vector of 16 dimensions; 17 have none" in ctx.lines[-1]
    assert "truncated 2" in ctx.lines[-1]


def test_bad_sounds_are_missing_too(tmp_path: Path):
    pytest.importorskip("soundfile")
    paths = [str(write(tmp_path, name, make())) for name, (make, _) in BAD_SOUNDS.items()]
    good = str(write(tmp_path, "good.wav", wav(tone())))
    result, _ = run(
        ToyEncoder("audio"), table(*paths, good, column="audio"), tmp_path / "c", modality="audio"
    )
    assert result.missing.column("reason").to_pylist() == [r for _, r in BAD_SOUNDS.values()]
    assert result.features.present.tolist() == [False] * len(paths) + [True]


def test_the_input_that_breaks_a_batch_is_found(tmp_path: Path):
    texts = ["aaa", "refuse this", "ccc", "infinite", "ddd", "unprepared", "eee"]
    encoder = PickyEncoder()
    result, _ = run(encoder, table(*texts), tmp_path)
    assert reasons(result) == {
        "i1": "cannot be encoded (RuntimeError)",
        "i3": "vector not finite",
        "i5": "cannot be prepared (KeyError)",
    }
    assert encoder.batches == [4, 1, 1, 1, 1, 2]
    again = PickyEncoder(refuse="nothing", infinite="nothing")
    result, _ = run(again, table(*texts), tmp_path)  # what failed is tried again, the rest is not
    assert reasons(result) == {"i5": "cannot be prepared (KeyError)"}
    assert sum(again.batches) == 2


def test_an_encoder_that_always_fails_is_an_error(tmp_path: Path):
    encoder = PickyEncoder(refuse="")
    with pytest.raises(StageError, match="could encode the text of none of 3 items") as raised:
        run(encoder, table("a", "b", "c"), tmp_path)
    assert "cannot be encoded (RuntimeError) (3)" in str(raised.value)
    with pytest.raises(StageError, match="PickyEncoder fails on every input; the last failure:"):
        run(encoder, table(*map(str, range(1000))), tmp_path)
    assert sum(encoder.batches) < 200  # and says so early


def test_nonsense_of_an_encoder_is_an_error(tmp_path: Path):
    class Short(ToyEncoder):
        def encode(self, batch):
            return super().encode(batch)[:-1]

    with pytest.raises(StageError, match=r"Short returns an array of shape \(1, 16\) for 2"):
        run(Short("text"), table("a", "b"), tmp_path)


def test_errors_of_the_installation_are_not_taken_for_bad_items(tmp_path: Path, monkeypatch):
    items = table(str(write(tmp_path, "a.png", encoded(picture(), "PNG"))), column="image")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ArtifactError, match="pillow is not installed") as raised:
        run(ToyEncoder("image"), items, tmp_path / "c", modality="image")
    assert "pip install 'dynmm-framework[vision]'" in raised.value.hint


def test_wrong_modalities_are_told(tmp_path: Path):
    with pytest.raises(ConfigError, match="ToyEncoder encodes image, and text is asked of it"):
        run(ToyEncoder("image"), table("a"), tmp_path)
    with pytest.raises(DataError, match="no column 'audio'"):
        run(ToyEncoder("audio"), table("a"), tmp_path, modality="audio")


def test_only_what_is_new_is_encoded_when_the_catalogue_grows(tmp_path: Path):
    first = ToyEncoder("text")
    old = [f"text number {n}" for n in range(30)]
    before, _ = run(first, table(*old), tmp_path, shard_size=10)
    assert sum(first.batches) == 30
    second = ToyEncoder("text")
    after, ctx = run(second, table(*old, "new", "newer", old[3]), tmp_path, shard_size=10)
    assert second.batches == [2]
    assert ctx.records["features_text"]["encoded"] == 2
    assert "30 inputs are in the cache, 2 to do" in ctx.lines[0]
    assert np.array_equal(after.features.vectors[:30], before.features.vectors)
    assert np.array_equal(after.features.vectors[32], before.features.vectors[3])
    third = ToyEncoder("text")
    run(third, table(*old[5:], "new"), tmp_path)
    assert (third.batches, third.loads) == ([], 0)


def test_changed_files_are_encoded_again_and_renamed_ones_are_not(tmp_path: Path):
    files = [write(tmp_path, f"{n}.png", encoded(picture(20 + n), "PNG")) for n in range(4)]

    def encode(*paths: Path) -> list[int]:
        encoder = ToyEncoder("image")
        items = table(*map(str, paths), column="image")
        run(encoder, items, tmp_path / "c", modality="image")
        return encoder.batches

    assert encode(*files) == [4]
    files[1].write_bytes(encoded(picture(90), "PNG"))
    files[2] = files[2].rename(tmp_path / "renamed.png")
    assert encode(*files) == [1]


def test_files_of_a_pattern_replace_the_column(tmp_path: Path):
    path = str(write(tmp_path, "a.png", encoded(picture(), "PNG")))
    result, _ = run(
        ToyEncoder("image"), table("x", "y"), tmp_path / "c", modality="image", files=[None, path]
    )
    assert reasons(result) == {"i0": "no file for this id"}


def test_another_identity_shares_nothing(tmp_path: Path):
    for identity in ("one", "two"):
        encoder = ToyEncoder("text")
        run(encoder, table("a", "b"), tmp_path, identity=identity)
        assert encoder.batches == [2]


def test_inputs_of_alike_size_share_a_batch(tmp_path: Path):
    lengths: list[list[int]] = []

    class Watching(ToyEncoder):
        def prepare(self, value):
            return value

        def encode(self, batch):
            lengths.append([len(text) for text in batch])
            return np.stack([ToyEncoder.prepare(self, text)[:DIM] for text in batch])

    rng = np.random.default_rng(0)
    run(Watching("text"), table(*("x" * n for n in rng.permutation(41)[:32] + 1)), tmp_path)
    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(flat, reverse=True)


def test_an_encoder_that_fits_sees_all_inputs_first(tmp_path: Path):
    encoder = CountingEncoder()
    result, ctx = run(encoder, table("red blue", None, "red red", "red blue"), tmp_path)
    assert encoder.fits == 1
    assert result.features.vectors.tolist() == [[1, 1], [0, 0], [0, 2], [1, 1]]
    assert reasons(result) == {"i1": "none given"}
    assert list(tmp_path.iterdir()) == []  # cached for this set of inputs only, by the stage
    assert ctx.records["features_text"]["dim"] == 2


def test_a_reader_of_features_just_reads(tmp_path: Path):
    class Reader:
        def read(self, items, ctx):
            present = np.array([True, False])
            return Features(np.array([[1, 2], [0, 0]], np.float32), present)

    result, ctx = run(Reader(), table("a", "b"), tmp_path, modality="audio")
    assert reasons(result) == {"i1": "not among the features"}
    assert ctx.records["features_audio"]["present"] == 1


def test_what_is_saved_is_loaded(tmp_path: Path):
    result, _ = run(ToyEncoder("text"), table("a", None, "b"), tmp_path / "c")
    result.save(tmp_path)
    assert pq.read_table(tmp_path / "missing.parquet").to_pylist() == [
        {"item": "i1", "reason": "none given"}
    ]
    assert same(Encoded.load(tmp_path), result)
    (tmp_path / "missing.parquet").write_bytes(b"x" * 100)
    with pytest.raises(ArtifactError, match=r"the features in .* are damaged"):
        Encoded.load(tmp_path)


def test_a_damaged_shard_is_computed_again_with_the_same_bits(tmp_path: Path):
    items = table(*(f"text {n * n}" for n in range(40)))
    before, _ = run(ToyEncoder("text"), items, tmp_path, shard_size=10)
    for number, shard in enumerate(sorted(FeatureCache(tmp_path).folder("toy").glob("shard-*"))):
        data = bytearray(shard.read_bytes())
        data[-1 - number] ^= 1
        shard.write_bytes(data if number < 2 else data[: -10 * number])
        if number == 2:
            break
    encoder = ToyEncoder("text")
    after, _ = run(encoder, items, tmp_path, shard_size=10)
    assert sum(encoder.batches) == 30
    assert same(after, before)


def test_the_order_of_items_and_the_number_of_threads_change_nothing(tmp_path: Path, generated):
    results = [
        run(ToyEncoder("image"), generated, tmp_path / str(n), modality="image", workers=n)[0]
        for n in (1, 7)
    ]
    assert same(*results)
    turned = generated.take(list(range(40))[::-1])
    result, _ = run(ToyEncoder("image"), turned, tmp_path / "turned", modality="image")
    assert np.array_equal(result.features.vectors[::-1], results[0].features.vectors)


def test_decoding_goes_on_while_a_batch_is_encoded(tmp_path: Path):
    events: list[str] = []

    class Slow(ToyEncoder):
        def prepare(self, value):
            events.append("prepare")
            return super().prepare(value)

        def encode(self, batch):
            before = len(events)
            deadline = time.monotonic() + 10
            while len(self.batches) == 0 and len(events) == before < 8:
                assert time.monotonic() < deadline, "nothing was prepared during encode"
                time.sleep(0.001)
            return super().encode(batch)

    files = [str(write(tmp_path, f"{n}.png", encoded(picture(9 + n), "PNG"))) for n in range(24)]
    items = table(*files, column="image")
    run(Slow("image"), items, tmp_path / "c", modality="image", batch_size=4, workers=2)
    assert events.count("prepare") == 24


def test_an_encoding_that_was_killed_resumes_with_the_same_bits(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_encoding.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == 16
    for result in results:
        assert result["killed"][0], result
        assert result["finished"], result
        assert result["same"], result
        assert result["left"] == [], result


def test_two_processes_at_once_do_not_harm_each_other(tmp_path: Path):
    program = """
import sys
from pathlib import Path
import killed_encoding
killed_encoding.encode(Path(sys.argv[1]), Path(sys.argv[2]), "")
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "cache"), str(tmp_path / f"out{n}")],
            env={**os.environ, "PYTHONPATH": str(HERE)},
        )
        for n in range(2)
    ]
    assert [process.wait() for process in started] == [0, 0]
    one, two = (Encoded.load(tmp_path / f"out{n}") for n in range(2))
    assert same(one, two)
