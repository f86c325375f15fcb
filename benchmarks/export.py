"""Images per second of the embedding: PyTorch, compiled PyTorch, ONNX Runtime and OpenVINO, side by side.

    python benchmarks/export.py                       # resnet50 at 256 x 128, random weights
    python benchmarks/export.py --model runs/joint --batches 1 32

All embed the same photos (the mirror image included) on the CPU with the same number of threads, and take turns within
one run; of each the quickest turn counts, the one least disturbed by others on the machine. Before that, their features
are compared. What is not installed, or cannot be compiled here, is named with its reason and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hardware import about

import dgnet
from dgnet import config as configuration
from dgnet.drawn.dataset import synthesize
from dgnet.export.parts import Wanted, module_of
from dgnet.images.inputs import Photos
from dgnet.images.transforms import normalise
from dgnet.models.dgnet import DGNet
from dgnet.weights.files import save_model

Embed = Callable[[torch.Tensor], torch.Tensor]


def extractors(model: dgnet.Model, folder: Path, photos: list[Path], threads: int) -> tuple[dict[str, Embed], dict]:
    """By name; and by name why one cannot be."""
    alpha = model.config.evaluate.alphas[0]
    module = module_of(model.net, alpha, model.size, Wanted("embedding", *model.size))
    made: dict[str, Embed] = {"PyTorch": module}
    missing: dict[str, str] = {}
    exported = model.export(folder / "model.onnx", check=photos).path
    int8 = model.export(folder / "int8.onnx", int8=True, calibrate=photos, check=photos).path

    def compiled() -> Embed:
        quick = torch.compile(module, dynamic=True)
        quick(torch.zeros(2, 3, *model.size))
        return quick

    def onnxruntime(path: Path) -> Embed:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options)
        return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])

    def openvino(path: Path) -> Embed:
        import openvino

        hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        program = openvino.Core().compile_model(str(path), "CPU", hints)
        return lambda x: torch.from_numpy(program([x.numpy()])[0])

    wanted = {
        "PyTorch, compiled": compiled,
        "ONNX Runtime": lambda: onnxruntime(exported),
        "ONNX Runtime, int8": lambda: onnxruntime(int8),
        "OpenVINO": lambda: openvino(exported),
        "OpenVINO, int8": lambda: openvino(int8),
    }
    for name, make in wanted.items():
        try:
            made[name] = make()
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return made, missing


def seconds(embed: Embed, x: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        embed(x)
    return time.perf_counter() - start


def random_model(folder: Path, preset: str) -> dgnet.Model:
    chosen = configuration.load(preset)
    torch.manual_seed(0)
    save_model(folder / "model.safetensors", DGNet(chosen, 10).eval(), chosen, "joint", [])
    return dgnet.load(folder / "model.safetensors", device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a trained model; by default one with random weights, which is as fast")
    parser.add_argument("--preset", default="market1501", help="of the model with random weights")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "export.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = dgnet.load(options.model, "cpu") if options.model else random_model(folder, options.preset)
        height, width = model.size
        synthesize(folder / "people", identities=4, test_identities=2, height=height, width=width)
        photos = sorted((folder / "people" / "bounding_box_train").glob("*.jpg"))[:32]
        made, missing = extractors(model, folder, photos, options.threads)
        x = normalise(Photos(photos, height, width).all()).contiguous()
        x = x[np.resize(np.arange(len(x)), max(options.batches))].contiguous()
        with torch.inference_mode():
            first = made["PyTorch"](x)
            cosines = {name: float((embed(x) * first).sum(1).min()) for name, embed in made.items()}
        rates: dict[str, dict[str, float]] = {name: {} for name in made}
        for batch in options.batches:
            best = dict.fromkeys(made, float("inf"))
            for _ in range(options.turns):
                for name, embed in made.items():
                    best[name] = min(best[name], seconds(embed, x[:batch]))
            for name, took in best.items():
                rates[name][str(batch)] = batch / took
    for name, by_batch in rates.items():
        told = ", ".join(
            f"batch {batch}: {rate:.1f}/s ({rate / rates['PyTorch'][batch]:.2f} x)" for batch, rate in by_batch.items()
        )
        print(f"{name:20} {told}; smallest cosine {cosines[name]:.5f}")
    for name, reason in missing.items():
        print(f"{name:20} left out: {reason}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "model": options.model or f"{options.preset}, random weights", "size": [height, width],
        "threads": options.threads, **about("cpu"), "images per second": rates, "smallest cosine": cosines,
        "left out": missing,
    }  # fmt: skip
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
