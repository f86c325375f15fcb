from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dgnet.images.transforms import normalise
from dgnet.models.structure_input import canny, edge, gray

DISC_AND_BAR = """
................
...###..........
..#...#.........
.#.....######...
.#.....#.....#..
.#.....#.....#..
..#...########..
...###..........
................
................
................
................
"""
"""What OpenCV 4.14 and 5.0 give for `disc_and_bar` with thresholds 10 and 200."""


def disc_and_bar() -> np.ndarray:
    """A bright disc, a dim bar that touches it, and a dim dash that touches nothing: [12, 16]."""
    row, column = np.mgrid[:12, :16]
    disc = (row - 4) ** 2 + (column - 4) ** 2 <= 9
    bar = (row >= 4) & (row < 7) & (column >= 7) & (column < 14) & ~disc
    dash = (row == 10) & (column >= 2) & (column <= 5)
    return np.where(disc, 150, 20) + 45 * bar + 40 * dash


def drawn(edges: Tensor) -> str:
    return "\n" + "".join("".join(".#"[int(on)] for on in row) + "\n" for row in edges)


def found(image: np.ndarray, low: int = 10, high: int = 200) -> Tensor:
    return canny(torch.as_tensor(np.asarray(image))[None], low, high)[0]


def plain_canny(image: np.ndarray, low: int, high: int) -> np.ndarray:
    """The definition, pixel by pixel."""
    height, width = image.shape
    padded = np.pad(image, 1, mode="edge").astype(int)
    dx, dy = np.zeros((height, width), int), np.zeros((height, width), int)
    for r in range(height):
        for c in range(width):
            near = padded[r : r + 3, c : c + 3]
            dx[r, c] = near[:, 2] @ [1, 2, 1] - near[:, 0] @ [1, 2, 1]
            dy[r, c] = near[2] @ [1, 2, 1] - near[0] @ [1, 2, 1]
    strength = np.pad(abs(dx) + abs(dy), 1)
    peaks = np.zeros((height, width), bool)
    for r in range(height):
        for c in range(width):
            here, near = strength[r + 1, c + 1], strength[r : r + 3, c : c + 3]
            if abs(dy[r, c]) < abs(dx[r, c]) * np.tan(np.pi / 8):
                peaks[r, c] = here > near[1, 0] and here >= near[1, 2]
            elif abs(dy[r, c]) > abs(dx[r, c]) * np.tan(3 * np.pi / 8):
                peaks[r, c] = here > near[0, 1] and here >= near[2, 1]
            elif dx[r, c] * dy[r, c] >= 0:
                peaks[r, c] = here > near[0, 0] and here > near[2, 2]
            else:
                peaks[r, c] = here > near[0, 2] and here > near[2, 0]
    strength = strength[1:-1, 1:-1]
    edges = np.zeros((height, width), bool)
    waiting = list(np.argwhere(peaks & (strength > high)))
    while waiting:
        r, c = waiting.pop()
        if 0 <= r < height and 0 <= c < width and not edges[r, c] and peaks[r, c] and strength[r, c] > low:
            edges[r, c] = True
            waiting += [(r + down, c + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return edges


def test_gray_is_the_mean_of_the_normalised_channels() -> None:
    x = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    assert torch.equal(gray(x), torch.full((2, 1, 4, 5), 3.0))


def test_a_step_is_found_once() -> None:
    """Both pixels beside the step have |dx| = 4 * 255; the tie goes to the left one."""
    step = np.tile([0, 0, 0, 255, 255, 255], (4, 1))
    assert drawn(found(step)) == "\n" + "..#...\n" * 4
    assert torch.equal(found(step.T), found(step).T)


def test_thresholds_by_hand() -> None:
    """A step of d grey levels has strength 4 d: 50 -> 200 is not stronger than 200, 51 -> 204 is."""
    assert not found(np.tile([0, 0, 50, 50], (4, 1))).any()
    assert found(np.tile([0, 0, 51, 51], (4, 1))).sum() == 4
    assert not found(np.full((5, 5), 77)).any()


def test_weak_edges_count_where_they_touch_strong_ones() -> None:
    assert drawn(found(disc_and_bar())) == DISC_AND_BAR
    assert found(disc_and_bar(), low=185).sum() == 20  # the 16 of the disc and 4 corners; sides have 180


@pytest.mark.parametrize("seed", range(6))
def test_canny_equals_the_definition(seed: int) -> None:
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 256, (7, 5))
    image = np.clip(np.kron(coarse, np.ones((3, 4), int)) + chance.integers(-6, 7, (21, 20)), 0, 255)
    for low, high in [(10, 200), (100, 500)]:
        expected = plain_canny(image, low, high)
        assert 0 < expected.sum() < expected.size
        np.testing.assert_array_equal(found(image, low, high).numpy(), expected)


def test_images_of_a_batch_do_not_touch() -> None:
    batch = torch.as_tensor(np.stack([disc_and_bar(), np.zeros((12, 16), int), disc_and_bar()[::-1]]))
    edges = canny(batch, 10, 200)
    assert drawn(edges[0]) == DISC_AND_BAR
    assert not edges[1].any()


def test_edge_input() -> None:
    photo = torch.as_tensor(disc_and_bar(), dtype=torch.uint8)[None, :, :, None].expand(200, -1, -1, 3)
    x = normalise(photo).requires_grad_()
    out = edge(x, torch.Generator().manual_seed(0))
    assert out.shape == (200, 1, 12, 16)
    assert not out.requires_grad
    assert torch.equal(out, edge(x, torch.Generator().manual_seed(0)))
    clean = edge(x, torch.Generator(), noise=0)
    assert drawn(clean[0, 0] > 0) == DISC_AND_BAR
    assert clean.unique().tolist() == [-0.5, 0.5]
    noise = out - clean
    assert noise.mean().item() == pytest.approx(0, abs=0.003)
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)


def test_colours_become_the_grays_of_opencv() -> None:
    """Luma 76, 150, 29 for pure red, green, blue: steps of 74 and 121 levels, so both borders are found."""
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    stripes = colours.repeat_interleave(4, dim=0).expand(1, 6, 12, 3)
    out = edge(normalise(stripes), torch.Generator(), noise=0)
    assert torch.equal(out[0, 0] > 0, found(np.tile(np.repeat([76, 150, 29], 4), (6, 1))))
