"""A model card: what a model is, of what data it was made, how good it is, what it is for and what it is not for.

Markdown with the header that the Hugging Face Hub reads; beside `anna.safetensors` it is `anna.safetensors.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dgnet import __version__, console
from dgnet.config import Config
from dgnet.datasets.layouts import LAYOUTS
from dgnet.drawn.dataset import FACTORS
from dgnet.errors import UserError
from dgnet.evaluate.results import Results, label, load_all, percent, plain
from dgnet.files import expanded, replacing
from dgnet.retrieval.decision import Threshold

LIBRARY = "dgnet"
OWN = ("folders", "pattern", "table", "auto")  # layouts that say nothing of whose data they are
UNKNOWN = "unknown"
DRAWN = "drawn by dgnet: it shows nobody, and nobody's terms are to be kept."

INTENDED = """\
To find photos of the same person among photos of whole people, in research and teaching, with the consent of those who
are seen or another legal ground. A likeness is a hint for a person to look at, never a proof of who somebody is.
"""
LIMITS = """\
* Clothes, not faces: people in alike clothes are alike to it, and a person in other clothes is another one.
* It was never tested on other cameras, countries, seasons and people than those above; expect it to be worse there, and
  not equally so for all people.
* Not for identifying or following people without their knowledge, for decisions about a person, or where the law
  forbids it.
* Crops of one whole person are expected; what is cut off, covered or small lowers the figures.
"""

USE = """\
```python
import dgnet

model = dgnet.load("...")  # the file beside this card, or hub:user/name
features = model.embed(["anna.jpg", "carl.jpg"])  # rows of length 1: their dot product is their likeness
```
"""
EXPORTED_USE = """\
ONNX Runtime, OpenVINO or PyTorch run the file without dgnet. With it, photos are made ready as the file expects them:

```python
from dgnet.export.session import Exported

exported = Exported("...")  # the file beside this card
features = exported.embed_photos(["anna.jpg", "carl.jpg"])  # of a file with the part `embedding`
```
"""


@dataclass(frozen=True)
class Card:
    """What a card tells; `text` writes it."""

    name: str
    config: Config
    generates: bool
    dimensions: int
    people: int
    """Trained on; 0 where unknown."""
    fingerprint: str
    """Of the model; empty where unknown."""
    results: tuple[Results, ...] = ()
    threshold: Threshold | None = None
    licence: str = ""
    """Of the weights, by its name on the hub; empty where nobody has said."""
    drawn: bool = False
    """Whether it is known to be of drawn people, without their folder."""
    extra: str = ""
    """Markdown of an export: how the file is fed, and what it was checked with."""

    def text(self) -> str:
        """The card as Markdown, with the hub's header in YAML."""
        sections = {
            "Data": self._data(),
            "Figures": self._figures(),
            "Threshold": self._threshold(),
            "Intended use": INTENDED,
            "Limits": LIMITS,
            "Use": self._use(),
        }
        head = yaml.safe_dump(self._header(), sort_keys=False, allow_unicode=True, width=1000)
        body = "\n".join(f"## {title}\n\n{text.strip()}\n" for title, text in sections.items() if text)
        return f"---\n{head}---\n\n# {self.name}\n\n{self._what()}\n\n{self.extra}{body}"

    def _header(self) -> dict[str, Any]:
        licence = {"license": self.licence} if self.licence else {"license": "other", "license_name": UNKNOWN}
        header: dict[str, Any] = {
            "library_name": LIBRARY,
            "pipeline_tag": "image-feature-extraction",
            "tags": ["person-re-identification", "re-id", *(["dg-net", "image-generation"] if self.generates else [])],
            **licence,
        }
        if self.results:
            header["model-index"] = [
                {
                    "name": self.name,
                    "results": [
                        {
                            "task": {"type": "image-feature-extraction", "name": "Person re-identification"},
                            "dataset": {"name": _set_of(result), "type": _set_of(result)},
                            "metrics": [
                                {"type": key, "name": label(key), "value": round(100 * value, 2)}
                                for key, value in result.figures().items()
                            ],
                        }
                        for result in self.results
                    ],
                }
            ]
        return header

    def _what(self) -> str:
        data, model = self.config.data, self.config.model
        backbone = model.appearance.backbone if self.generates else self.config.teacher.backbone
        kind = (
            "A DG-Net (Zheng et al., CVPR 2019): a person re-identification network, and a generator that paints "
            "people in other people's clothes"
            if self.generates
            else "A person re-identification network, trained on identities alone (a teacher of DG-Net)"
        )
        return (
            f"{kind}. Backbone {backbone}, images of {data.height} x {data.width}, features of {self.dimensions} "
            f"dimensions. Made with dgnet {__version__}."
            + (f" Fingerprint `{self.fingerprint[:16]}`." if self.fingerprint else "")
        )

    def _data(self) -> str:
        data = self.config.data
        if self.drawn and not data.root:
            return f"Trained on {self.people} people.\n\nLicence of the data: {DRAWN}"
        if not data.root:
            return "Unknown: the file does not say what it was trained on. Its licence is unknown, too."
        names = [Path(data.root).name, *(Path(entry.partition("=")[2] or entry).name for entry in data.join)]
        lines = [f"Trained on {' and '.join(f'`{name}`' for name in names)}, layout `{data.layout}`"]
        lines[0] += f", {self.people} people." if self.people else "."
        if data.holdout:
            lines.append(f"{100 * data.holdout:g} % of its people were held out of the training.")
        return " ".join(lines) + f"\n\nLicence of the data: {_terms(data.root, data.layout)}"

    def _figures(self) -> str:
        if not self.results:
            return "Unknown: no evaluation stands beside the file (`dgnet evaluate ... --json` writes one)."
        made = []
        for result in self.results:
            options = {"divisor": f"{result.divisor} queries"} | result.protocol
            told = ", ".join(f"{key} {plain(value)}" for key, value in options.items() if value)
            rows = [
                f"| {label(key)} | {percent(value)} | {_interval(result.intervals.get(key))} |"
                for key, value in result.figures().items()
            ]
            made.append(
                f"On `{_set_of(result)}`: {result.queries} queries, {result.gallery} gallery images. "
                f"Protocol: {told}.\n\n"
                "| | % | 95 % interval |\n| --- | ---: | ---: |\n" + "\n".join(rows)
            )
        return "\n\n".join(made)

    def _threshold(self) -> str:
        t = self.threshold
        if t is None:
            return "None: the model ranks, and does not decide. `dgnet calibrate` finds one on data of yours."
        return (
            f"{t.value:.4f}, 95 % interval [{t.low:.4f}, {t.high:.4f}]: a likeness from {t.high:.4f} on is taken for "
            f"the same person, one below {t.low:.4f} for another. Calibrated on `{Path(t.data).name}` "
            f"({t.genuine_pairs} pairs of one person, {t.impostor_pairs} of two) for a false-accept rate of {t.far:g}; "
            f"it then accepts {100 * t.tar:.1f} % of the pairs of one person."
        )

    def _use(self) -> str:
        return EXPORTED_USE if self.extra else USE


