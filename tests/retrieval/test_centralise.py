"""Centralised features: each photo's with those of its appearance on typical structures; and of mutual neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from acquainted import acquainted
from command import Run

import dgnet
from dgnet import config as configuration
from dgnet.drawn.dataset import synthesize
from dgnet.errors import UserError
from dgnet.evaluate.evaluation import evaluate
from dgnet.evaluate.protocol import Reading
from dgnet.evaluate.results import load_results
from dgnet.generate.edit import read
from dgnet.images.transforms import normalise
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import frozen
from dgnet.models.teacher import build_baseline
from dgnet.retrieval.centralise import medoids, typical_structures
from dgnet.retrieval.feature_sets import Features, FeatureSet
from dgnet.retrieval.prepared import Comparison, prepare
from dgnet.retrieval.scores import unit
from dgnet.weights.files import save_model

HEIGHT, WIDTH = 32, 16


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DG-Net and a teacher with their people; neither knows a typical structure."""
    folder = tmp_path_factory.mktemp("run")
    synthesize(folder / "people", identities=6, test_identities=3, images_per_camera=2, height=HEIGHT, width=WIDTH)
    config = configuration.load("tiny", [f"data.root={folder / 'people'}"])
    net = acquainted(DGNet(config, 3), folder / "people", HEIGHT, WIDTH)
    save_model(folder / "model.safetensors", net, config, "joint", [1, 2, 3])
    teacher = acquainted(build_baseline(config, 3), folder / "people", HEIGHT, WIDTH)
    save_model(folder / "teacher.safetensors", teacher, config, "teacher", [1, 2, 3])
    return folder


@pytest.fixture
def photos(trained: Path) -> list[Path]:
    return sorted((trained / "people" / "bounding_box_train").glob("*.jpg"))


def test_a_feature_is_the_sum_of_a_photo_and_its_appearance_on_typical_structures(
    trained: Path, photos: list[Path]
) -> None:
    model = dgnet.load(trained / "model.safetensors")
    model.add_structures(photos, 3)
    net = model.net
    assert isinstance(net, DGNet)
    assert net.typical is not None
    assert net.typical.shape == (3, 1, HEIGHT, WIDTH)
    x = normalise(read(photos[:2], HEIGHT, WIDTH))
    expected = torch.zeros(2, 2 * model.config.model.appearance.head_width)
    with frozen(net), torch.inference_mode():
        for view in (x, x.flip(3)):
            f = net.encode(view).appearance
            seen = net.embed(view)
            for outline in net.typical.float():
                seen = seen + net.embed(net.decode(net.structure(outline[None]).expand(2, -1, -1, -1), f))
            expected += unit(seen, 2)
    made = model.embed(photos[:2], parts=True, centralise=3)
    torch.testing.assert_close(made, unit(expected, 2), atol=1e-5, rtol=0)
    assert not torch.allclose(made, model.embed(photos[:2], parts=True), atol=1e-3)


def test_centralised_on_none_is_the_plain_feature(trained: Path, photos: list[Path]) -> None:
    model = dgnet.load(trained / "model.safetensors")
    assert torch.equal(model.embed(photos, centralise=0), model.embed(photos))


def test_a_photo_is_seen_alone(trained: Path, photos: list[Path]) -> None:
    model = dgnet.load(trained / "model.safetensors")
    model.add_structures(photos, 2)
    together = model.embed(photos[:5], centralise=2)
    torch.testing.assert_close(model.embed(photos[3], centralise=2)[0], together[3], atol=1e-5, rtol=0)


def test_a_model_without_structures_says_how_to_add_them(trained: Path, photos: list[Path]) -> None:
    model = dgnet.load(trained / "model.safetensors")
    with pytest.raises(UserError, match=r"no typical structures; model.add_structures\(photos, 4\) adds them"):
        model.embed(photos, centralise=4)
    model.add_structures(photos, 2)
    with pytest.raises(UserError, match="centralise = 4: the model has 2 typical structures"):
        model.embed(photos, centralise=4)
    with pytest.raises(UserError, match=r"7 typical structures of 2 photos: 1 to 2 would be right"):
        model.add_structures(photos[:2], 7)
    teacher = dgnet.load(trained / "teacher.safetensors")
    with pytest.raises(UserError, match="no generator"):
        teacher.embed(photos, centralise=2)
    with pytest.raises(UserError, match="holds a teacher"):
        teacher.add_structures(photos, 2)


