from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import resource
import signal
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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dgnet import config as configuration
from dgnet.config import Config
from dgnet.errors import UserError
from dgnet.models.backbones.resnet import ResNet
from dgnet.models.dgnet import DGNet
from dgnet.models.perceptual import Perceptual
from dgnet.models.teacher import build_baseline
from dgnet.weights import files, pretrained

TINY = configuration.load("tiny")


def joint(config: Config = TINY, classes: int = 5) -> DGNet:
    torch.manual_seed(classes)
    net = DGNet(config, classes).eval()
    net.appearance.backbone.bn1.running_mean.normal_()
    return net


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], object], **about: Any) -> None:
    """Alter the tensors of one of our files, and entries of its description."""
    tensors, metadata = files._read_safetensors(path)
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, path, {"dgnet": json.dumps(json.loads(metadata["dgnet"]) | about)})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    files.save_model(path, joint(), TINY, "joint", [2, 7, 11, 30, 1500])
    return path


def test_what_is_saved_is_what_is_loaded(model: Path) -> None:
    net, loaded = joint(), files.load_joint(model)
    assert loaded.config == TINY
    assert loaded.identities == [2, 7, 11, 30, 1500]
    assert loaded.version == files.__version__
    assert loaded.hash == hashlib.sha256(model.read_bytes()).hexdigest() == files.file_hash(model)
    assert not loaded.net.training
    state = loaded.net.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in net.state_dict().items())
    assert [p.requires_grad for p in loaded.net.parameters()] == [p.requires_grad for p in net.parameters()]
    x = torch.randn(2, 3, 32, 16)
    assert torch.equal(loaded.net.decode(*loaded.net.encode(x)), net.decode(*net.encode(x)))
    assert list(model.parent.iterdir()) == [model]


def test_a_teacher_is_loaded_as_a_teacher(tmp_path: Path) -> None:
    path, net = tmp_path / "new" / "teacher.safetensors", build_baseline(TINY, 3).eval()
    files.save_model(path, net, TINY, "teacher", [])
    loaded = files.load_teacher(path)
    assert loaded.identities == []
    x = torch.randn(2, 3, 32, 16)
    assert torch.equal(loaded.net(x), net(x))
    with pytest.raises(UserError, match=r"holds a teacher.*a DG-Net \(model.safetensors\) is needed"):
        files.load_joint(path)


def test_loading_draws_no_random_numbers_and_training_on_leaves_the_file_alone(model: Path) -> None:
    before, state = files.file_hash(model), torch.get_rng_state()
    net = files.load_joint(model).net
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert files.file_hash(model) == before


def test_the_same_weights_make_the_same_file_however_they_lie_in_memory(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "same.safetensors"
    files.save_model(path, joint().to(memory_format=torch.channels_last), TINY, "joint", [2, 7, 11, 30, 1500])
    assert files.file_hash(path) == files.file_hash(model)


def test_others_may_read_the_file_if_they_may_read_files_here(model: Path) -> None:
    ordinary = model.with_name("ordinary")
    ordinary.touch()
    assert model.stat().st_mode == ordinary.stat().st_mode


STEM, HEAD = "structure.stem.0.weight", "appearance.heads.1.classify.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop(STEM), f"1 tensor does not fit: {STEM} is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 tensor does not fit: extra is unknown"),
        (lambda t: t.update({HEAD: torch.zeros(4, 16)}), rf"{HEAD} is \[4, 16\], not \[5, 16\]"),
        (lambda t: [t.pop(key) for key in list(t)[:20]], r"20 tensors do not fit: (\S+ is missing; ){8}and 12 more$"),
        (
            lambda t: t.update({HEAD.replace("1", "0", 1): torch.zeros(6, 16)}),
            "6 classes apart, but names 5 identities",
        ),
    ],
)
def test_what_does_not_fit_is_named(model: Path, change: Callable[[dict[str, Tensor]], object], says: str) -> None:
    rewrite(model, change)
    with pytest.raises(UserError, match=f"^{model}: .*{says}"):
        files.load_joint(model)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"format": 2, "version": "9.9"}, r"written by dgnet 9\.9, a newer one than this .*update dgnet"),
        ({"kind": "cat"}, "description by dgnet is damaged"),
        ({"identities": 5}, "description by dgnet is damaged"),
        ({"config": {"train": {"iteration": 3}}}, "unknown key train.iteration; did you mean train.iterations"),
    ],
)
def test_a_description_that_cannot_be_used(model: Path, about: dict[str, Any], says: str) -> None:
    rewrite(model, lambda tensors: None, **about)
    with pytest.raises(UserError, match=f"^{model}: .*{says}"):
        files.load_joint(model)


