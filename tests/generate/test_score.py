"""Scores of generated people: distances by hand, named after their network; copies, identities, the truth of swaps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import code_of
from safetensors.torch import save_file

from dgnet.drawn.dataset import load_factors, swap_truth
from dgnet.errors import UserError
from dgnet.generate import distances, edit
from dgnet.generate.quality import floats, psnr
from dgnet.generate.score import copies, named_identities, recognised, sources_of
from dgnet.models.inception import Inception

CPU = torch.device("cpu")


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_the_frechet_distance_of_two_gaussians_by_hand() -> None:
    """Means 0 and 3, variances 2 and 8: 9 + 2 + 8 - 2 sqrt(16)."""
    assert distances.frechet_distance(column(-1, 1), column(1, 5)) == pytest.approx(11)
    turned = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # both covariances 2/3 of the identity
    assert distances.frechet_distance(turned, 2 * turned) == pytest.approx(2 * (2 / 3 + 8 / 3 - 2 * 4 / 3))
    assert distances.frechet_distance(turned, turned + 5) == pytest.approx(50)
    assert distances.frechet_distance(turned, turned) == pytest.approx(0, abs=1e-9)


def test_the_kernel_distance_by_hand() -> None:
    """k(x, y) = (x y + 1)^3: within 0, 1 it is 1, within 1, 2 it is 27, between them (1 + 1 + 8 + 27) / 4."""
    assert distances.kernel_distance(column(0, 1), column(1, 2))[0] == pytest.approx(1 + 27 - 2 * 37 / 4)
    many = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    assert distances.kernel_distance(many, many[:20], seed=1) == distances.kernel_distance(many, many[:20], seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_distance_needs_two_pictures() -> None:
    with pytest.raises(UserError, match="1 and 2 pictures: a distance of two sets needs at least 2 in each"):
        distances.frechet_distance(column(1), column(1, 2))


def test_inception_has_the_published_size() -> None:
    """That of Keras without its top, 21 802 784, but for the scales of its batch norms and its running statistics."""
    assert sum(parameter.numel() for parameter in Inception().parameters()) == 21_802_784 - 34_432 + 17_216


def test_only_the_inception_of_fid_gives_a_fid(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = Inception().state_dict() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    tensors["AuxLogits.conv0.conv.weight"] = torch.zeros(1)
    save_file(tensors, tmp_path / "torchvision.safetensors")
    with pytest.raises(UserError, match=r"not the Inception of FID .* but one of 1000 classes"):
        distances.inception(str(tmp_path / "torchvision.safetensors"), CPU)
    tensors["fc.weight"] = torch.zeros(1008, 2048)
    save_file(tensors, tmp_path / "fid.safetensors")
    eye = distances.inception(str(tmp_path / "fid.safetensors"), CPU)
    assert (eye.frechet, eye.kernel) == ("FID", "KID")
    eye.net.eval()
    assert eye.see(torch.zeros(2, 299, 299, 3, dtype=torch.uint8)).shape == (2, 2048)
    del tensors["Mixed_7c.branch1x1.conv.weight"]
    save_file(tensors, tmp_path / "lacking.safetensors")
    with pytest.raises(UserError, match=r"Mixed_7c\.branch1x1\.conv\.weight is missing"):
        distances.inception(str(tmp_path / "lacking.safetensors"), CPU)
    with pytest.raises(UserError, match="no such file"):
        distances.inception(str(tmp_path / "none.pth"), CPU)


def test_copies_are_told_from_what_is_new() -> None:
    angle = torch.tensor([0.0, 90, 180, 270]).deg2rad()
    real = torch.stack([angle.cos(), angle.sin()], 1)
    made = torch.tensor([5.0, 44, 46]).deg2rad()
    generated = torch.stack([made.cos(), made.sin()], 1)
    share, nearest = copies(real, generated)
    assert (share, nearest.tolist()) == (1, [0, 0, 1])  # all within 90 degrees of a photo that is alone within 90
    close = torch.cat([real, real + 0.01 * real.roll(1, 1)])
    share, nearest = copies(close, torch.cat([generated, close[2:3]]))
    assert (share, nearest.tolist()[3]) == (0.25, 2)


def test_who_is_recognised_by_hand() -> None:
    real = torch.eye(3)[[0, 0, 1, 2]]
    share, found = recognised(torch.eye(3)[[0, 1, 1]], [7, 8, 9], real, [7, 7, 8, 9])
    assert (share, found) == (pytest.approx(2 / 3), [7, 8, 8])


def test_names_of_market_1501_tell_who_it_is() -> None:
    paths = [Path(name) for name in ("0002_c1s1_000451_03.jpg", "-1_c2s1_000001_00.jpg", "anna.jpg", "0012_c3.png")]
    assert list(named_identities(paths).values()) == [2, -1, 12]


# The command


def test_a_generated_folder_is_scored(people: Path, weights: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("torchmetrics")
    out, told = tmp_path / "made", tmp_path / "scores.json"
    assert (
        code_of("generate", "folder", weights, out, "--images", people / "bounding_box_train", "--device", "cpu") == 0
    )
    assert code_of("score", people, out, "--teacher", weights, "--json", told, "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "FD-lite2" in said
    assert "FID" not in said
    scores = json.loads(told.read_text())
    figures = {name: figure["value"] for name, figure in scores["figures"].items()}
    assert list(figures) == [
        "FD-lite2", "KD-lite2", "FD-lite2 of real photos", "copied", "SSIM within identities",
        "the same of real photos", "recognised by teacher", "recognised by teacher as the other",
        "PSNR against the truth", "SSIM against the truth",
    ]  # fmt: skip
    assert scores["missing"] == {}
    sources = sources_of(sorted(out.glob("*.png")))
    factors = load_factors(people)
    truth = [swap_truth(factors, source.structure, source.appearance) for source in sources.values()]
    made = edit.read(list(sources), 32, 16)
    by_hand = psnr(floats(made), floats(torch.from_numpy(np.stack(truth)))).mean()
    assert figures["PSNR against the truth"] == pytest.approx(float(by_hand))
    assert 0 <= figures["recognised by teacher"] <= 1
    assert (tmp_path / "scores.png").is_file()


def test_training_photos_handed_in_as_generated_are_copies(people: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    train = people / "bounding_box_train"
    assert code_of("score", train, train, "--json", tmp_path / "scores.json", "--device", "cpu") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["figures"]["copied"]["value"] == 1
    assert scores["figures"]["FD-lite2"]["value"] == pytest.approx(0, abs=1e-6)
    assert list(scores["missing"]) == ["PSNR, SSIM against the truth"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["score", "PEOPLE"], "give two folders, REAL and GENERATED"),
        (["score", "PEOPLE", "nowhere"], "nowhere: no such file or folder"),
        (["score", "PEOPLE", "PEOPLE", "--inception", "none.pth"], "weights 'none.pth': no such file"),
        (["score", "--truth", "PEOPLE"], "not empty, and not these very pairs"),
        (["score", "--truth", "nowhere", "PEOPLE"], "nowhere: no benchmark of swaps"),
        (["score", "--truth", "new", "--pairs", "3"], "3 pairs: at least 6"),
        (["score", "PEOPLE", "PEOPLE", "--generator", "x"], "--generator: goes with --truth only"),
    ],
)
def test_what_cannot_be_scored_is_told(people: Path, words: list[str], says: str, capsys: Any) -> None:
    assert code_of(*[str(people) if word == "PEOPLE" else word for word in words], "--device", "cpu") == 2
    assert says in capsys.readouterr().err


def test_a_damaged_provenance_is_told(people: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "made").mkdir()
    for photo in sorted((people / "query").glob("*.jpg"))[:2]:
        (tmp_path / "made" / photo.name).write_bytes(photo.read_bytes())
    (tmp_path / "made" / "provenance.json").write_text("[]")
    assert code_of("score", people, tmp_path / "made", "--device", "cpu") == 2
    assert "its provenance is damaged" in capsys.readouterr().err
