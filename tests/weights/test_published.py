from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_set
import pytest
import torch
import yaml
from torch import Tensor

from dgnet import cli
from dgnet import config as configuration
from dgnet.config import Config
from dgnet.errors import UserError
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import build_baseline
from dgnet.weights import files, published, published_config

# As published in form, small in size: four styled blocks, two heads, 32 x 16 images.
SMALL = configuration.load(
    "tiny",
    ["model.decoder.residual_blocks=4", "model.structure.residual_blocks=3", "model.discriminator.residual_blocks=2"],
)
OLDER = configuration.load("tiny", ["model.structure.non_local=true", "model.decoder.non_local=true"])
CONFIG = {
    "ID_class": 751, "ID_style": "AB", "ID_stride": 1, "batch_size": 6, "beta1": 0, "beta2": 0.99,
    "crop_image_height": 32, "crop_image_width": 16, "data_root": "../Market/pytorch", "erasing_p": 0.3, "gamma": 0.2,
    "gan_w": 1.5, "id_w": 1.0, "lr2": 0.004, "lr_g": 0.0002, "max_cyc_w": 3, "max_teacher_w": 4, "max_w": 0.5,
    "max_iter": 150000, "num_workers": 8, "pid_w": 1.0, "pool": "max", "norm_id": False, "recon_x_w": 6,
    "single": "gray", "teacher_style": 4, "train_bn": True, "use_encoder_again": 0.25,
    "warm_iter": 20000, "warm_scale": 0.001,
    "gen": {"dim": 16, "mlp_dim": 512, "n_res": 4, "non_local": 0, "activ": "lrelu", "tanh": False, "dropout": 0},
    "dis": {"dim": 32, "num_scales": 3, "gan_type": "nsgan", "LAMBDA": 0.02, "non_local": 0},
}  # fmt: skip


def keys(name: str) -> dict[str, list[int]]:
    return {key: shape for key, shape in golden_set.keys[name].items() if not published.UNUSED.match(key)}


def random_net(config: Config, classes: int = 5) -> DGNet:
    torch.manual_seed(1)
    net = DGNet(config, classes).eval()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 0.9)
    return net


