"""Weights are found, told apart, checked and converted; nothing in them is ever executed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from dynmm_framework.artifacts.convert import convert_checkpoint, converted
from dynmm_framework.artifacts.records import Registry
from dynmm_framework.artifacts.weights import (
    WeightsConfig,
    check_fit,
    check_weights,
    fingerprint,
    locate,
    origin_of,
    tensor_shapes,
    weights_file,
)
from dynmm_framework.cli.app import build_cli
from dynmm_framework.errors import ArtifactError

COMMIT = "c0ffee" * 6 + "c0ff"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
RECORD = """\
version: 1
kind: model
name: tiny
summary: s
files: {model.safetensors: {sha256: "%s", bytes: 9}}
sources: [{url: "https://example.org/model.safetensors"}]
"""


def context(**settings: Any) -> Any:
    return SimpleNamespace(**{"offline": False, "log": lambda line: None, **settings})


def tensors(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {
        name: torch.arange(float(torch.Size(s).numel())).reshape(s) for name, s in shapes.items()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with weights and settings."""
    path = tmp_path / "weights"
    path.mkdir()
    save_file(tensors(a=(2, 3), b=(4,)), path / "model.safetensors")
    (path / "config.json").write_text("{}")
    return path


# What a name means.


@pytest.mark.parametrize(
    ("model", "origin"),
    [
        ("all_minilm_l6_v2", "record"),
        ("./weights", "local"),
        ("../weights", "local"),
        ("/data/weights", "local"),
        ("~/weights", "local"),
        ("sentence-transformers/all-MiniLM-L6-v2", "hub"),
        ("a/b/c", "local"),
        ("model.safetensors", "local"),
    ],
)
def test_a_name_means_a_record_a_file_or_a_repository(model: str, origin: str) -> None:
    assert origin_of(model) == origin


def test_a_folder_that_exists_is_meant_rather_than_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Owner" / "name").mkdir(parents=True)
    assert origin_of("Owner/name") == "hub"
    monkeypatch.chdir(tmp_path)
    assert origin_of("Owner/name") == "local"


def test_a_repository_needs_a_commit_or_a_tag() -> None:
    with pytest.raises(ValidationError, match=r"is on the hub: name a revision .* a branch would"):
        WeightsConfig(model="owner/name")
    with pytest.raises(ValidationError, match="revision main is a branch"):
        WeightsConfig(model="owner/name", revision="main")
    with pytest.raises(ValidationError, match="a revision belongs to a model on the hub, not to"):
        WeightsConfig(model="tiny", revision="v1")
    assert WeightsConfig(model="owner/name", revision="v1").revision == "v1"


# Digests, without loading.


def registry(folder: Path, digest: str) -> Registry:
    folder.mkdir()
    (folder / "tiny.yaml").write_text(RECORD % digest)
    return Registry.load([folder])


def test_fingerprints_tell_weights_apart(folder: Path, tmp_path: Path) -> None:
    one, other = registry(tmp_path / "r1", "1" * 64), registry(tmp_path / "r2", "2" * 64)
    assert fingerprint("tiny", None, registry=one) == fingerprint("tiny", None, registry=one)
    assert fingerprint("tiny", None, registry=one) != fingerprint("tiny", None, registry=other)
    hub = fingerprint("owner/name", "v1", registry=one)
    assert hub == fingerprint("owner/name", "v1", registry=other)
    assert hub != fingerprint("owner/name", "v2", registry=one)
    local = fingerprint(str(folder), None, registry=one)
    (folder / "README.md").write_text("not part of the weights")
    assert fingerprint(str(folder), None, registry=one) == local
    moved = folder.rename(tmp_path / "moved")
    assert WeightsConfig(model=str(moved)).fingerprint(one) == local
    (moved / "config.json").write_text('{"layers": 2}')
    assert fingerprint(str(moved), None, registry=one) != local
    with pytest.raises(ArtifactError, match="nowhere: it does not exist"):
        fingerprint(str(tmp_path / "nowhere"), None, registry=one)
    with pytest.raises(ArtifactError, match="no model 'tinny'; did you mean tiny") as caught:
        fingerprint("tinny", None, registry=one)
    assert caught.value.hint.startswith("It has: tiny.\n  A folder of your own is written ./tinny")


