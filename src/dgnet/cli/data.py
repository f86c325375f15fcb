"""`dgnet data`: data sets drawn and checked."""

from __future__ import annotations

from pathlib import Path

import tyro
from tyro.conf import Positional

from dgnet import console

app = tyro.extras.SubcommandApp()


@app.command
def synthesize(
    folder: Positional[Path],
    identities: int = 90,
    test_identities: int = 30,
    cameras: int = 4,
    images_per_camera: int = 6,
    distractors: int = 60,
    junk: int = 30,
    outfits: int = 1,
    seed: int = 0,
    height: int = 128,
    width: int = 64,
) -> int:
    """Draw a data set of people in Market-1501 layout, with the factors behind every image in factors.json.

    Args:
        folder: where to; must be new or empty, or hold this very data set
        identities: people in all
        test_identities: of these, for query and gallery
        cameras: cameras that see everyone
        images_per_camera: photos of each person by each camera
        distractors: gallery images of nobody in the query
        junk: gallery images to be left out of every ranking
        outfits: clothes that each person has; with several, the gallery shows others than the query
        seed: decides everything that is drawn
        height: rows of an image
        width: columns of an image
    """
    from dgnet.drawn.dataset import synthesize as draw

    made = draw(
        folder, identities=identities, test_identities=test_identities, cameras=cameras,
        images_per_camera=images_per_camera, distractors=distractors, junk=junk, outfits=outfits, seed=seed,
        height=height, width=width,
    )  # fmt: skip
    console.stdout.print(f"{len(made.images)} images of {identities} people in {folder}")
    return 0


@app.command
def check(
    root: Positional[Path],
    layout: str = "auto",
    holdout: float | None = None,
    cache: Path = Path("runs/check"),
    json: Path | None = None,
) -> int:
    """Look into every file of a data set. Exit code 0: clean; 1: problems found; 2: unusable.

    Args:
        root: the data set's folder
        layout: how it is laid out: auto, market1501, msmt17, ... (docs/datasets.md)
        holdout: look at it with this share of its people held out as query and gallery, as data.holdout does
        cache: folder that remembers what was seen, so that a second check is quick; never the data set's own
        json: write everything to this file, too
    """
    from dgnet.config import Data
    from dgnet.datasets.check import check as look
    from dgnet.datasets.read import elsewhere, of_config
    from dgnet.files import replacing

    report = look(of_config(elsewhere(Data(), root, layout, holdout)), cache=cache)
    report.show()
    if json:
        with replacing(json) as part:
            part.write_text(report.to_json() + "\n", encoding="utf-8")
    return report.exit_code


@app.command
def cache(folder: Positional[Path], clear: bool = False, every: bool = False) -> int:
    """What the image caches in a folder (data.cache) were made of, and whether the photos are still the same.

    Args:
        folder: where they are
        clear: delete those whose photos have changed or are gone
        every: with --clear: delete all of them
    """
    from dgnet.errors import UserError
    from dgnet.files import expanded
    from dgnet.images import caches
    from dgnet.images.store import megabytes

    if every and not clear:
        raise UserError("--every: goes with --clear only")
    folder = expanded(folder)
    found = caches.listed(folder)
    gone = caches.cleared(folder, every=every) if clear else []
    told = [
        (cache.file.name, megabytes(cache.size), str(cache.images or "?"), cache.place or "?",
         "deleted" if cache in gone else "current" if cache.current else "out of date")
        for cache in found
    ]  # fmt: skip
    console.stdout.print(console.table(f"Image caches in {folder}", ["cache", "size", "images", "of", "state"], told))
    old = [cache for cache in found if not cache.current]
    if old and not clear:
        size = megabytes(sum(cache.size for cache in old))
        console.stdout.print(f"{len(old)} out of date ({size}); --clear deletes them")
    return 0