def publish(folder: Path, net: DGNet, iteration: int = 100000, **described: Any) -> Path:
    """Leave in `folder` what a run of the published implementation would leave of `net`."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    unused = {"gen": {"dec.model.1.model.0.model.0.norm.running_mean": torch.zeros(16)},
              "id": {"model.fc.weight": torch.zeros(1000, 64)}, "dis": {}}  # fmt: skip
    for file in published.JOINT:
        own = {key: t for key, t in net.state_dict().items() if key.startswith(published.PARTS[file])}
        state = published.to_published(file, own) | unused[file]
        torch.save({"a": state}, folder / "checkpoints" / f"{file}_{iteration:08d}.pt")
    if described:
        (folder / "config.yaml").write_text(yaml.safe_dump(described))
    return folder


def alter(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = torch.load(path, weights_only=True)["a"]
    change(state)
    torch.save({"a": state}, path, _use_new_zipfile_serialization=False)


def equal(one: DGNet, other: DGNet) -> bool:
    state = other.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in one.state_dict().items())


# Names


@pytest.mark.parametrize("name", ["gen", "id", "dis", "dis_wgan", "teacher"])
def test_every_published_name_has_ours_and_back(name: str) -> None:
    file: Any = name.removesuffix("_wgan")
    ours = published.from_published(file, {key: key for key in golden_set.keys[name]})
    assert len(ours) == len(keys(name))
    assert all(key.startswith(published.PARTS[file]) for key in ours)
    assert list(published.to_published(file, ours).items()) == [(key, key) for key in ours.values()]


@pytest.mark.parametrize("critic", [False, True])
def test_the_sizes_follow_from_the_published_shapes(critic: bool) -> None:
    wanted = golden_set.case_config("wgan_tuned_image" if critic else "lsgan_tuned_image")
    shapes = {"gen": keys("gen"), "id": keys("id"), "dis": keys("dis_wgan" if critic else "dis")}
    found: dict[str, Tensor] = {}
    for file in published.JOINT:
        tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes[file].items()}
        found |= published.from_published(file, tensors)
    config = configuration.load("market1501", published_config.as_overrides(published_config.joint_sizes(found)))
    assert config.model.structure == wanted.model.structure
    assert config.model.decoder == wanted.model.decoder
    assert config.model.discriminator == wanted.model.discriminator
    assert (config.model.appearance.backbone, config.model.appearance.stripes) == ("resnet50", 4)
    assert (config.data.height, config.data.width) == (256, 128)
    with torch.device("meta"):
        net = DGNet(config, golden_set.classes)
    assert files.mismatches(net.state_dict(), found) == []


def test_one_head_goes_by_its_own_name() -> None:
    ours = {f"appearance.heads.0.{layer}.weight": 0 for layer in ("reduce", "norm", "classify")}
    theirs = published.to_published("id", ours)
    assert set(theirs) == {f"classifier.{layer}.weight" for layer in ("add_block.0", "add_block.1", "classifier.0")}
    assert published.from_published("id", theirs) == ours


# Import


def test_a_run_is_imported_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, net = tmp_path / "run", random_net(SMALL)
    publish(run, random_net(SMALL, 4), iteration=90000)
    publish(run, net, iteration=100000, **CONFIG)
    (run / "checkpoints" / "gen_00110000.pt").write_bytes(b"the run died while this was written")
    loaded = files.load_joint(published.import_published(run, tmp_path / "out"))
    assert equal(loaded.net, net)
    assert loaded.net.classes == 5
    assert loaded.identities == []
    config, train, loss = loaded.config, loaded.config.train, loaded.config.loss
    assert (config.data.height, config.data.width, config.data.erasing) == (32, 16, 0.3)
    assert config.model.structure == SMALL.model.structure
    assert config.model.decoder == SMALL.model.decoder
    assert (config.model.discriminator.kind, config.model.discriminator.scales) == ("nsgan", 2)
    assert (train.iterations, train.half_batch, train.betas, train.decay) == (150000, 6, (0, 0.99), 0.2)
    assert (train.learning_rate, train.backbone_learning_rate, train.head_learning_rate) == (0.0002, 0.004, 0.04)
    assert (loss.image, loss.structure_code, loss.appearance_code, loss.cycle, loss.teacher) == (6, 0.5, 0.5, 3, 4)
    assert (loss.adversarial, loss.r1, loss.tune_encoder, loss.teacher_style) == (1.5, 0.02, 0.25, "two_labels")
    assert (loss.warm_up.start, loss.warm_up.per_iteration, loss.teacher_warm_up.start) == (20000, 0.001, 30000)
    assert "not taken over: data_root, num_workers" in " ".join(capsys.readouterr().err.split())


def test_without_config_yaml_the_tensors_and_the_overrides_tell(tmp_path: Path) -> None:
    config = configuration.load("tiny", ["model.discriminator.kind=wgan", "model.appearance.heads=one"])
    net = random_net(config)
    found = sorted((publish(tmp_path / "run", net) / "checkpoints").iterdir())
    out = tmp_path / "named.safetensors"
    assert published.import_published(found, out, ["train.half_batch=3"]) == out
    loaded = files.load_joint(out)
    assert equal(loaded.net, net)
    assert (loaded.config.model.discriminator.kind, loaded.config.model.discriminator.width) == ("wgan", 4)
    assert (loaded.config.data.height, loaded.config.data.width) == (32, 16)
    assert loaded.config.model.appearance.heads == "one"
    assert loaded.config.train.half_batch == 3


@pytest.mark.parametrize("spelling", ["nonloc.", "model.0.nonloc."])
def test_the_older_variant_with_attention(tmp_path: Path, spelling: str) -> None:
    net = random_net(OLDER)
    run = publish(tmp_path / "run", net, **CONFIG)  # whose configuration denies the attention, as the released one may

    def respell(state: dict[str, Tensor]) -> None:
        for key in [key for key in state if "nonloc." in key]:
            state[key.replace("nonloc.", spelling)] = state.pop(key)

    gen = run / "checkpoints" / "gen_00100000.pt"
    alter(gen, respell)
    assert f"dec.model.1.model.1.{spelling}gamma" in torch.load(gen, weights_only=True)["a"]
    loaded = files.load_joint(published.import_published(run, tmp_path))
    assert loaded.config.model.structure.non_local
    assert loaded.config.model.decoder.non_local
    assert not loaded.config.model.discriminator.non_local
    assert equal(loaded.net, net)


def test_a_teacher_is_imported_from_its_bare_state_dict(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build_baseline(SMALL, 7).eval()
    state = published.to_published("teacher", net.state_dict()) | {"model.fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "net_last.pth")
    torch.save({}, tmp_path / "net_50.pth")
    loaded = files.load_teacher(published.import_published(tmp_path, tmp_path / "out"))
    x = torch.randn(2, 3, 32, 16)
    assert torch.equal(loaded.net(x), net(x))
    again = published.import_published(tmp_path / "net_last.pth", tmp_path / "out", ["teacher.last_stride=1"])
    assert files.load_teacher(again).config.teacher.last_stride == 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"a": {f"module.{key}": t for key, t in state.items()}},
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {"state_dict": {f"net.{key}": t for key, t in state.items()}, "optimizer": {"lr": 0.1}},
        lambda state: {"net": {f"_orig_mod.{key}": t.half() for key, t in state.items()}},
    ],
)
def test_whatever_stands_before_published_names_is_stripped(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], Any]
) -> None:
    run, net = tmp_path / "run", random_net(SMALL)
    for parameter in net.state_dict().values():
        if parameter.is_floating_point():
            parameter.copy_(parameter.half())
    publish(run, net)
    for path in (run / "checkpoints").iterdir():
        torch.save(wrap(torch.load(path, weights_only=True)["a"]), path)
    assert equal(files.load_joint(published.import_published(run, tmp_path / "out")).net, net)
    teacher = build_baseline(SMALL, 7).half().eval()
    torch.save(wrap(published.to_published("teacher", teacher.state_dict())), tmp_path / "net_last.pth")
    loaded = files.load_teacher(published.import_published(tmp_path / "net_last.pth", tmp_path / "out"))
    state = loaded.net.state_dict()
    assert all(torch.equal(state[key], t.to(state[key].dtype)) for key, t in teacher.state_dict().items())


def test_other_networks_and_weights_that_are_no_numbers_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(source: Path) -> str:
        with pytest.raises(SystemExit) as left:
            cli.main(["weights", "import", str(source), "--out", str(tmp_path / "out")])
        assert left.value.code == 2
        assert not (tmp_path / "out").exists()
        (line,) = capsys.readouterr().err.splitlines()
        return line

    torch.save({"net": {"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(1)}}, tmp_path / "net_last.pth")
    assert refused(tmp_path / "net_last.pth") == (
        f"error: {tmp_path / 'net_last.pth'}: not published (no model.layer1.0.conv1.weight); its tensors are "
        "net.conv1.weight, net.fc.bias"
    )
    run = publish(tmp_path / "run", random_net(SMALL))
    alter(
        run / "checkpoints" / "dis_00100000.pt",
        lambda state: state["cnns.0.0.conv.weight"].view(-1)[:1].fill_(torch.nan),
    )
    assert "NaN or infinity in dis_00100000.pt: cnns.0.0.conv.weight; " in refused(run)
    alter(run / "checkpoints" / "dis_00100000.pt", lambda state: [t.nan_to_num_() for t in state.values()])
    alter(
        run / "checkpoints" / "gen_00100000.pt",
        lambda state: state.update({"dec.model.8.conv.bias": state["dec.model.8.conv.bias"].to(torch.int8)}),
    )
    assert "1 tensor does not fit: gen_00100000.pt: dec.model.8.conv.bias is of int8, not of" in refused(run)


def test_what_does_not_fit_is_named_as_in_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, net = tmp_path / "run", random_net(SMALL)
    publish(run, net, **CONFIG)

    def spoil(state: dict[str, Tensor]) -> None:
        del state["dec.model.8.conv.bias"]
        state["enc_style.model.0.conv.weight"] = torch.zeros(1)
        state["mlp_w2.model.2.fc.bias"] = torch.zeros(3)

    alter(run / "checkpoints" / "gen_00100000.pt", spoil)
    with pytest.raises(UserError) as caught:
        published.import_published(run, tmp_path / "out")
    assert "3 tensors do not fit" in str(caught.value)
    problems = ("dec.model.8.conv.bias is missing", "enc_style.model.0.conv.weight is unknown",
                "mlp_w2.model.2.fc.bias is [3], not [32]")  # fmt: skip
    for problem in problems:
        assert f"gen_00100000.pt: {problem}" in str(caught.value)
    assert not (tmp_path / "out").exists()

    capsys.readouterr()
    loaded = files.load_joint(published.import_published(run, tmp_path / "out", partial=True))
    told = " ".join(capsys.readouterr().err.split())
    assert all(problem in told for problem in problems)
    got, made = loaded.net.state_dict(), net.state_dict()
    differing = {key for key in made if not torch.equal(got[key], made[key])}
    assert differing == {"decoder.paint.2.bias", "decoder.scales.1.layers.2.bias"}


def test_all_of_many_misfits_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = publish(tmp_path / "run", random_net(SMALL))
    alter(
        run / "checkpoints" / "gen_00100000.pt", lambda state: [state.pop(key) for key in list(state) if "mlp_b" in key]
    )
    with pytest.raises(UserError, match=r"24 tensors do not fit: .*and 16 more"):
        published.import_published(run, tmp_path / "out")
    told = " ".join(capsys.readouterr().err.split())
    assert all(f"mlp_b{n}.model.{layer}.fc.{part} is missing" in told
               for n in range(1, 5) for layer in range(3) for part in ("weight", "bias"))  # fmt: skip


def test_a_missing_discriminator_is_an_error_unless_partial(tmp_path: Path) -> None:
    run, net = tmp_path / "run", random_net(SMALL)
    publish(run, net)
    (run / "checkpoints" / "dis_00100000.pt").unlink()
    with pytest.raises(UserError, match=r"dis_\*\.pt of the same iteration missing; `partial`"):
        published.import_published(run, tmp_path / "out")
    loaded = files.load_joint(published.import_published(run, tmp_path / "out", partial=True))
    state, made = loaded.net.state_dict(), net.state_dict()
    assert all(torch.equal(state[key], t) for key, t in made.items() if not key.startswith("discriminator."))
    (run / "checkpoints" / "id_00100000.pt").unlink()
    with pytest.raises(UserError, match=r"id_\*\.pt, dis_\*\.pt of the same iteration missing$"):
        published.import_published(run, tmp_path / "out", partial=True)


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ({"pool": "avg"}, "config.yaml: pool = 'avg': dgnet builds these networks with 'max' only"),
        ({"gen": {"tanh": True}}, "config.yaml: gen.tanh = True"),
        ({"batch_size": "many"}, r"in our terms: .*train\.half_batch = 'many'"),
        ({"single": "colour"}, r"in our terms: .*model\.structure\.input = 'colour'"),
    ],
)
def test_a_configuration_that_dgnet_does_not_build(tmp_path: Path, described: dict[str, Any], says: str) -> None:
    run = publish(tmp_path / "run", random_net(SMALL), **described)
    with pytest.raises(UserError, match=says):
        published.import_published(run, tmp_path / "out")


def test_sources_that_hold_nothing_to_import(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no gen_\*.pt, id_\*.pt and dis_\*.pt there, nor a teacher's net_last.pth"):
        published.import_published(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="absent: no such file or folder"):
        published.import_published(tmp_path / "absent", tmp_path / "out")
    run = publish(tmp_path / "run", random_net(SMALL))
    (run / "config.yaml").write_text("gen: [")
    with pytest.raises(UserError, match=r"config.yaml: not YAML"):
        published.import_published(run, tmp_path / "out")
    (run / "config.yaml").write_text(json.dumps(CONFIG))
    alter(run / "checkpoints" / "id_00100000.pt", lambda state: [state.pop(k) for k in list(state) if "layer3" in k])
    with pytest.raises(UserError, match=r"no backbone that dgnet knows .*\(2, 2, 0, 2\)"):
        published.import_published(run, tmp_path / "out")