def card_of(path: Path) -> Path:
    """Where the card of a file lies: beside it, under its name."""
    return path.with_name(f"{path.name}.md")


def write(card: Card, beside: Path) -> Path:
    """Write the card of the file `beside`; a text of that name that is no card of dgnet's is left alone, and told."""
    path = card_of(beside)
    if path.exists() and f"library_name: {LIBRARY}" not in path.read_text(encoding="utf-8", errors="replace")[:300]:
        console.warn(f"{path}: is no model card of dgnet, so it stays, and {beside.name} has none")
        return path
    try:
        with replacing(path) as part:
            part.write_text(card.text(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); free some space or choose another folder") from error
    return path


def evaluated_beside(weights: Path, digest: str) -> tuple[Results, ...]:
    """The evaluation of these very weights that lies in their folder as `evaluation.json`; without one, nothing.

    Only its first row, which is that of `Model.embed`.
    """
    file = expanded(weights).parent / "evaluation.json"
    try:
        found = load_all(file)[:1] if file.is_file() else []
    except UserError as error:
        console.warn(f"{error}: the model card has no figures of it")
        return ()
    return tuple(result for result in found if result.provenance.get("weights") == digest)


def with_export(card: Card, name: str, extra: str, results: Sequence[Results]) -> Card:
    """The card of an exported file: the model's, with how the file is fed, and its own figures."""
    return replace(card, name=name, extra=extra, results=tuple(results) or card.results)


def _terms(root: str, layout: str) -> str:
    """What is known of the terms under which a data set is given out."""
    if (expanded(root) / FACTORS).is_file():
        return DRAWN
    known = layout.partition(":")[0]
    if known in LAYOUTS and known not in OWN:
        return (
            f"{LAYOUTS[known].title} is given out for research by its authors, under their own terms, which weights "
            "may be bound by, too; read them before you pass the weights on. "
            "Photos of your own that are laid out alike are yours."
        )
    return f"{UNKNOWN} to dgnet. Say it here before you pass the weights on."


def _set_of(result: Results) -> str:
    return Path(str(result.provenance.get("data", "")) or result.name).name or result.name


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{percent(interval[0])} to {percent(interval[1])}" if interval else UNKNOWN