def test_structures_are_kept_in_the_file(trained: Path, photos: list[Path], tmp_path: Path) -> None:
    model = dgnet.load(trained / "model.safetensors")
    model.add_structures(photos, 2)
    for half in (False, True):
        again = dgnet.load(model.save(tmp_path / "kept.safetensors", half=half))
        assert isinstance(again.net, DGNet)
        assert isinstance(model.net, DGNet)
        assert again.net.typical is not None
        assert torch.equal(again.net.typical, model.net.typical)
        apart = (again.embed(photos[:3], centralise=2) - model.embed(photos[:3], centralise=2)).abs().max()
        assert apart < (0.05 if half else 1e-6)


def test_damaged_structures_are_told(trained: Path, photos: list[Path], tmp_path: Path) -> None:
    model = dgnet.load(trained / "model.safetensors")
    assert isinstance(model.net, DGNet)
    for wrong, says in (
        (torch.zeros(2, 1, 8, 8), r"typical_structures is \[2, 1, 8, 8\] of float32, not \[K, 1, 32, 16\]"),
        (torch.full((2, 1, HEIGHT, WIDTH), torch.nan), "NaN or infinity in typical_structures"),
    ):
        model.net.typical = wrong
        with pytest.raises(UserError, match=says):
            dgnet.load(model.save(tmp_path / "damaged.safetensors"))


def test_typical_structures_are_real_ones_and_always_the_same(trained: Path, photos: list[Path]) -> None:
    net = dgnet.load(trained / "model.safetensors").net
    assert isinstance(net, DGNet)
    pictures = read(photos, HEIGHT, WIDTH)
    chosen = typical_structures(net, pictures, 4)
    assert torch.equal(chosen, typical_structures(net, pictures, 4))
    outlines = net.structure_of(normalise(pictures)).half()
    assert len(chosen) == 4
    assert all((outlines == each).flatten(1).all(1).any() for each in chosen)
    with frozen(net), torch.inference_mode():
        codes = F.adaptive_avg_pool2d(net.structure(net.structure_of(normalise(pictures))), (8, 4)).flatten(1)
    assert torch.equal(chosen, outlines[medoids(codes, 4)])


def test_medoids_sit_in_the_middle_of_their_groups() -> None:
    points = torch.cat([torch.randn(20, 3, generator=torch.Generator().manual_seed(k)) * 0.1 + 5 * k for k in range(3)])
    chosen = medoids(points, 3)
    assert [int(index) // 20 for index in chosen] == [0, 1, 2]
    for group, index in enumerate(chosen.tolist()):
        members = points[20 * group : 20 * group + 20]
        assert index - 20 * group == int(torch.cdist(members, members).sum(0).argmin())
    assert sorted(medoids(torch.zeros(4, 2), 4).tolist()) == [0, 1, 2, 3]


def test_mutual_neighbours_draw_each_other_together() -> None:
    # 0 and 2 are mutual nearest; 1's nearest is 2, which does not return it; 3 is alone with 1.
    angle = np.radians([0.0, 25.0, 10.0, 80.0])
    points = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    people, cameras = np.array([1, 2]), np.array([1, 1])
    features = FeatureSet(Features(points[:2], people, cameras), Features(points[2:], people, cameras + 1))
    drawn = prepare(features, Comparison(None)).drawn_together(1)
    both = points[0] + points[2]
    both /= np.linalg.norm(both)
    np.testing.assert_allclose(drawn.query.tensor(), [both, points[1]], atol=1e-6)
    np.testing.assert_allclose(drawn.gallery.tensor(), [both, points[3]], atol=1e-6)
    assert evaluate(features, alpha=None, neighbours=1).protocol["neighbours"] == 1
    with pytest.raises(UserError, match=r"4 neighbours: 1 to 3 \(all others\) would be right"):
        evaluate(features, alpha=None, neighbours=4)


def test_evaluate_says_what_centralising_gains(trained: Path, photos: list[Path], tmp_path: Path, run: Run) -> None:
    model = dgnet.load(trained / "model.safetensors")
    model.add_structures(photos, 2)
    file = model.save(tmp_path / "model.safetensors")
    said = run("evaluate", file, "--centralise", 2, "--neighbours", 1).out
    assert said.count("centralised over plain features: mAP ") == 3  # one for each alpha
    plain, ours = (model.evaluate(reading=Reading(centralise=count))[0] for count in (0, 2))
    change = 100 * (ours.mAP_standard - plain.mAP_standard)
    told = run("evaluate", file, "--centralise", 2).out
    assert f"mAP {change:+.2f} [" in told
    assert "each centralised on 2 structures" in ours.provenance["views"]

    told = run("evaluate", file, "--neighbours", 1, "--json", tmp_path / "near.json").out
    near = load_results(tmp_path / "near.json")
    assert near.protocol["neighbours"] == 1
    change = 100 * (near.mAP_standard - plain.mAP_standard)
    assert f"mAP {change:+.2f} [" in told