def test_safetensors_of_somebody_else(tmp_path: Path) -> None:
    save_file(joint().state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match=r"not written by dgnet; .*dgnet weights import"):
        files.load_joint(tmp_path / "plain.safetensors")


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "folder", "missing"])
def test_files_that_are_no_safetensors(model: Path, damage: str) -> None:
    content = model.read_bytes()
    model.unlink()
    if damage == "folder":
        model.mkdir()
    elif damage != "missing":
        model.write_bytes({"truncated": content[:-1000], "text": b"not weights" * 9, "empty": b""}[damage])
    with pytest.raises(UserError, match=f"^{model}: (damaged, or not a safetensors file|no such file|a folder)"):
        files.load_joint(model)


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a process of its own; returns how that ended, as `os.waitpid` tells it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("moment", ["half-written", "unsynced", "unnamed"])
def test_killed_while_saving_the_old_file_stays(model: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    before = model.read_bytes()

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        die()

    owner, name, deed = {
        "half-written": (Path, "write_bytes", half),
        "unsynced": (os, "fsync", die),
        "unnamed": (Path, "replace", die),
    }[moment]
    monkeypatch.setattr(owner, name, deed)
    assert in_child(lambda: files.save_model(model, joint(), TINY, "joint", [])) == signal.SIGKILL
    monkeypatch.undo()
    assert model.read_bytes() == before
    files.save_model(model, joint(classes=3), TINY, "joint", [])
    assert files.load_joint(model).net.classes == 3


def test_a_full_disk_leaves_the_old_file_and_nothing_else(model: Path) -> None:
    before = model.read_bytes()

    def save() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(UserError, match=rf"^{model}: cannot be written .*File too large.*free some space"):
            files.save_model(model, joint(), TINY, "joint", [])

    assert in_child(save) == 0
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


def test_a_disk_that_fills_at_the_last_moment(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = model.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        files.save_model(model, joint(), TINY, "joint", [])
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


# Backbones


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


def test_a_backbone_from_our_own_files(tmp_path: Path, model: Path) -> None:
    teacher = build_baseline(TINY, 3)
    files.save_model(tmp_path / "teacher.safetensors", teacher, TINY, "teacher", [])
    for file, wanted in (("teacher.safetensors", teacher.backbone), ("model.safetensors", joint().appearance.backbone)):
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


# Files of others


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


def test_damaged_and_empty_pytorch_files(tmp_path: Path) -> None:
    torch.save(like_torchvision(small_resnet()), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    path = tmp_path / "it.pth"
    for content in (whole[:-100], whole[:100], b"", b"<html>404</html>"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"^{path}: damaged, or not a PyTorch file"):
            files.read_tensors(path)
    for thing in ({"epoch": 3}, [torch.zeros(2)], torch.zeros(2)):
        torch.save(thing, path)
        with pytest.raises(UserError, match=f"^{path}: holds no named tensors"):
            files.read_tensors(path)


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


def test_the_file_is_plain_safetensors_with_its_configuration_in_words(model: Path) -> None:
    header = model.read_bytes()
    metadata = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    described = json.loads(metadata["dgnet"])
    assert described["config"]["train"]["half_batch"] == TINY.train.half_batch
    assert described["kind"] == "joint"
    assert load_file(model).keys() == joint().state_dict().keys()
