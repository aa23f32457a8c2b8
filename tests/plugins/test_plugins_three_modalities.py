"""Texts, pictures and sounds as files, encoded by networks in files, aligned and ranked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from encoder_checkpoints import save_timm_image, save_wav2vec2

from dynmm_framework import load_pipeline
from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.engine.run import run
from dynmm_framework.testing import generate_dataset


def test_texts_pictures_and_sounds_are_encoded_and_aligned(tmp_path: Path) -> None:
    data = generate_dataset(tmp_path / "media", n_users=60, n_items=32)
    data.save(tmp_path / "data")
    folders = {name: tmp_path / name for name in ("image", "sound")}
    for folder in folders.values():
        folder.mkdir()
    done = run(
        load_pipeline(
            {
                "version": 1,
                "data": {"name": "saved_dataset", "config": {"path": str(tmp_path / "data")}},
                "split": {"strategy": "leave_one_out"},
                "backbone": {"name": "bpr_mf", "config": {"epochs": 2, "dim": 8}},
                "encoders": {
                    "text": {"name": "tfidf_text", "config": {"dim": 8}},
                    "vision": {
                        "name": "timm_image",
                        "config": {"model": str(save_timm_image(folders["image"]))},
                    },
                    "audio": {
                        "name": "wav2vec2",
                        "config": {"model": str(save_wav2vec2(folders["sound"], "group"))},
                    },
                },
                "align": {"name": "joint_alignment", "config": {"epochs": 1, "hidden": 8}},
                "robustness": {"shares": [1.0]},
                "evaluate": {"at": [10]},
                "compute": {"device": "cpu", "threads": 1},
            }
        ),
        runs_dir=tmp_path / "runs",
    )
    assert list(done.metrics["recommenders"]) == ["joint_alignment", "bpr_mf"]
    for name, columns in (
        ("text", ("text", "title")),
        ("vision", ("image",)),
        ("audio", ("audio",)),
    ):
        arrays = load_arrays(done.folder / "features" / name / "features.safetensors")
        content = zip(*(done.dataset.items[column].to_pylist() for column in columns), strict=True)
        has = np.array([any(values) for values in content])
        assert (arrays["present"] == has).all()
        # What is in the files arrives: items differ.
        assert len(np.unique(arrays["vectors"][has], axis=0)) > 0.5 * has.sum()
    # Every combination of the three is taken away from all items once.
    assert len(done.metrics["robustness"]) == 1 + 7
