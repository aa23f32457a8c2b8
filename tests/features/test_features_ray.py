"""Ray encodes the same bits in several processes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from bad_media import encoded, picture, write
from toy_encoders import ListeningContext, PickyEncoder, ToyEncoder

from dynmm_framework.engine.seeds import spawn_rng
from dynmm_framework.errors import ArtifactError, StageError
from dynmm_framework.features.cache import FeatureCache
from dynmm_framework.features.distributed import WorkerContext
from dynmm_framework.features.encode import Encoded, encode_items

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

TEXTS = [f"text {n * n}" for n in range(50)] + ["", "refuse this", "infinite"]


def test_a_worker_s_context_draws_the_engine_s_numbers(tmp_path: Path):
    ctx = WorkerContext("encode", 11, "cpu", "fp32", tmp_path)
    assert ctx.rng("x").integers(2**60) == spawn_rng(11, "x").integers(2**60)


def test_a_worker_may_fetch_where_the_run_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from dynmm_framework.artifacts import sources

    asked: list[bool] = []
    monkeypatch.setattr(
        sources.Fetcher, "fetch", lambda self, record: asked.append(self.offline) or tmp_path
    )
    for offline in (True, False):
        ctx = WorkerContext("encode", 11, "cpu", "fp32", tmp_path, offline=offline)
        assert ctx.fetch("all_minilm_l6_v2") == tmp_path
    assert asked == [True, False]


def test_a_cluster_that_is_not_there_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    told: list[dict[str, object]] = []

    def refuse(**settings: object) -> None:
        told.append(settings)
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", refuse)
    encoder = ToyEncoder("text")
    with pytest.raises(StageError, match=r"cannot reach Ray at 10.0.0.5:6379: nobody answers"):
        run(encoder, "text", TEXTS, tmp_path, engine="ray", address="10.0.0.5:6379")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(StageError, match="cannot reach Ray at auto"):
        run(encoder, "text", TEXTS, tmp_path, engine="ray")
    assert all("num_cpus" not in settings for settings in told)


@pytest.fixture(scope="module")
def cluster():
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 << 20,
        logging_level="error",
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
    )
    yield
    ray.shutdown()


def run(encoder, column: str, values: list[str], cache: Path, **settings) -> Encoded:
    items = pa.table({"id": [str(n) for n in range(len(values))], column: values})
    return encode_items(
        encoder,
        items,
        modality="text" if column == "text" else "image",
        cache=FeatureCache(cache),
        ctx=settings.pop("ctx", ListeningContext()),
        identity="toy",
        batch_size=4,
        shard_size=12,
        workers=2,
        **settings,
    )


class Unloadable(ToyEncoder):
    def load(self, ctx):
        raise ArtifactError("weights.safetensors is damaged", hint="Fetch it again.")


def agree(make, column: str, values: list[str], folder: Path) -> Encoded:
    """Encodes here and with Ray, and returns the result if the two are the same bit by bit."""
    ctx = ListeningContext()
    local = run(make(), column, values, folder / "local")
    encoder = make()
    spread = run(encoder, column, values, folder / "ray", engine="ray", n_workers=2, ctx=ctx)
    assert encoder.batches == []  # all was done elsewhere
    assert spread.features.vectors.tobytes() == local.features.vectors.tobytes()
    assert spread.missing.equals(local.missing)
    assert sum(n for n, note in ctx.steps if note) == ctx.bars[-1][1]
    return spread


@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_bits_of_a_local_run(cluster, tmp_path: Path):
    result = agree(PickyEncoder, "text", TEXTS, tmp_path)
    assert len(result.missing) == 3


@pytest.mark.slow  # every call starts processes
@pytest.mark.filterwarnings("ignore")
def test_ray_decodes_images_and_brings_errors_home(cluster, tmp_path: Path):
    files = [str(write(tmp_path, f"{n}.png", encoded(picture(9 + n), "PNG"))) for n in range(20)]
    files.append(str(write(tmp_path, "bad.png", b"no image")))
    result = agree(lambda: ToyEncoder("image"), "image", files, tmp_path)
    assert result.counts() == {"not an image": 1}
    with pytest.raises(ArtifactError, match=r"weights.safetensors is damaged") as raised:
        run(Unloadable("text"), "text", TEXTS, tmp_path / "c", engine="ray", n_workers=2)
    assert raised.value.hint == "Fetch it again."
    with pytest.raises(StageError, match="could encode the text of none"):
        run(PickyEncoder(refuse=""), "text", TEXTS, tmp_path / "d", engine="ray", n_workers=2)