def test_telling_weights_apart_loads_no_torch() -> None:
    code = (
        "import sys, dynmm_framework.artifacts.weights as w\n"
        "w.WeightsConfig(model='tiny')\n"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# Finding.


def test_records_are_fetched_and_local_files_taken_as_they_are(folder: Path) -> None:
    asked: list[str] = []

    def fetch(record: str) -> Path:
        asked.append(record)
        return folder

    assert locate("tiny", None, context(fetch=fetch)) == folder
    assert asked == ["tiny"]
    file = folder / "model.safetensors"
    assert locate(str(file), None, context()) == file
    with pytest.raises(ArtifactError) as caught:
        locate("./nowhere", None, context(), instead="Or use tfidf_text.")
    assert caught.value.message == "there are no weights at nowhere: no such file or folder"
    assert caught.value.hint.endswith("owner/name on the hub. Or use tfidf_text.")


def test_repositories_give_safe_files_of_their_revision(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def snapshot(repository: str, **options: Any) -> str:
        calls.append((repository, options))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert locate("owner/name", COMMIT, context()) == folder
    locate("owner/name", COMMIT, context(offline=True))
    (repository, first), (_, second) = calls
    assert (repository, first["revision"]) == ("owner/name", COMMIT)
    assert not any(".bin" in pattern or ".py" in pattern for pattern in first["allow_patterns"])
    assert (first["local_files_only"], second["local_files_only"]) == (False, True)


def test_a_repository_of_pickles_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(tmp_path))
    monkeypatch.setattr(
        huggingface_hub, "list_repo_files", lambda *a, **k: ["config.json", "pytorch_model.bin"]
    )
    with pytest.raises(ArtifactError) as caught:
        locate("owner/name", COMMIT, context())
    assert "has no safetensors file; it has pytorch_model.bin, and pickles" in str(caught.value)
    assert "dynmm artifact convert" in caught.value.hint


def test_a_hub_out_of_reach_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("no route to host\nand 40 more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ArtifactError) as caught:
        locate("owner/name", "v1", context(), instead="Without a hub: the record tiny.")
    assert caught.value.message.endswith(
        "owner/name@v1 cannot be had from the hub: no route to host"
    )
    assert "name its folder (./owner/name)" in caught.value.hint
    assert caught.value.hint.endswith("Without a hub: the record tiny.")
    with pytest.raises(ArtifactError) as caught:
        locate("owner/name", "v1", context(offline=True))
    assert "are not in the hub's cache, and fetching is not allowed" in caught.value.message
    assert caught.value.hint.startswith("Run once without --offline, or download the repository")


# Damage.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "it is a Git LFS pointer, not the file itself\n  Fetch the real file with `git"),
        (b"", "it is not a whole safetensors file"),
        (b"half", "it is not a whole safetensors file"),
        (None, "it is not a whole safetensors file"),
    ],
    ids=["pointer", "empty", "noise", "cut off"],
)
def test_damaged_weights_are_named(folder: Path, content: bytes | None, message: str) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5] if content is None else content)
    with pytest.raises(ArtifactError) as caught:
        locate(str(folder), None, context())
    assert f"cannot read {file}: {message}" in str(caught.value)


