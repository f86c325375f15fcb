"""What a user holds: a trained network that embeds, compares, paints and is evaluated. `dgnet.load` makes one."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dgnet import console
from dgnet.datasets.folders import images_among, images_in
from dgnet.datasets.read import of_model
from dgnet.datasets.records import Dataset, Split
from dgnet.device import device_named
from dgnet.errors import UserError
from dgnet.evaluate import protocol
from dgnet.evaluate.calibrate import calibrate
from dgnet.evaluate.results import Results
from dgnet.export import card as cards
from dgnet.export.export import Options, Report, export
from dgnet.files import expanded, local_file
from dgnet.gallery.ask import Kept
from dgnet.gallery.embedding import embedded_photos
from dgnet.gallery.places import open_or_create
from dgnet.gallery.store import Precision
from dgnet.generate import edit
from dgnet.generate.clothes import Dressed, dressed
from dgnet.generate.dataset import folder
from dgnet.generate.expansion import generate_dataset
from dgnet.images.inputs import Photo, Photos, crop, pixels
from dgnet.models.dgnet import Codes, DGNet
from dgnet.models.heads import Head
from dgnet.retrieval import decision
from dgnet.retrieval.centralise import centralised, typical_structures
from dgnet.retrieval.decision import Same, Threshold, judged
from dgnet.retrieval.explain import Explanation, explain
from dgnet.retrieval.features import extract, parts_of
from dgnet.retrieval.matches import Match, most_alike
from dgnet.retrieval.scores import unit, weigh
from dgnet.weights.files import FINISHED, Loaded, finished, load_any, save_model
from dgnet.weights.fingerprint import fingerprint, state, weights_hash
from dgnet.weights.foreign import listed

SHIPPED = {"drawn": "shipped/drawn.safetensors"}  # models inside the package, by name
_KNOWS_ONLY = "knows drawn people only, whatever photo it is shown; models for real photos are trained on real photos"

OneOrMore = Photo | Iterable[Photo]
Moving = Literal["appearance", "structure"]


def load(source: str | Path, device: str | torch.device = "auto") -> Model:
    """A trained model, ready for use.

    Args:
        source: a run's folder, a `.safetensors` file, `hub:user/name` (its `model.safetensors`, or the file named
            behind another `/`), or the name of a model that comes with dgnet.
        device: `auto` (the first GPU, if there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: nothing is there, or what is there is no model of dgnet; the line says what would be right.

    Examples:
        >>> model = dgnet.load("runs/joint")
        >>> features = model.embed(["anna.jpg", "carl.jpg"])
        >>> features.shape == (2, model.dimensions)
        True
    """
    file = weights_file(source)
    loaded = load_any(file, device_named(device))
    if str(source) in SHIPPED:
        # Where it was trained there was a folder; one of that name here is another one.
        loaded = replace(loaded, config=replace(loaded.config, data=replace(loaded.config.data, root="")))
    model = Model(loaded, str(source), file)
    if model.knows_only:
        console.notice(model.knows_only)
    return model


def weights_file(source: str | Path) -> Path:
    """The file that `source` of `load` means. Raises UserError where there is none."""
    text = str(source)
    if text in SHIPPED:
        return Path(__file__).parent / SHIPPED[text]
    if text.startswith("hub:"):
        if not (parts := re.fullmatch(r"hub:([^/]+/[^/]+)(/.+)?", text)):
            raise UserError(f"{text}: write it as hub:user/name or hub:user/name/file")
        return local_file(f"hub:{parts[1]}{parts[2] or f'/{FINISHED[0]}'}", "is it the name of a model of dgnet?")
    path = expanded(source)
    if path.is_dir():
        if (done := finished(path)) is not None:
            return done
        if (path / "config.yaml").is_file():
            raise UserError(
                f"{path}: a run that is not finished: no {' or '.join(FINISHED)} yet; --resume continues it"
            )
        inside = [Path(path.name, file.name) for file in sorted(path.glob("*.safetensors"))]
        above = [Path("..", name) for name in FINISHED if (path.parent / name).is_file()]
        held = f"; near it are {listed(map(str, [*above, *inside]))}" if above or inside else ""
        raise UserError(
            f"{path}: a folder without {' or '.join(FINISHED)}; give a run's folder or a .safetensors file{held}"
        )
    if path.exists():
        return path
    if len(path.parts) == 1:  # perhaps meant as the name of a model
        right = ", ".join(["a run's folder", "a .safetensors file", "hub:user/name", *SHIPPED])
        raise UserError(f"{path}: no such file, nor a model of that name; one of these would be right: {right}")
    raise UserError(f"{path}: no such file")


class Model:
    """A trained DG-Net, or a teacher (which embeds and is evaluated, but has no generator).

    Photos are given as paths, PIL images, uint8 arrays [H, W, 3] or floats in [0, 1] (arrays [H, W, 3], tensors
    [3, H, W]), one or several (a list, a generator of paths), of any size, in RGB; they are scaled to the network's
    size (bicubic) and seen in batches, without gradients, where the network is. The network is in evaluation mode: the
    same photo gives the same feature whatever stands beside it, up to rounding.

    Attributes:
        net: the network, a `torch.nn.Module`.
        config: the configuration that it was trained with.
        identities: the people that it was trained on, as their data set numbers them; empty where unknown.
        name: what it was loaded as.
        file: the file of its weights.
    """

    def __init__(self, loaded: Loaded[Any], name: str = "model", file: Path | None = None) -> None:
        self.loaded, self.name, self.file = loaded, name, file or Path(name)
        self.net, self.config, self.identities = loaded.net, loaded.config, loaded.identities
        self._known: tuple[object, str] | None = None  # the fingerprint, and the state of the weights that it is of
        try:
            self._threshold = None if loaded.threshold is None else decision.from_dict(loaded.threshold)
        except UserError as error:
            raise UserError(f"{name}: its threshold is damaged ({error}); calibrate it again") from error

    def __repr__(self) -> str:
        what = "DG-Net" if self.generates else "teacher, embeds only"
        height, width = self.size
        return f"<dgnet.Model {self.name}: {what}, {height} x {width}, {self.dimensions} dimensions, on {self.device}>"

    @property
    def generates(self) -> bool:
        """Whether it has a generator: a teacher has none."""
        return isinstance(self.net, DGNet)

    @property
    def knows_only(self) -> str:
        """What a user must be told before anything else of a model that comes with dgnet; of others, nothing."""
        return f"{self.name}: {_KNOWS_ONLY}" if self.name in SHIPPED else ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of what the network sees and paints."""
        return self.config.data.height, self.config.data.width

    @property
    def device(self) -> torch.device:
        """Where the network is; `to` moves it."""
        where: torch.device = next(self.net.parameters()).device
        return where

    @property
    def dimensions(self) -> int:
        """D, the length of a feature."""
        return self._width // 2 if self._alpha in (0, -1) else self._width

    @property
    def batch(self) -> int:
        """Photos that the network sees at once."""
        return self.config.evaluate.batch

    @property
    def fingerprint(self) -> str:
        """What its features depend on, as one number: galleries and thresholds know the model by it.

        Computed anew where weights have changed since it was last asked for.
        """
        now = state(self.net)
        if self._known is None or self._known[0] != now:
            self._known = (now, fingerprint(self.net, self.config))
        return self._known[1]

    @property
    def threshold(self) -> Threshold | None:
        """Where likeness begins to mean the same person; `calibrate` finds it, and `save` keeps it. None: unknown.

        Raises:
            UserError: it was calibrated with another model, or with other weights of this one.
        """
        if self._threshold is not None:
            self._own(self._threshold)
        return self._threshold

    @threshold.setter
    def threshold(self, threshold: Threshold | None) -> None:
        if threshold is not None:
            self._own(threshold)
        self._threshold = threshold

    def _own(self, threshold: Threshold) -> None:
        if threshold.model != self.fingerprint:
            raise UserError(
                f"{self.name}: the threshold {threshold.value:.3f} was calibrated (on {threshold.data}) with another "
                f"model or other weights, whose likenesses are not these: {decision.HOW_TO}"
            )

    @property
    def _alpha(self) -> float | None:
        """What the second half of a feature is weighed by; None for features without halves."""
        return protocol.alpha_of(self.net, self.config)

    @property
    def _width(self) -> int:
        """The length of all parts of a feature together."""
        return sum(module.width for module in self.net.modules() if isinstance(module, Head))

    def to(self, device: str | torch.device) -> Model:
        """Move the network; returns the model itself. Raises UserError if the device is not there."""
        self.net.to(device_named(device))
        return self

    # Recognise

    def embed(self, images: OneOrMore, *, parts: bool = False, centralise: int = 0) -> Tensor:
        """Features of photos: float32 [N, D] on the CPU, rows of length 1.

        The dot product of two of them is their likeness, and ranks a gallery as the first row of the evaluation's
        table does: the halves of the feature are weighed by the configuration's first alpha, and mirror images are seen
        too. With `parts`, the halves as they are, each of length 1, side by side: what `dgnet evaluate` weighs by
        alpha itself (a model with a single head gives the same either way). With `centralise` a photo's feature is the
        sum of its own and those of its appearance painted on so many typical structures: slower by as many times.

        Raises:
            UserError: something given is no photo; to centralise, a model without generator or typical structures.

        Examples:
            >>> features = model.embed(["anna.jpg", "carl.jpg"])
            >>> alike = features @ features.T
            >>> round(float(alike[0, 0]), 4)
            1.0
        """
        photos = Photos(images, *self.size)
        if not len(photos):
            return torch.empty(0, self._width if parts else self.dimensions)
        seen_by = centralised(self.net, centralise)
        found = extract(seen_by, photos, self.batch, parts=parts_of(self.net))
        return found if parts else unit(weigh(found, self._alpha, 0.5), 1)

    def embed_boxes(self, frame: Photo, boxes: Any, *, parts: bool = False) -> Tensor:
        """Features of the people in one frame: boxes [n, 4], x1, y1, x2, y2 in pixels -> float32 [n, D].

        Boxes are cut at the frame's border. OpenCV's frames are BGR: give `frame[..., ::-1]`.

        Raises:
            UserError: a box that holds no pixel of the frame, with its number.
        """
        return self.embed(crop(pixels(frame, "frame"), boxes), parts=parts)

    def search(
        self,
        query: OneOrMore,
        where: str | Path | Sequence[str | Path],
        top: int = 10,
        *,
        on_unreadable: Literal["error", "skip"] = "error",
    ) -> list[Match]:
        """The photos in a folder that are most like the query, best first; equal scores by their order in the folder.

        Args:
            query: a photo of someone, or several of one person, whose features are averaged.
            where: a folder, in which photos are looked for at any depth, files, or both.
            top: how many to give.
            on_unreadable: stop at photos that cannot be read, or name them and go on without them.

        Raises:
            UserError: no query, no such folder, no photos in it, or one that cannot be read.

        Examples:
            >>> first = model.search("anna.jpg", "people", top=3)[0]
            >>> first.place, first.score <= 1.001
            (1, True)
        """
        if top < 1:
            raise UserError(f"top is {top}: 1 or more would be right")
        paths = images_among([where] if isinstance(where, str | Path) else where)
        one, threshold = self.embed_person(query), self.threshold
        read, features = embedded_photos(self, paths, on_unreadable, "looking")
        return most_alike(one, features, read, top, threshold)

    def embed_person(self, images: OneOrMore) -> Tensor:
        """One feature of one person, float32 [1, D] of length 1: the mean of those of all photos given.

        Raises UserError where there is no photo.
        """
        found = self.embed(images)
        if not len(found):
            raise UserError("query: no photos are given")
        return unit(found.mean(0, keepdim=True), 1)

    def same(self, a: OneOrMore, b: OneOrMore) -> Same:
        """Whether two photos show one person; several photos of one person may stand for either.

        `answer` is yes, no or unsure by the model's `threshold`, and None where it has none.

        Examples:
            >>> round(model.same("anna.jpg", "anna.jpg").score, 3)
            1.0
        """
        return judged(float(self.embed_person(a)[0] @ self.embed_person(b)[0]), self.threshold)

    def explain(self, a: OneOrMore, b: OneOrMore) -> Explanation:
        """Where the likeness of photos comes from: the share of every place of both in their features' dot product.

        Both of the same length, or one against many. `Explanation.pictures` paints the shares over the photos.

        Raises:
            UserError: lengths that do not go together, or no photos.

        Examples:
            >>> explained = model.explain("anna.jpg", ["carl.jpg", "dora.jpg"])
            >>> anna, carl = explained.pictures()[0]
            >>> carl.save("carl_like_anna.png")
            >>> same = explained.first.sum((1, 2)) + explained.rest[:, 0] - explained.score
            >>> bool(same.abs().max() < 1e-4)
            True
        """
        first, second = _matched("explain", first=self._photos("a", a), second=self._photos("b", b))
        return explain(self.net, first, second, self._alpha)

    def gallery(self, place: str | Path, *, precision: Precision = "float32") -> Kept:
        """The gallery in a folder, or at `qdrant://host:port/name`; a new one where none is.

        It is searched by its own `search`, and `dgnet.gallery.enrol.enrol` adds to it.

        Raises:
            UserError: the gallery of another model, or a folder that holds something else.

        Examples:
            >>> from dgnet.gallery.enrol import enrol
            >>> from dgnet.gallery.entries import of_images
            >>> gallery = model.gallery("gallery")
            >>> enrol(gallery, model, of_images(["people"])).unreadable
            0
            >>> gallery.search(model.embed_person("anna.jpg"), top=3)[0].place
            1
        """
        return open_or_create(
            place, model=self.fingerprint, made_by=self.name, dimensions=self.dimensions, precision=precision
        )

    def evaluate(
        self, folder: str | Path | None = None, layout: str = "auto", *, holdout: float | None = None, **options: Any
    ) -> list[Results]:
        """The test protocol on a data set: one result per alpha, the first being that of `embed`.

        Args:
            folder: the data set's folder (or table); by default the one that the model was trained on.
            layout: how it is laid out; `auto` looks.
            holdout: share of its people who are held out as query and gallery, where it has none; without `folder` by
                default as in training.
            options: those of `dgnet.evaluate.protocol.evaluate_network` (name, alphas, reading) and of
                `dgnet.evaluate.evaluation.evaluate` (ranks, divisor, metric, reranking, ...).

        Raises:
            UserError: the folder is no data set, or has no query or gallery images.

        Examples:
            >>> first = model.evaluate("people")[0]
            >>> 0 <= first.mAP_standard <= 1
            True
        """
        dataset = self._tested(folder, layout, holdout)
        if options.get("verification") and options.get("reading", protocol.PLAIN).flip:
            options["threshold"] = self.threshold
        return protocol.evaluate_network(
            self.net, self.config, dataset, self.device, provenance={"weights": self.loaded.hash}, **options
        )

    def calibrate(
        self,
        folder: str | Path | None = None,
        layout: str = "auto",
        *,
        far: float = 1e-3,
        holdout: float | None = None,
        reading: protocol.Reading = protocol.PLAIN,
        draws: int = 1000,
        seed: int = 0,
    ) -> Threshold:
        """Find the model's `threshold` on a data set: the score that a share `far` of pairs of different people exceed.

        Calibrate on people whom the model was not trained on, and report on others: `evaluate` with `verification`
        says what the threshold is worth on another set. `save` keeps it in the model's file.

        Args:
            folder, layout, holdout: as for `evaluate`.
            far: false-accept rate.
            reading: how photos are read.
            draws, seed: of the bootstrap over people that gives the threshold's interval.

        Raises:
            UserError: the folder is no data set, or has too few pairs for such a rate.

        Examples:
            >>> threshold = model.calibrate("people", far=0.05)
            >>> threshold.low <= threshold.value <= threshold.high
            True
            >>> model.same("anna.jpg", "anna.jpg").answer
            'yes'
        """
        dataset = self._tested(folder, layout, holdout)
        found = protocol.features(self.net, self.config, dataset, self.device, replace(reading, flip=True))
        self.threshold = calibrate(
            protocol.as_embedded(found, self._alpha), far, model=self.fingerprint, data=dataset.root.name, draws=draws,
            seed=seed,
        )  # fmt: skip
        return self.threshold

    # Generate

    @overload
    def swap(
        self, structure_of: OneOrMore, appearance_of: OneOrMore, *, as_tensor: Literal[False] = ...
    ) -> list[Image.Image]: ...
    @overload
    def swap(self, structure_of: OneOrMore, appearance_of: OneOrMore, *, as_tensor: Literal[True]) -> Tensor: ...
    def swap(self, structure_of: OneOrMore, appearance_of: OneOrMore, *, as_tensor: bool = False) -> Any:
        """People in other people's clothes: the pose and place of `structure_of`, what `appearance_of` wears.

        Both of the same length, or one against many.

        Returns:
            N PIL images; with `as_tensor` uint8 [N, H, W, 3].

        Raises:
            UserError: lengths that do not go together; a teacher, which cannot paint.

        Examples:
            >>> model.swap(structure_of="anna.jpg", appearance_of=["carl.jpg", "dora.jpg"])[1].save("anna_as_dora.png")
        """
        net = self._generator("swap")
        structures = edit.structure_codes(net, self._photos("structures", structure_of))
        appearances = edit.appearance_codes(net, self._photos("appearances", appearance_of))
        s, f = _matched("swap", structures=structures, appearances=appearances)
        painted = edit.paint(net, s, f)
        return painted if as_tensor else _images(painted)

    @overload
    def grid(
        self, structures: OneOrMore, appearances: OneOrMore, *, as_tensor: Literal[False] = ...
    ) -> list[list[Image.Image]]: ...
    @overload
    def grid(self, structures: OneOrMore, appearances: OneOrMore, *, as_tensor: Literal[True]) -> Tensor: ...
    def grid(self, structures: OneOrMore, appearances: OneOrMore, *, as_tensor: bool = False) -> Any:
        """Everyone in everyone's clothes: rows wear an appearance, columns keep a structure.

        Returns:
            A rows of S PIL images; with `as_tensor` uint8 [A, S, H, W, 3].

        Raises:
            UserError: no structures, or no appearances; a teacher, which cannot paint.
        """
        net = self._generator("paint a grid")
        cells = edit.grid(net, self._photos("structures", structures), self._photos("appearances", appearances))
        return cells if as_tensor else [_images(row) for row in cells]

    @overload
    def interpolate(
        self,
        start: OneOrMore,
        end: OneOrMore,
        of: Moving = ...,
        *,
        fixed: OneOrMore | None = ...,
        steps: int = ...,
        path: edit.Course = ...,
        as_tensor: Literal[False] = ...,
    ) -> list[list[Image.Image]]: ...
    @overload
    def interpolate(
        self,
        start: OneOrMore,
        end: OneOrMore,
        of: Moving = ...,
        *,
        fixed: OneOrMore | None = ...,
        steps: int = ...,
        path: edit.Course = ...,
        as_tensor: Literal[True],
    ) -> Tensor: ...
    def interpolate(
        self,
        start: OneOrMore,
        end: OneOrMore,
        of: Moving = "appearance",
        *,
        fixed: OneOrMore | None = None,
        steps: int = 11,
        path: edit.Course = "linear",
        as_tensor: bool = False,
    ) -> Any:
        """From one photo to another in a few steps: the code `of` moves, the other one stays that of `fixed` (`start`).

        All of the same length, or one against many. Codes are mixed along a `path`, linear or spherical (the arc
        between their directions).

        Returns:
            N strips of `steps` PIL images; with `as_tensor` uint8 [N, steps, H, W, 3].

        Raises:
            UserError: lengths that do not go together, fewer than two steps, or a teacher, which cannot paint.
        """
        net = self._generator("interpolate")
        between = {"appearance": edit.interpolate_appearance, "structure": edit.interpolate_structure}
        if of not in between:
            raise UserError(f"interpolate: of = {of!r}; 'appearance' or 'structure' would be right")
        first, last = self._photos("starts", start), self._photos("ends", end)
        still = first if fixed is None else self._photos("fixed", fixed)
        first, last, still = _matched("interpolate", starts=first, ends=last, fixed=still)
        strips = between[of](net, still, first, last, steps, path=path)
        return strips if as_tensor else [_images(strip) for strip in strips]

    def encode(self, images: OneOrMore) -> Codes:
        """Both codes of photos, where the network is: structure [N, C, H/d, W/d] and appearance [N, code].

        d is the configuration's `model.structure.downsampling`, as published 4.
        """
        net, photos = self._generator("encode"), Photos(images, *self.size).all()
        codes = edit.structure_codes(net, photos), edit.appearance_codes(net, photos)
        return Codes(*(code.clone() for code in codes))  # which, unlike what inference gives, may be changed in place

    @overload
    def decode(
        self, structure: Tensor, appearance: Tensor, *, as_tensor: Literal[False] = ...
    ) -> list[Image.Image]: ...
    @overload
    def decode(self, structure: Tensor, appearance: Tensor, *, as_tensor: Literal[True]) -> Tensor: ...
    def decode(self, structure: Tensor, appearance: Tensor, *, as_tensor: bool = False) -> Any:
        """Pictures of codes, such as `encode` gives: N PIL images, or uint8 [N, H, W, 3].

        As many of each, or one against many.

        Raises:
            UserError: codes of another shape than `encode` gives, or not finite; a teacher, which cannot paint.
        """
        net = self._generator("decode")
        s, f = (torch.as_tensor(code, dtype=torch.float32, device=self.device) for code in (structure, appearance))
        if s.ndim != 4 or f.ndim != 2 or (s.shape[1], f.shape[1]) != (net.structure.channels, net.appearance.code_size):
            raise UserError(
                f"decode: codes of shape {list(s.shape)} and {list(f.shape)}; [N, {net.structure.channels}, H/d, W/d] "
                f"and [N, {net.appearance.code_size}] would be right"
            )
        s, f = _matched("decode", structures=s, appearances=f)
        painted = edit.paint(net, s, f)
        return painted if as_tensor else _images(painted)

    def generate_folder(self, images: str | Path | Sequence[Path], out: str | Path, **options: Any) -> None:
        """For each photo one picture in the folder `out`: its clothes on a random other photo's structure.

        Args:
            images: a folder of photos, or their paths.
            out: the folder to write to, with `provenance.json`.
            options: those of `dgnet.generate.dataset.folder`: seed, suffix, on_unreadable.

        Raises:
            UserError: no such folder, photos that cannot be read, a folder that holds anything else; a teacher.
        """
        net, (height, width) = self._generator("fill a folder"), self.size
        if isinstance(images, str | Path):
            images = expanded(images)
            if not images.is_dir():
                raise UserError(f"{images}: no such folder of images")
            images = images_in(images)
        folder(net, images, Path(out), height=height, width=width, weights=weights_hash(net), **options)

    def generate_dataset(
        self, out: str | Path, data: str | Path | None = None, layout: str = "auto", **options: Any
    ) -> int:
        """A whole new training set in the folder `out`, in Market-1501 layout; returns how many pictures were painted.

        Args:
            out: a new folder, or one that the same call began.
            data: the data set to start from; by default the one that the model was trained on.
            layout: how it is laid out; `auto` looks.
            options: those of `dgnet.generate.expansion.generate_dataset`: per_identity, wear, with_real, shard,
                provenance, seed, on_unreadable.

        Raises:
            UserError: no training photos, photos that cannot be read, a folder that holds anything else; a teacher.
        """
        net, (height, width) = self._generator("make a data set"), self.size
        dataset = of_model(self.config.data, data, layout, need=["train"])
        return generate_dataset(
            net, dataset, Path(out), height=height, width=width, weights=weights_hash(net), **options
        )

    def dressed(self, photos: Split, **options: Any) -> Dressed:
        """People painted as they are, in someone else's clothes, and that someone: for clothes reliance.

        Args:
            photos: of a data set, such as `read_dataset(folder).query`.
            options: those of `dgnet.generate.clothes.dressed`: most, seed.

        Raises:
            UserError: photos of fewer than two people; a teacher, which cannot paint.
        """
        return dressed(self._generator("paint people in others' clothes"), photos, *self.size, **options)

    # Keep

    def add_structures(self, images: OneOrMore, count: int = 8) -> None:
        """Keep `count` typical structures of these photos, by which `embed` can centralise; `save` writes them, too.

        A training keeps those of its own photos; imported and old models have none.

        Raises:
            UserError: fewer photos than `count`; a teacher.
        """
        net = self._generator("paint typical structures")
        net.typical = typical_structures(net, Photos(images, *self.size), count)

    def save(self, path: str | Path, *, half: bool = False, results: Sequence[Results] = (), licence: str = "") -> Path:
        """Write the weights, with all that `load` needs and the threshold, to a `.safetensors` file; all or nothing.

        With `half`, in half precision: half as large, and features and pictures differ by roundings.
        A model card is written beside it (`anna.safetensors.md`); `results` and `licence` as in `card`.

        Raises:
            UserError: another ending, or a place that cannot be written.
        """
        path = expanded(path)
        if path.suffix != ".safetensors":
            raise UserError(f"{path}: weights are written as .safetensors")
        kept, rounded = self._own_threshold(), half and not _are_half(self.net)
        if self._threshold is not None and (rounded or kept is None):
            which = "these before they were rounded" if rounded else "other weights"
            console.warn(f"{path}: written without a threshold, which was calibrated with {which}")
            kept = None
        threshold = None if kept is None else kept.to_dict()
        save_model(
            path, self.net, self.config, "joint" if self.generates else "teacher", self.identities, threshold, half=half
        )
        told = self.card(results, licence)
        if rounded:  # what was found for the weights before they were rounded is not theirs
            told = replace(told, results=tuple(results), threshold=None, fingerprint="")
        cards.write(told, path)
        return path

    def card(self, results: Sequence[Results] = (), licence: str = "") -> cards.Card:
        """What the model is, of what data it was made, how good it is and what it is for; `text()` is Markdown.

        Args:
            results: evaluations to tell; without any, that of these weights in `evaluation.json` beside their file.
            licence: of the weights, by its name on the hub, such as `cc-by-nc-4.0`.
        """
        found = tuple(results) or cards.evaluated_beside(self.file, self.loaded.hash)
        return cards.Card(
            self._label, self.config, self.generates, self.dimensions, len(self.identities), self.fingerprint,
            found, self._own_threshold(), licence, drawn=self.name in SHIPPED,
        )  # fmt: skip

    def export(self, out: str | Path | None = None, *, licence: str = "", **options: Any) -> Report:
        """Write a part of the model as ONNX or as a program of `torch.export`, once it is seen to compute the same.

        Args:
            out: the file (`.onnx`, `.pt2`); by default named after the model, in the current folder.
            licence: of the weights, for the model card that is written beside the file.
            options: those of `dgnet.export.export.Options`: to, part, tracker, normalise, size, flip, half, int8,
                calibrate, check.

        Returns:
            What was written, how far it is from the model at batch 1, 7 and 32, and the figures of both.

        Raises:
            UserError: options that do not go together, no photos to compare on, a file that computes something else.

        Examples:
            >>> report = model.export("anna.onnx", check=["people"])
            >>> report.parity[0].cosine > 0.9999
            True
        """
        made = export(
            self.net, self.config, expanded(out) if out is not None else None, Options(**options), stem=self._label,
            fingerprint=self.fingerprint, weights=self.loaded.hash,
        )  # fmt: skip
        own = self.card(licence=licence)
        told = cards.with_export(own, made.path.name, made.to_markdown(), [made.file] if made.file else [])
        return replace(made, card=cards.write(told, made.path))

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool = True,
        token: str | None = None,
        message: str = "Model of dgnet",
        results: Sequence[Results] = (),
        licence: str = "",
    ) -> str:
        """Put the model and its card into a repository of the Hugging Face Hub; returns its address.

        `dgnet.load("hub:user/name")` loads it from there. Weights that were trained on people are not for everybody:
        a new repository is private, unless asked otherwise. What the card tells is that of `card`.

        Raises:
            UserError: a name that is none, no huggingface_hub, or the hub's refusal.
        """
        from dgnet.export.hub import push

        with tempfile.TemporaryDirectory() as folder:
            weights = self.save(Path(folder, FINISHED[0]), results=results, licence=licence)
            told = replace(self.card(results, licence), name=repo.rpartition("/")[2])
            readme = Path(folder, "README.md")
            readme.write_text(told.text(), encoding="utf-8")
            files = {FINISHED[0]: weights, readme.name: readme}
            return push(repo, files, private=private, token=token, message=message)

    @property
    def _label(self) -> str:
        """What it is called where no path is wanted: its run's folder, its file or its name on the hub."""
        place = Path(self.name).resolve()
        return (place.parent if place.name in FINISHED else place).name.removesuffix(".safetensors")

    def _own_threshold(self) -> Threshold | None:
        """The threshold, unless it was calibrated with other weights than the network has now."""
        kept = self._threshold
        return kept if kept is not None and kept.model == self.fingerprint else None

    def _tested(self, folder: str | Path | None, layout: str, holdout: float | None) -> Dataset:
        """The data set of a test, with a warning where the model knows people of it."""
        dataset = of_model(self.config.data, folder, layout, holdout, need=["query", "gallery"])
        protocol.warn_of_acquaintances(dataset, self.config, self.identities)
        return dataset

    def _generator(self, what: str) -> DGNet:
        if not isinstance(self.net, DGNet):
            raise UserError(
                f"{self.name}: holds a teacher, which embeds and is evaluated; to {what}, a DG-Net is needed (the "
                f"{FINISHED[0]} of a joint training)"
            )
        return self.net

    def _photos(self, what: str, images: OneOrMore) -> Tensor:
        photos = Photos(images, *self.size)
        if not len(photos):
            raise UserError(f"{what}: no photos are given")
        return photos.all()


def _are_half(net: torch.nn.Module) -> bool:
    """Whether half precision holds these weights exactly."""
    numbers = (tensor for tensor in net.state_dict().values() if tensor.is_floating_point())
    return all(torch.equal(tensor.half().to(tensor.dtype), tensor) for tensor in numbers)


def _matched(what: str, **given: Tensor) -> tuple[Tensor, ...]:
    """All of the same length, single ones repeated. Raises UserError, with the names, for lengths that do not match."""
    count = max((len(each) for each in given.values() if len(each) != 1), default=1)
    if any(len(each) not in (1, count) for each in given.values()):
        counted = " and ".join(f"{len(each)} {name}" for name, each in given.items())
        raise UserError(f"{what}: {counted}; as many of each, or one, are needed")
    return tuple(each.expand(count, *each.shape[1:]) for each in given.values())


def _images(pictures: Tensor) -> list[Image.Image]:
    return [Image.fromarray(picture) for picture in np.asarray(pictures)]
