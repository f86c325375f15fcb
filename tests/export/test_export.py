"""A file is the model: number by number, by what it recognises, and in every runtime that reads it."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from command import Refused, Run
from PIL import Image

import dgnet
from dgnet.datasets.read import of_config
from dgnet.errors import UserError
from dgnet.export.check import BATCHES, material, parity, require_equal
from dgnet.export.export import Report
from dgnet.export.parts import scaling
from dgnet.export.session import Exported
from dgnet.images.inputs import Photos
from dgnet.images.transforms import normalise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def embedding(model: dgnet.Model, people: Path, folder: Path) -> Report:
    return model.export(folder / "embedding.onnx", check=[people])


@pytest.fixture(scope="module")
def eight(model: dgnet.Model, people: Path, folder: Path) -> Report:
    return model.export(
        folder / "eight.onnx", int8=True, calibrate=[people / "bounding_box_train"], check=[people], licence="mit"
    )


def fed(model: dgnet.Model, photos: list[Path]) -> torch.Tensor:
    return normalise(Photos(photos, *model.size).all()).contiguous()


def run_onnx(path: Path, *inputs: torch.Tensor) -> np.ndarray[Any, Any]:
    """With ONNX Runtime alone, as somebody without dgnet has it."""
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)})[0]


# What is in a file


def test_the_features_of_a_file_are_those_of_embed(model: dgnet.Model, embedding: Report, photos: list[Path]) -> None:
    wanted = model.embed(photos)
    for count in (*BATCHES, 40):
        found = run_onnx(embedding.path, fed(model, photos[:count]))
        np.testing.assert_allclose(found, wanted[:count], atol=1e-5)
    assert abs(float(wanted[0] @ wanted[1])) < 0.9999  # the photos are told apart, or nothing would be compared
    exported = Exported(embedding.path)
    torch.testing.assert_close(exported.embed_photos(photos), wanted, atol=1e-5, rtol=0)
    frame = np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8)
    boxes = [[10, 5, 30, 45], [-20, -9, 12, 200]]
    torch.testing.assert_close(exported.embed_boxes(frame, boxes), model.embed_boxes(frame, boxes), atol=1e-5, rtol=0)
    assert exported.embed_photos([]).shape == (0, model.dimensions)


def test_without_check_the_data_of_the_training_are_read_as_they_were_in_training(
    model: dgnet.Model, people: Path, tmp_path: Path
) -> None:
    for photo in sorted((people / "bounding_box_test").glob("0*.jpg")):
        person, camera = photo.name.split("_")[:2]
        (tmp_path / person).mkdir(exist_ok=True)
        (tmp_path / person / f"{camera[:2]}-{photo.name}").write_bytes(photo.read_bytes())
    layout = "pattern:{identity}/c{camera}-*.jpg"
    data = replace(model.config.data, root=str(tmp_path), layout=layout, holdout=0.5)
    mine = replace(model.config, data=data)
    for given in ((), (tmp_path,)):
        found = material(given, mine)
        assert found.dataset is not None
        assert found.photos == of_config(data).query.paths
        assert 0 < len(found.dataset.gallery.people) < len(list(tmp_path.iterdir()))
    own = material((), model.config)
    assert own.dataset is not None
    assert own.dataset.multi_query is None  # 25 000 photos of Market-1501 that no figure of an export needs
    plain = material((people / "query",), mine)
    assert (plain.dataset, len(plain.photos)) == (None, len(list((people / "query").glob("*.jpg"))))


def test_the_figures_are_those_that_the_file_itself_reaches(
    model: dgnet.Model, embedding: Report, people: Path, tmp_path: Path
) -> None:
    assert embedding.original is not None
    assert embedding.file is not None
    assert 0 < embedding.original.mAP_standard < 1
    np.testing.assert_array_equal(embedding.file.first_hit, embedding.original.first_hit)
    assert embedding.original.figures() == model.evaluate(people)[0].figures()

    wrong = onnx.load(embedding.path)  # features that have lost most of what they say are seen to be worse
    last = wrong.graph.output[0].name
    for node in wrong.graph.node:
        node.output[:] = ["before" if name == last else name for name in node.output]
    wrong.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1] + [0] * 31, np.float32), "first"))
    wrong.graph.node.append(onnx.helper.make_node("Mul", ["before", "first"], [last]))
    onnx.save(wrong, tmp_path / "wrong.onnx")
    from dgnet.datasets.read import read_dataset
    from dgnet.export.check import figures

    worse = figures(Exported(tmp_path / "wrong.onnx"), model.config, read_dataset(people, "auto"))
    assert worse.mAP_standard < embedding.file.mAP_standard - 0.05


def test_a_file_that_computes_something_else_is_refused(model: dgnet.Model, photos: list[Path]) -> None:
    x = fed(model, photos[:32])

    class Other(torch.nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) + self.by

    require_equal(parity(Other(1e-6), Other(0), [x]))
    found = parity(Other(0.01), Other(0), [x])
    assert [at.batch for at in found] == [1, 7, 32]
    assert found[0].difference == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(UserError, match=r"^at batch 1 the file differs from PyTorch by 0.01"):
        require_equal(found)
    with pytest.raises(UserError, match="NaN"):
        parity(Other(float("nan")), Other(0), [x])


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_structure_appearance_and_generator_swap_as_the_model_does(
    model: dgnet.Model, photos: list[Path], tmp_path: Path, to: str
) -> None:
    parts = {}
    for part in ("structure", "appearance", "generator"):
        report = model.export(
            tmp_path / f"{part}.{'onnx' if to == 'onnx' else 'pt2'}", to=to, part=part, normalise=True, check=photos
        )
        assert [at.batch for at in report.parity] == [1, 7, 32]
        assert report.file is None
        parts[part] = Exported(report.path)
    images = Photos(photos[:7], *model.size).all().permute(0, 3, 1, 2) / 255
    painted = parts["generator"](parts["structure"](images), parts["appearance"](images.flip(0)))
    wanted = model.swap(photos[:7], photos[:7][::-1], as_tensor=True).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(painted, wanted, atol=0.5 / 255 + 1e-5, rtol=0)  # the model's are rounded to bytes


def test_a_program_of_torch_export_needs_no_dgnet(model: dgnet.Model, photos: list[Path], tmp_path: Path) -> None:
    report = model.export(tmp_path / "a.pt2", to="torch", check=photos)
    module = torch.export.load(report.path).module()
    for count in BATCHES:
        torch.testing.assert_close(module(fed(model, photos[:count])), model.embed(photos[:count]), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["teacher", "stripes"])
def test_other_networks_export_as_well(weights: Path, photos: list[Path], tmp_path: Path, name: str) -> None:
    model = dgnet.load(weights / f"{name}.safetensors", device="cpu")
    report = model.export(tmp_path / "a.onnx", flip=False, check=photos)
    wanted = model.net.embed(fed(model, photos[:7])).detach()
    found = run_onnx(report.path, fed(model, photos[:7]))
    np.testing.assert_allclose(found, torch.nn.functional.normalize(wanted, dim=1), atol=1e-5)
    with pytest.raises(UserError, match=r"a.onnx: --to torch writes .pt2 files"):
        model.export(tmp_path / "a.onnx", to="torch", check=photos)


def test_pictures_of_another_size_are_scaled_as_pillow_does() -> None:
    rng = np.random.default_rng(0)
    picture = rng.random((51, 23), dtype=np.float32)
    for height, width in ((32, 16), (64, 40), (51, 10)):
        wanted = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
        found = scaling(51, height).numpy() @ picture @ scaling(23, width).numpy().T
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_file_says_what_it_is_and_nothing_of_this_machine(embedding: Report, model: dgnet.Model) -> None:
    plain = onnx.load(embedding.path)
    onnx.checker.check_model(plain, full_check=True)
    said = json.loads({entry.key: entry.value for entry in plain.metadata_props}["dgnet"])
    assert said["model"] == model.fingerprint
    assert (said["part"], said["precision"], said["normalise"]) == ("embedding", "float32", False)
    assert str(Path.cwd()).encode() not in embedding.path.read_bytes()
    assert b"site-packages" not in embedding.path.read_bytes()
    shapes = [[side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
              for value in (*plain.graph.input, *plain.graph.output)]  # fmt: skip
    assert shapes == [["batch", 3, 32, 16], ["batch", model.dimensions]]


# Fewer bits


def test_eight_bits_are_measured(model: dgnet.Model, eight: Report, people: Path) -> None:
    operations = [node.op_type for node in onnx.load(eight.path).graph.node]
    assert "QuantizeLinear" in operations
    assert eight.about.precision == "int8"
    assert eight.about.calibration == [path.name for path in sorted((people / "bounding_box_train").glob("*.jpg"))]
    assert 1e-5 < eight.parity[2].difference < 0.2
    assert 0.9 < eight.parity[2].cosine < 1
    assert eight.file is not None
    assert eight.original is not None
    assert abs(eight.file.mAP_standard - eight.original.mAP_standard) < 0.1
    assert eight.card is not None
    card = eight.card.read_text()
    assert all(name in card for name in eight.about.calibration)
    assert f"| mAP | {100 * eight.original.mAP_standard:.2f} | {100 * eight.file.mAP_standard:.2f} |" in card


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_half_precision_is_measured(model: dgnet.Model, people: Path, tmp_path: Path, to: str) -> None:
    report = model.export(tmp_path / f"half.{'onnx' if to == 'onnx' else 'pt2'}", to=to, half=True, check=[people])
    assert 1e-6 < report.parity[2].difference < 0.01
    assert report.parity[2].cosine > 0.9999
    assert report.file is not None
    assert Exported(report.path)(torch.zeros(2, 3, *model.size)).dtype == torch.float32
    if to == "onnx":
        weights = onnx.load(report.path).graph.initializer
        assert sum(each.data_type == onnx.TensorProto.FLOAT16 for each in weights) > 10


# Other runtimes


@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed: pip install 'dgnet[openvino]'"
)
@pytest.mark.parametrize("bits", [32, 8])
def test_openvino_reads_the_file(
    model: dgnet.Model, embedding: Report, eight: Report, photos: list[Path], bits: int
) -> None:
    import openvino

    report = embedding if bits == 32 else eight
    compiled = openvino.Core().compile_model(str(report.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wanted = model.embed(photos)
    for count in BATCHES:
        found = torch.from_numpy(compiled([fed(model, photos[:count]).numpy()])[0])
        assert found.shape == (count, model.dimensions)
        if bits == 32:
            torch.testing.assert_close(found, wanted[:count], atol=1e-4, rtol=0)
        else:
            assert (found * wanted[:count]).sum(1).min() > 0.85


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed: pip install 'dgnet[openvino]'"
)
def test_openvino_reads_the_generator_and_its_instance_norms(
    model: dgnet.Model, photos: list[Path], tmp_path: Path
) -> None:
    import openvino

    s, f = model.encode(photos[:7])
    report = model.export(tmp_path / "g.onnx", part="generator", check=photos)
    compiled = openvino.Core().compile_model(str(report.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = torch.from_numpy(compiled([s.numpy(), f.numpy()])[0])
    torch.testing.assert_close(found, model.net.decode(s, f).detach(), atol=1e-3, rtol=0)


# The command


def test_the_command_prints_both_tables_and_writes_a_card(
    run: Run, weights: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run("export", weights / "stripes.safetensors", "--to", "torch", "--check", people)
    assert said.code == 0, said
    assert "largest difference" in said.out
    assert "rank-1" in said.out
    assert said.out.endswith("written: stripes.pt2\nwritten: stripes.pt2.md\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stripes.pt2", "stripes.pt2.md"]


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    refused: Refused, weights: Path, people: Path, tmp_path: Path
) -> None:
    out, given = tmp_path / "a.onnx", weights / "model.safetensors"

    def said(*words: object) -> str:
        return refused("export", given, "--out", out, *words)

    assert said("--half", "--int8", "--calibrate", people) == "--half and --int8: choose one of them"
    assert said("--int8").startswith("--int8 and --calibrate FOLDER go together")
    assert said("--calibrate", people).startswith("--int8 and --calibrate FOLDER go together")
    assert said("--int8", "--calibrate", tmp_path / "no") == f"{tmp_path / 'no'}: no such file or folder"
    assert said("--check", tmp_path / "no") == f"{tmp_path / 'no'}: no such file or folder"
    assert said("--to", "torch") == f"{out}: --to torch writes .pt2 files"
    assert said("--for", "boxmot", "--part", "generator") == "--for boxmot: a tracker takes the embedding, --to onnx"
    assert said("--for", "ultralytics", "--normalise").endswith("decides --size and --normalise itself; leave them out")
    assert said("--size", 0, 5).startswith("--size 0 5: rows and columns")
    assert refused("export", weights / "teacher.safetensors", "--out", out, "--part", "generator") == (
        "--part generator: a teacher has no such part; embedding would be right"
    )
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_told_with_its_extra(
    model: dgnet.Model, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"^onnxscript is not installed: pip install 'dgnet\[export\]'$"):
        model.export(tmp_path / "a.onnx", check=photos)
    assert not list(tmp_path.iterdir())


def test_what_is_no_exported_file_is_told(tmp_path: Path, embedding: Report) -> None:
    with pytest.raises(UserError, match="no such file"):
        Exported(tmp_path / "none.onnx")
    (tmp_path / "cut.onnx").write_bytes(embedding.path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut.onnx: not a readable ONNX file"):
        Exported(tmp_path / "cut.onnx")
    (tmp_path / "cut.pt2").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"cut.pt2: not a readable program of torch.export"):
        Exported(tmp_path / "cut.pt2")
    plain = onnx.load(embedding.path)
    del plain.metadata_props[:]
    onnx.save(plain, tmp_path / "theirs.onnx")
    with pytest.raises(UserError, match=r"theirs.onnx: not exported by dgnet"):
        Exported(tmp_path / "theirs.onnx")