def test_a_pointer_in_place_of_a_vocabulary_is_found_too(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(POINTER)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: it is a Git LFS pointer"):
        check_weights(folder)


def test_missing_parts_of_a_large_checkpoint_are_named(folder: Path) -> None:
    parts = {"a": "model.safetensors", "b": "model-2.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    with pytest.raises(ArtifactError) as caught:
        check_weights(folder)
    assert f"{index} names parts that are missing: model-2.safetensors" in caught.value.message


def test_one_file_is_chosen_or_the_choice_is_explained(folder: Path, tmp_path: Path) -> None:
    file = folder / "model.safetensors"
    assert weights_file(folder) == weights_file(file) == file
    save_file(tensors(a=(1,)), folder / "other.safetensors")
    assert weights_file(folder) == file
    assert weights_file(folder, preferred=("other.safetensors",)).name == "other.safetensors"
    with pytest.raises(ArtifactError, match=r"several checkpoints: model\.safetensors, oth"):
        weights_file(folder, preferred=())
    (tmp_path / "old").mkdir()
    with pytest.raises(ArtifactError, match=r"no \*.safetensors file \(found: nothing\)"):
        weights_file(tmp_path / "old")
    pickled = tmp_path / "old" / "net.pth"
    pickled.write_bytes(b"x")
    with pytest.raises(ArtifactError) as caught:
        weights_file(tmp_path / "old")
    target = pickled.with_suffix(".safetensors")
    assert caught.value.hint == f"Convert it first: dynmm artifact convert {pickled} -o {target}"


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    found = tensor_shapes(file)
    assert found == {"a": (2, 3), "b": (4,)}
    check_fit(found, found, file=file, architecture="net")
    with pytest.raises(ArtifactError) as caught:
        check_fit({"a": (3, 3), "c": (1,)}, found, file=file, architecture="net")
    assert caught.value.message == (
        f"{file} is a checkpoint of another architecture than net: a is 2×3, not 3×3; no c; "
        "b is not part of the model"
    )
    many = {f"w{number}": (1,) for number in range(9)}
    with pytest.raises(ArtifactError, match="no w4; 6 more\n"):
        check_fit(many, found, file=file, architecture="net")


# Conversion.


def test_a_checkpoint_becomes_safetensors_in_its_own_order(tmp_path: Path) -> None:
    shared = torch.randn(3, 2)
    state = {"z": shared, "a": shared.T, "half": torch.ones(2, dtype=torch.bfloat16)}
    torch.save(state, tmp_path / "net.pth")
    done = convert_checkpoint(tmp_path / "net.pth", tmp_path / "net.safetensors")
    assert list(done.tensors) == ["z", "a", "half"]
    back = load_file(done.path)
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor)
        assert back[name].dtype == tensor.dtype
    index = json.loads(done.index.read_text())
    assert list(index["tensors"]) == ["z", "a", "half"]
    assert index["tensors"]["half"] == {"dtype": "bfloat16", "shape": [2]}
    assert index["source"]["file"] == "net.pth"
    assert index["source"]["bytes"] == (tmp_path / "net.pth").stat().st_size


def test_weights_are_found_among_a_trainer_s_other_things(tmp_path: Path) -> None:
    source, target = tmp_path / "t.ckpt", tmp_path / "t.safetensors"
    weights = {"w": torch.ones(2), "steps": 3}
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"lr": 0.1}}, source)
    done = convert_checkpoint(source, target)
    assert (list(done.tensors), done.left_out) == (["w"], ("steps",))
    torch.save({"a": {"b": weights}, "epoch": 3}, source)
    with pytest.raises(ArtifactError) as caught:
        convert_checkpoint(source, target)
    assert caught.value.message == f"{source} holds no weights: its entries are a, epoch"
    assert "--key" in caught.value.hint
    assert list(convert_checkpoint(source, target, key="a.b").tensors) == ["w"]
    with pytest.raises(ArtifactError, match=r"has no entry 'a\.c': its entries are b"):
        convert_checkpoint(source, target, key="a.c")
    torch.save([torch.ones(2)], source)
    with pytest.raises(ArtifactError, match="holds a list, not named tensors"):
        convert_checkpoint(source, target)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


