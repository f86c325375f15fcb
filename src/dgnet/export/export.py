"""From a model to a file for other programs, written only once it has been held against the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dgnet import __version__, console
from dgnet.config import Config
from dgnet.datasets.folders import images_among
from dgnet.errors import UserError
from dgnet.evaluate.protocol import evaluate_network, has_halves
from dgnet.evaluate.results import Results
from dgnet.export import check as checking
from dgnet.export.check import Material, Parity
from dgnet.export.graph import traced, write_onnx, write_torch
from dgnet.export.parts import INPUTS, OUTPUT, PARTS, Part, Wanted, module_of
from dgnet.export.quantise import quantise
from dgnet.export.session import ENTRY, About, Exported, as_fed
from dgnet.export.trackers import CONTRACTS, Tracker, default_name, properties, require_boxmot_name
from dgnet.files import expanded, replacing
from dgnet.images.store import ImageStore
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline

Format = Literal["onnx", "torch"]
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
CALIBRATED_ON = 200  # images at most: more change the ranges little


@dataclass(frozen=True)
class Options:
    """What is asked of an export; the fields are the options of `dgnet export`."""

    to: Format = "onnx"
    part: Part = "embedding"
    tracker: Tracker | None = None
    normalise: bool = False
    size: tuple[int, int] | None = None
    flip: bool = True
    half: bool = False
    int8: bool = False
    calibrate: tuple[str | Path, ...] = ()
    check: tuple[str | Path, ...] = ()

    @property
    def precision(self) -> str:
        return "int8" if self.int8 else "float16" if self.half else "float32"


@dataclass(frozen=True)
class Report:
    """What was written, and how it compares with the model."""

    path: Path
    about: About
    parity: list[Parity]
    checked_on: str
    original: Results | None = None
    """The model's own figures, where the data checked on have query and gallery, and those of the file."""
    file: Results | None = None
    card: Path | None = None
    """The model card beside it."""

    def show(self) -> None:
        """Print it as tables."""
        console.stdout.print(f"{self.path.name} and the model, on {self.checked_on}")
        for title, head, rows in self._tables():
            console.stdout.print(console.table(title, head, rows))

    def _tables(self) -> list[tuple[str, Sequence[str], list[list[str]]]]:
        """Title, head and rows of what was compared."""
        tables: list[tuple[str, Sequence[str], list[list[str]]]]
        tables = [("Against PyTorch in float32", checking.PARITY_HEAD, checking.parity_rows(self.parity))]
        if self.original is not None and self.file is not None:
            title = f"Recognition on {self.original.name.partition(',')[0]}, in per cent"
            tables.append((title, checking.FIGURES_HEAD, checking.figures_rows(self.original, self.file)))
        return tables

    def to_markdown(self) -> str:
        """How the file is fed and what it was checked with, for its model card."""
        about = self.about
        scale = "RGB in [0, 1]" if about.normalise else "RGB, normalised with ImageNet's mean and deviation"
        pictures = f"[N, 3, {about.height}, {about.width}], {scale}"
        fed = [f"`{name}` {pictures}" if name == "images" else f"the code `{name}`" for name in about.inputs]
        gives = f"`{about.output}`" + (f" {pictures}" if about.output == "images" else "")
        lines = [
            f"The part `{about.part}` ({PARTS[about.part]}) in {about.precision}"  # type: ignore[index]
            + (f", for {about.tracker}" if about.tracker else "") + ".",
            f"In: {', '.join(fed)}. Out: {gives}. Everything is float32, N is free."
            + (" The mirror image is seen, too." if about.flip else ""),
        ]  # fmt: skip
        if about.calibration:
            lines.append(f"The ranges of its 8 bits are those of {len(about.calibration)} images: "
                         + ", ".join(f"`{name}`" for name in about.calibration) + ".")  # fmt: skip
        lines += [f"{title}:\n\n{_markdown(head, rows)}" for title, head, rows in self._tables()]
        return "## The file\n\n" + "\n\n".join(lines) + "\n\n"


