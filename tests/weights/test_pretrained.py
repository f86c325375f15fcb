"""The weights that a network starts from: whatever they are called, wherever they come from, and what is refused."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dgnet import config as configuration
from dgnet.errors import UserError
from dgnet.models.backbones.resnet import ResNet
from dgnet.models.dgnet import DGNet
from dgnet.models.perceptual import Perceptual
from dgnet.models.teacher import build_baseline
from dgnet.weights import files, pretrained

TINY = configuration.load("tiny")


def small_resnet(name: str = "resnet18", seed: int = 0) -> ResNet:
    torch.manual_seed(seed)
    return ResNet(name, width=8)


def like_torchvision(net: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}{key}": tensor for key, tensor in {**net.state_dict(), "fc.weight": torch.zeros(10, 64)}.items()}


def same(net: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in net.state_dict().items())


def test_scratch_changes_nothing() -> None:
    net = small_resnet()
    pretrained.pretrained(net, "scratch")
    assert same(net, small_resnet())


@pytest.mark.parametrize(
    ("name", "prefix", "nest"),
    [
        ("a.pth", "", None),
        ("b.pt", "module.", None),
        ("c.pth", "module.backbone.", "state_dict"),
        ("d.safetensors", "model.", None),
        ("e.safetensors", "appearance.backbone.", None),
    ],
)
def test_a_backbone_from_a_local_file(tmp_path: Path, name: str, prefix: str, nest: str | None) -> None:
    wanted, path = small_resnet(seed=1), tmp_path / name
    tensors = like_torchvision(wanted, prefix)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({nest: tensors, "epoch": 3} if nest else tensors, path)
    net = small_resnet()
    pretrained.pretrained(net, str(path))
    assert same(net, wanted)


def test_a_backbone_from_our_own_files(tmp_path: Path) -> None:
    teacher, joint = build_baseline(TINY, 3), DGNet(TINY, 5)
    files.save_model(tmp_path / "teacher.safetensors", teacher, TINY, "teacher", [])
    files.save_model(tmp_path / "model.safetensors", joint, TINY, "joint", [])
    for file, wanted in (("teacher.safetensors", teacher.backbone), ("model.safetensors", joint.appearance.backbone)):
        net = small_resnet(seed=4)
        pretrained.pretrained(net, str(tmp_path / file))
        assert same(net, wanted)


def test_old_files_without_batch_counters_are_good_enough(tmp_path: Path) -> None:
    wanted = small_resnet("resnet18_ibn_a", seed=1)
    tensors = {key: t for key, t in like_torchvision(wanted).items() if not key.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    net = small_resnet("resnet18_ibn_a")
    pretrained.pretrained(net, str(tmp_path / "old.pth"))
    assert same(net, wanted)


PREFIXES = ["base.", "net.", "module.encoder_q.", "backbone.body.", "module._orig_mod.", "img_backbone.", "0."]
NESTS = ["model_state_dict", "net", "weights", "student", "state_dict", "checkpoint.model_state"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("nest", ["", *NESTS])
def test_whatever_stands_before_the_names_is_stripped(tmp_path: Path, prefix: str, nest: str) -> None:
    wanted = small_resnet(seed=1)
    tree: dict[str, Any] = like_torchvision(wanted, prefix)
    for key in reversed(nest.split(".") if nest else []):
        tree = {key: tree, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    torch.save(tree, tmp_path / "theirs.pth")
    net = small_resnet()
    pretrained.pretrained(net, str(tmp_path / "theirs.pth"))
    assert same(net, wanted)


def test_a_format_is_known_by_the_content_not_by_the_ending(tmp_path: Path) -> None:
    wanted = small_resnet(seed=1)
    torch.save(like_torchvision(wanted), tmp_path / "zip.safetensors")
    torch.save(like_torchvision(wanted), tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    save_file(like_torchvision(wanted), tmp_path / "safetensors.pth")
    for path in sorted(tmp_path.iterdir()):
        net = small_resnet()
        pretrained.pretrained(net, str(path))
        assert same(net, wanted)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(tmp_path: Path, precision: torch.dtype) -> None:
    wanted = small_resnet(seed=1)
    for parameter in wanted.parameters():
        parameter.data = parameter.data.to(precision).float()
    torch.save(
        {key: t.to(precision) for key, t in wanted.named_parameters()} | dict(wanted.named_buffers()),
        tmp_path / "w.pth",
    )
    net = small_resnet()
    pretrained.pretrained(net, str(tmp_path / "w.pth"))
    assert same(net, wanted)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_two_networks_in_one_file_are_an_error_unless_they_are_equal(tmp_path: Path) -> None:
    one, other = small_resnet(seed=1).state_dict(), small_resnet(seed=2).state_dict()
    net = small_resnet()
    torch.save({"student": one, "teacher": other}, tmp_path / "two.pth")
    with pytest.raises(
        UserError, match=r"two.pth: holds 2 networks that differ, below student\., teacher\.: .*of its own$"
    ):
        pretrained.pretrained(net, str(tmp_path / "two.pth"))
    assert same(net, small_resnet())
    torch.save({"encoder": one, "model.encoder": one}, tmp_path / "aliased.pth")
    pretrained.pretrained(net, str(tmp_path / "aliased.pth"))
    assert same(net, small_resnet(seed=1))
    torch.save({"model": other, "ema": one}, tmp_path / "usual.pth")
    pretrained.pretrained(net, str(tmp_path / "usual.pth"))
    assert same(net, small_resnet(seed=2))


def spoilt(change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {key: change(t) if t.is_floating_point() else t for key, t in small_resnet().state_dict().items()}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (lambda: {"patch.weight": torch.zeros(2), "head\n.b": torch.zeros(1)},
         r"holds no ResNet \(no layer1\.0\.conv1\.weight\); its tensors are patch.weight, head\\n.b; give a local"),
        (lambda: {f"{n}.w": torch.zeros(1) for n in range(30)}, "its tensors are 0.w, .*, 7.w and 22 more; give"),
        (lambda: small_resnet().state_dict() | {"bn1.bias": torch.tensor(1.0)}, r"bn1.bias is \[\], not \[8\]"),
        (lambda: spoilt(lambda t: t.to(torch.int8)), "conv1.weight is of int8, not of floating point"),
        (lambda: spoilt(lambda t: t.to(torch.complex64)), "conv1.weight is of complex64, not of floating point"),
        (lambda: spoilt(lambda t: t.to_sparse()), "conv1.weight is sparse"),
        (lambda: spoilt(lambda t: t.to("meta")), "conv1.weight is .*without values"),
        (lambda: spoilt(lambda t: t / 0), "NaN or infinity in conv1.weight, .* and 92 more; train again"),
        (lambda: {"epoch": 3, "note": "x"}, "holds no named tensors, but epoch, note$"),
        (lambda: [torch.zeros(2)], "holds no named tensors, but list$"),
    ],
)  # fmt: skip
def test_what_is_no_such_network_is_told_with_what_was_found(
    tmp_path: Path, tensors: Callable[[], Any], says: str
) -> None:
    torch.save(tensors(), tmp_path / "it.pth")
    net = small_resnet()
    with pytest.raises(UserError, match=f"^{tmp_path / 'it.pth'}: .*{says}"):
        pretrained.pretrained(net, str(tmp_path / "it.pth"))
    assert same(net, small_resnet())


def test_a_folder_is_told_with_the_files_in_it(tmp_path: Path) -> None:
    for name in ("model.safetensors", "gen.pt", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"': a folder; give the file in it \(gen.pt, model.safetensors\)$"):
        pretrained.pretrained(small_resnet(), str(tmp_path))


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    save_file(small_resnet("resnet34").state_dict(), tmp_path / "r34.safetensors")
    save_file({"encoder.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    net = small_resnet()
    with pytest.raises(
        UserError, match=r"r34.safetensors: not weights of this ResNet: \d+ tensors do not fit: layer1\.2"
    ):
        pretrained.pretrained(net, str(tmp_path / "r34.safetensors"))
    with pytest.raises(UserError, match=r"other.safetensors: holds no ResNet"):
        pretrained.pretrained(net, str(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match=r"'imagnet': no such file; give a local file, .*weights=scratch"):
        pretrained.pretrained(net, "imagnet")
    assert same(net, small_resnet())


@pytest.mark.parametrize("name", [f"resnet{n}{ibn}" for n in (18, 34, 50, 101) for ibn in ("", "_ibn_a")])
def test_imagenet_weights_are_those_of_the_very_backbone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(pretrained, "_fill", lambda net, source, *_: asked.append(source))
    with torch.device("meta"):
        standard, narrow = ResNet(name), ResNet(name, width=32)
    pretrained.pretrained(standard, "imagenet")
    (url,) = asked
    assert url.startswith("https://")
    assert f"/{name}-" in url
    with pytest.raises(UserError, match=r"backbone_width = 32: .*64 alone.*weights=scratch"):
        pretrained.pretrained(narrow, "imagenet")


def test_perceptual_weights_take_the_features_alone(tmp_path: Path) -> None:
    net, tensors = Perceptual(), {}
    for key, tensor in net.state_dict().items():
        tensors[key] = torch.full((1,), float(len(tensors))).expand(tensor.shape).contiguous()
    save_file(tensors | {"classifier.0.weight": torch.zeros(2)}, tmp_path / "vgg16.safetensors")
    pretrained.perceptual_weights(net, str(tmp_path / "vgg16.safetensors"))
    assert [t.unique().item() for t in net.state_dict().values()] == list(range(26))
    save_file({key: t[:1] for key, t in tensors.items()}, tmp_path / "thin.safetensors")
    with pytest.raises(UserError, match=r"not weights of this VGG-16: 26 tensors"):
        pretrained.perceptual_weights(net, str(tmp_path / "thin.safetensors"))
    with pytest.raises(UserError, match=r"loss\.perceptual_weights=FILE, or leave the term out, loss\.perceptual=0"):
        pretrained.perceptual_weights(net, "absent.pth")


# What files may not do


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_nothing_is_run_from_a_downloaded_file(tmp_path: Path, form: str) -> None:
    path, trace = tmp_path / "resnet.pth", tmp_path / "trace"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"conv1.weight": Malicious(trace)}, protocol=2))
    else:
        torch.save({"conv1.weight": Malicious(trace)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        UserError, match=r"resnet.pth: refused, since it wants to call (posix|os|nt)\.mkdir; only plain"
    ):
        pretrained.pretrained(small_resnet(), str(path))
    assert not trace.exists()


# Files from elsewhere


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A web server on this machine's loopback: its URL and the folder that it serves."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(
        type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=str(folder)
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", folder
        http.shutdown()


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.glob("cache/**/*") if path.is_file())


def test_a_url_is_fetched_once_and_its_hash_checked(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    wanted = small_resnet(seed=1)
    torch.save(like_torchvision(wanted), folder / "net.pth")
    digest = files.file_hash(folder / "net.pth")
    source = f"{url}/net.pth?download=true#sha256={digest}"
    for _ in range(2):
        net = small_resnet()
        pretrained.pretrained(net, source)
        assert same(net, wanted)
        (folder / "net.pth").unlink(missing_ok=True)
    (name,) = cached(tmp_path)
    assert name == f"net-{digest[:16]}.pth"

    (tmp_path / "cache/hub/checkpoints" / name).write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cannot be fetched \(HTTP Error 404.*\); give a local file.*weights=scratch"):
        pretrained.pretrained(net, source)


def test_a_file_with_another_hash_is_refused_and_not_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    torch.save(like_torchvision(small_resnet(seed=1)), folder / "net-0123456789abcdef.pth")
    net = small_resnet()
    for source in (f"{url}/net-0123456789abcdef.pth", f"{url}/net-0123456789abcdef.pth#sha256={'0' * 64}"):
        with pytest.raises(UserError, match=r"its SHA-256 is [0-9a-f]{64}, not 0"):
            pretrained.pretrained(net, source)
    assert same(net, small_resnet())
    assert cached(tmp_path) == []


def test_a_url_without_a_hash_or_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="put #sha256=HASH behind the URL"):
        pretrained.pretrained(small_resnet(), "https://example.org/net.pth")
    with pytest.raises(UserError, match=r"cannot be fetched .*; give a local file, .*weights=scratch"):
        pretrained.pretrained(small_resnet(), f"http://127.0.0.1:1/net.pth#sha256={'0' * 64}")
    with pytest.raises(UserError, match=r"cannot be fetched"):
        pretrained.pretrained(small_resnet(), f"{tmp_path.as_uri()}/absent.pth#sha256={'0' * 64}")
    assert cached(tmp_path) == []


def test_a_file_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = small_resnet(seed=1)
    save_file(like_torchvision(wanted), tmp_path / "model.safetensors")

    def hf_hub_download(repo_id: str, filename: str) -> str:
        if (repo_id, filename) != ("timm/tiny", "sub/model.safetensors"):
            raise FileNotFoundError(f"404: {repo_id}/{filename}\nmore of no use")
        return str(tmp_path / "model.safetensors")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hf_hub_download))  # type: ignore[arg-type]
    net = small_resnet()
    pretrained.pretrained(net, "hub:timm/tiny/sub/model.safetensors")
    assert same(net, wanted)
    with pytest.raises(UserError, match=r"hub:timm/tiny/x: cannot be fetched \(404: timm/tiny/x\); give a local file"):
        pretrained.pretrained(net, "hub:timm/tiny/x")
    with pytest.raises(UserError, match="write it as hub:user/name/file"):
        pretrained.pretrained(net, "hub:timm/tiny")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'dgnet\[hub\]'"):
        pretrained.pretrained(net, "hub:timm/tiny/x")