def test_code_in_a_checkpoint_is_not_executed(tmp_path: Path) -> None:
    source, mark = tmp_path / "bomb.pth", tmp_path / "executed"
    torch.save({"w": torch.ones(1), "x": Bomb(mark)}, source)
    with pytest.raises(ArtifactError) as caught:
        convert_checkpoint(source, tmp_path / "bomb.safetensors")
    assert "it holds Python objects beside weights, which are never loaded" in str(caught.value)
    assert not mark.exists()
    assert not (tmp_path / "bomb.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "it is a Git LFS pointer"),
        (b"PK\x03\x04 no archive", "it is no whole PyTorch checkpoint"),
        (b"\x80\x02}q", r"it is no whole PyTorch checkpoint \(\w"),
        (b"", "it is empty"),
        (b"# Notes\n\nhello\n", "it is no PyTorch checkpoint\n.* torch.save has written"),
        (b"eee", "it is no PyTorch checkpoint\n"),
    ],
)
def test_what_is_no_checkpoint_is_explained(tmp_path: Path, content: bytes, message: str) -> None:
    source = tmp_path / "x.pth"
    source.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        convert_checkpoint(source, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match="it does not exist"):
        convert_checkpoint(tmp_path / "none.pth", tmp_path / "x.safetensors")


def test_a_program_is_no_checkpoint(tmp_path: Path) -> None:
    source = tmp_path / "program.pt"
    with warnings.catch_warnings(action="ignore"):  # torch has plans to drop such programs
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), source)
    with pytest.raises(ArtifactError, match="it is a TorchScript program"):
        convert_checkpoint(source, tmp_path / "x.safetensors")


def test_a_conversion_is_cached_by_content(tmp_path: Path) -> None:
    source = tmp_path / "net.pth"
    torch.save({"b": torch.ones(2), "a": torch.zeros(1)}, source)
    first = converted(source, cache=tmp_path / "cache")
    assert list(first.tensors) == ["b", "a"]
    stamp = first.path.stat().st_mtime_ns
    again = converted(source, cache=tmp_path / "cache")
    assert (again.path, list(again.tensors)) == (first.path, ["b", "a"])
    assert again.path.stat().st_mtime_ns == stamp
    first.path.write_bytes(first.path.read_bytes()[:-3])  # a crashed disk
    assert load_file(converted(source, cache=tmp_path / "cache").path)["b"].tolist() == [1, 1]


def test_the_command_converts_and_says_what_it_left_out(tmp_path: Path) -> None:
    source = tmp_path / "net.pth"
    torch.save({"w": torch.ones(2, 2), "epoch": 4}, source)
    result = CliRunner().invoke(build_cli(), ["artifact", "convert", str(source)])
    assert result.exit_code == 0, result.output
    target = tmp_path / "net.safetensors"
    size = target.stat().st_size
    assert result.stdout == (
        f"{target}: 1 tensor, {size:,} bytes\nleft out, as no tensors: epoch\n"
    )
    words = ["artifact", "convert", str(source), "-o", str(tmp_path / "n.bin")]
    result = CliRunner().invoke(build_cli(), words)
    assert result.exit_code == 2
    assert "its name must end with .safetensors" in result.stderr
    words = ["artifact", "convert", str(source), "--json"]
    document = json.loads(CliRunner().invoke(build_cli(), words).stdout)
    assert (document["tensors"], document["left_out"]) == (1, ["epoch"])


def test_no_other_module_reads_pickles_or_runs_foreign_code() -> None:
    root = Path(__file__).parents[2]
    banned = re.compile(
        r"torch\.load\(|torch\.jit\.load|weights_only=False|allow_pickle=True"
        r"|import pickle|trust_remote_code=True"
    )
    found = {
        path.relative_to(root).as_posix(): len(banned.findall(path.read_text(encoding="utf-8")))
        for room in ("dynmm_framework", "plugins", "registry")
        for path in (root / room).rglob("*.py")
    }
    # The one use is the restricted reader's.
    used = {path: count for path, count in found.items() if count}
    assert used == {"dynmm_framework/artifacts/convert.py": 1}