def export(
    net: DGNet | Baseline,
    config: Config,
    out: Path | None,
    options: Options,
    *,
    stem: str,
    fingerprint: str,
    weights: str,
) -> Report:
    """Write a part of the network to a file, after comparing it with the network; nothing stays where they differ.

    Args:
        net, config: the network, on any device, and its configuration.
        out: the file; None: the stem with the format's ending, in the current folder.
        options: what is asked.
        stem: of a file that nobody named.
        fingerprint, weights: of the model and of its file, which the file then says.

    Raises:
        UserError: options that do not go together, no photos to compare on, a file that does not compute what the
            network computes.
    """
    _require_sense(options)
    path = expanded(out) if out else Path(default_name(stem, options.tracker) + SUFFIX[options.to])
    if path.suffix != SUFFIX[options.to]:
        raise UserError(f"{path}: --to {options.to} writes {SUFFIX[options.to]} files")
    if options.tracker == "boxmot":
        require_boxmot_name(path)
    material = checking.material(options.check, config)
    size, alpha = (config.data.height, config.data.width), config.evaluate.alphas[0] if has_halves(net) else None
    wanted = _wanted(options, size)
    calibration = _calibration(options)
    about = About(
        part=wanted.part, inputs=list(INPUTS[wanted.part]), output=OUTPUT[wanted.part], height=wanted.height,
        width=wanted.width, normalise=wanted.normalise, flip=wanted.flip and wanted.part == "embedding",
        precision=options.precision, tracker=options.tracker or "", model=fingerprint, weights=weights,
        version=__version__, calibration=[path.name for path in calibration],
    )  # fmt: skip

    def fed(paths: Sequence[Path], count: int | None = None) -> list[Tensor]:
        """What the part is given, of photos: all of them, or 32."""
        if count is None:
            photos = checking.photos_at(paths, wanted.height, wanted.width)
        else:
            store = ImageStore(paths, wanted.height, wanted.width)
            photos = store[torch.arange(min(count, len(store)))]
        return _inputs(net, alpha, size, wanted, photos)

    plain = module_of(net, alpha, size, replace(wanted, half=False))
    written = module_of(net, alpha, size, wanted) if wanted.half else plain
    inputs = fed(material.photos)
    program = traced(written, [rows[:3] for rows in inputs])
    metadata = {ENTRY: json.dumps(asdict(about))} | properties(options.tracker, wanted.height, wanted.width)
    with replacing(path) as part:
        if options.to == "torch":
            write_torch(program, part, asdict(about))
        else:
            write_onnx(program, part, about.inputs, about.output, metadata)
        if options.int8:
            quantise(part, about.inputs, fed(calibration, CALIBRATED_ON), metadata)
        exported = Exported(part)
        found = checking.parity(exported, plain, inputs)
        if options.precision == "float32":
            checking.require_equal(found)
        exported.path = path
        original, file = _figures(net, config, exported, material)
    return Report(path, about, found, material.named, original, file)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words on the left and figures on the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _require_sense(options: Options) -> None:
    """Raises UserError where options do not go together."""
    if options.part not in PARTS:
        raise UserError(f"--part {options.part}: one of {', '.join(PARTS)} would be right")
    if options.to not in SUFFIX:
        raise UserError(f"--to {options.to}: onnx or torch would be right")
    if options.tracker and options.tracker not in CONTRACTS:
        raise UserError(f"--for {options.tracker}: one of {', '.join(CONTRACTS)} would be right")
    if options.tracker and (options.to != "onnx" or options.part != "embedding"):
        raise UserError(f"--for {options.tracker}: a tracker takes the embedding, --to onnx")
    if options.tracker and (options.size or options.normalise):
        raise UserError(f"--for {options.tracker}: decides --size and --normalise itself; leave them out")
    if options.half and options.int8:
        raise UserError("--half and --int8: choose one of them")
    if options.int8 and options.to != "onnx":
        raise UserError("--int8: needs --to onnx; programs of torch.export are written as float32, or with --half")
    if options.int8 != bool(options.calibrate):
        raise UserError("--int8 and --calibrate FOLDER go together: photos such as the file will see show its ranges")
    if options.size and (min(options.size) < 1 or options.part == "generator"):
        raise UserError(f"--size {options.size[0]} {options.size[1]}: rows and columns of the pictures that go in")


def _wanted(options: Options, size: tuple[int, int]) -> Wanted:
    """The part, and how it is fed: as its tracker does, as asked, or as the network itself."""
    height, width = options.size or size
    normalise = options.normalise
    if options.tracker:
        contract = CONTRACTS[options.tracker]
        height, width, normalise = contract.height or height, contract.width or width, contract.normalise
        if options.tracker == "ultralytics":  # which takes a square of any side
            height = width = max(height, size[0])
    return Wanted(options.part, height, width, normalise, options.flip, options.half)


def _calibration(options: Options) -> list[Path]:
    """The images whose ranges int8 takes: spread over those that were given."""
    if not options.int8:
        return []
    paths = images_among(options.calibrate)
    step = -(-len(paths) // CALIBRATED_ON)
    return paths[::step]


def _inputs(
    net: DGNet | Baseline, alpha: float | None, size: tuple[int, int], wanted: Wanted, photos: Tensor
) -> list[Tensor]:
    """What a part is given, of photos: the pictures, or for the generator their own codes."""
    images = as_fed(photos, wanted.normalise)
    if wanted.part != "generator":
        return [images]
    with torch.inference_mode():
        codes = []
        for part in ("structure", "appearance"):
            encoder = module_of(net, alpha, size, replace(wanted, part=part, half=False))
            codes.append(torch.cat([encoder(rows) for rows in torch.split(images, 8)]).clone())
    return codes


def _figures(
    net: DGNet | Baseline, config: Config, exported: Exported, material: Material
) -> tuple[Results | None, Results | None]:
    """The model's figures and the file's, where there is something to search in and an embedding to search by."""
    if material.dataset is None or exported.about.part != "embedding":
        return None, None
    device = next(net.parameters()).device
    options: dict[str, Any] = {"alphas": config.evaluate.alphas[:1]} if has_halves(net) else {}
    original = evaluate_network(net, config, material.dataset, device, **options)[0]
    return original, checking.figures(exported, config, material.dataset)
