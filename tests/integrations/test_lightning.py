"""A real trainer runs a small model, and a callback audits the labels that it meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset

from dask_labelqc import SegmentationInspector, finish_audit
from dask_labelqc.errors import InputError
from dask_labelqc.integrations.lightning import AuditCallback

NUM_CLASSES, NUM_IMAGES = 3, 7
IDS = [f"tile_{i}" for i in range(NUM_IMAGES)]
pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    # Both are Lightning's own, of what it calls in torch.
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


class Tiles(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        labels = rng.integers(0, NUM_CLASSES, (8, 6))
        image = labels[None] + rng.normal(0, 0.5, (1, 8, 6))
        return {"ids": IDS[index], "image": image.astype(np.float32), "labels": labels}


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(1, NUM_CLASSES, 3, padding=1)

    def training_step(self, batch: dict[str, Any]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.layer(batch["image"]), batch["labels"])

    def predict_step(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(batch["image"])}

    validation_step = test_step = predict_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Tensors(Model):
    """The step returns the logits alone."""

    def predict_step(self, batch: dict[str, Any]) -> Any:
        return self.layer(batch["image"])


def loader() -> DataLoader[dict[str, Any]]:
    return DataLoader(Tiles(), batch_size=3)


def trainer(path: Path, *callbacks: AuditCallback, **settings: Any) -> Trainer:
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    where = {"accelerator": "cpu", "default_root_dir": path}
    return Trainer(callbacks=list(callbacks), **quiet, **where, **settings)


def inspector(path: Path) -> SegmentationInspector:
    return SegmentationInspector(path / "audit.zarr", NUM_CLASSES)


def audited(path: Path) -> dict[str, Any]:
    """What is found in the end, by name."""
    opened = finish_audit(path / "audit.zarr", progress=False).open()
    return {name: array.values for name, array in opened.data_vars.items()}


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, Any]:
    """What a loop of one's own gives."""
    model, path = Model(), tmp_path / "loop"
    with torch.no_grad(), inspector(path) as inspecting:
        for batch in loader():
            logits = model.layer(batch["image"])
            inspecting.update(batch["ids"], batch["labels"], logits=logits)
    return audited(path)


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("run", ["validate", "test", "predict"])
def test_every_batch_is_audited(run: str, tmp_path: Path, expected: dict[str, Any]) -> None:
    callback = AuditCallback(inspector(tmp_path))
    getattr(trainer(tmp_path, callback), run)(Model(), loader())
    same(audited(tmp_path), expected)


def test_what_the_step_returns_may_be_unpacked(tmp_path: Path, expected: dict[str, Any]) -> None:
    def unpack(batch: dict[str, Any], outputs: torch.Tensor) -> dict[str, Any]:
        return {"ids": batch["ids"], "labels": batch["labels"], "logits": outputs}

    callback = AuditCallback(inspector(tmp_path), unpack)
    trainer(tmp_path, callback).predict(Tensors(), loader())
    same(audited(tmp_path), expected)


def test_ranks_that_even_out_their_images(tmp_path: Path, expected: dict[str, Any]) -> None:
    """Of 7 images each of two ranks predicts 4."""
    callback = AuditCallback(inspector(tmp_path))
    trainer(tmp_path, callback, strategy="ddp_spawn", devices=2).predict(
        Model(), loader(), return_predictions=False
    )
    assert len(list((tmp_path / "audit.zarr" / "records").iterdir())) >= 2
    same(audited(tmp_path), expected)


def test_a_model_that_still_learns_is_passed_over(tmp_path: Path) -> None:
    inspecting = inspector(tmp_path)
    running = trainer(tmp_path, AuditCallback(inspecting), max_epochs=2)
    running.fit(Model(), loader(), loader())
    assert running.global_step == 6
    assert inspecting.missing(IDS) == IDS


class Breaks(Model):
    def test_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        if batch_idx == 2:
            raise ZeroDivisionError
        return self.predict_step(batch)


def test_what_was_audited_before_an_error_is_on_record(tmp_path: Path) -> None:
    callback = AuditCallback(inspector(tmp_path))
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, callback).test(Breaks(), loader())
    assert inspector(tmp_path).missing(IDS) == IDS[6:]


def test_what_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    class Pairs(Tiles):
        def __getitem__(self, index: int) -> Any:
            item = super().__getitem__(index)
            return item["image"], item["labels"]

    class OfPairs(Model):
        def test_step(self, batch: Any) -> Any:
            return {"logits": self.layer(batch[0])}

    callback = AuditCallback(inspector(tmp_path))
    with pytest.raises(InputError, match=r"unpack: .*\(list\).*\(dict\).* 'ids', 'labels';"):
        trainer(tmp_path, callback).test(OfPairs(), DataLoader(Pairs(), batch_size=3))
