"""Configurations: presets, round trips, overrides, and one clear line for every mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgnet import config as configuration
from dgnet.config import Config, WarmUp
from dgnet.errors import UserError


@pytest.mark.parametrize("name", configuration.presets())
def test_presets_load_and_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    config = configuration.load(name)
    assert configuration.from_dict(configuration.to_dict(config)) == config
    file = tmp_path / "config.yaml"
    file.write_text(configuration.to_yaml(config))
    assert configuration.load(file) == config


def test_the_published_values_are_the_defaults() -> None:
    config = configuration.load("market1501")
    assert config == Config()
    assert config.loss.warm_up == WarmUp(30_000, 0.0005)
    assert (config.train.iterations, config.train.half_batch) == (100_000, 8)


def test_overrides_are_yaml_and_lie_on_top() -> None:
    config = configuration.load(
        "tiny",
        [
            "train.half_batch=3",
            "train.betas=[0.5, 0.9]",
            "loss.warm_up.start=7",
            "data.root=a folder",
            "data.cache=null",
        ],
    )
    assert (config.train.half_batch, config.train.betas, config.loss.warm_up.start) == (3, (0.5, 0.9), 7)
    assert (config.data.root, config.data.cache) == ("a folder", None)
    assert config.loss.warm_up.per_iteration == 0.5  # the preset's


def test_a_bare_yes_or_no_means_what_it_says(tmp_path: Path) -> None:
    assert configuration.load("tiny", ["model.appearance.enlarge=yes"]).model.appearance.enlarge == "yes"
    file = tmp_path / "mine.yaml"
    file.write_text("model: {appearance: {enlarge: no}}")
    assert configuration.load(file).model.appearance.enlarge == "no"


def test_nothing_can_be_changed_afterwards() -> None:
    config = configuration.load("tiny")
    with pytest.raises(FrozenInstanceError):
        config.loss.image = 0.0  # type: ignore[misc]


WRONG = {
    "loss.imag=1": "tiny: unknown key loss.imag; did you mean loss.image?",
    "model.decoder.mlp_with=8": "unknown key model.decoder.mlp_with; did you mean model.decoder.mlp_width?",
    "losses.image=1": "unknown key losses; did you mean loss?",
    "train.zzz=1": "unknown key train.zzz; known here: teachers, iterations, half_batch",
    "loss.warm_up.begin=1": "unknown key loss.warm_up.begin; known here: start, per_iteration",
    "train.half_batch=0": "train.half_batch = 0: input should be greater than or equal to 1",
    "data.flip=1.5": "data.flip = 1.5: input should be less than or equal to 1",
    "data.height=30": "data.height = 30: input should be a multiple of 4",
    "data.width=8": "data.width = 8: input should be greater than or equal to 16",
    "loss.image=-1": "loss.image = -1: input should be greater than or equal to 0",
    "loss.image=.nan": "loss.image = nan: input should be a finite number",
    "train.learning_rate=0": "train.learning_rate = 0: input should be greater than 0",
    "train.iterations=many": "train.iterations = 'many': input should be a valid integer",
    "model.discriminator.kind=gan": "model.discriminator.kind = 'gan': input should be 'lsgan', 'nsgan' or 'wgan'",
    "model.appearance.dropout=[0.5]": "model.appearance.dropout",
    "model.structure=16": "model.structure = 16: ",
    "loss.perceptual=1": "loss.perceptual is on: loss.perceptual_weights must name VGG-16 weights",
    "train.half_batch": "override 'train.half_batch': write it as key.path=value",
    "data.height.x=1": "override 'data.height.x=1': height is a value, not a group of keys",
    "train.betas=[0.5": "override 'train.betas=[0.5': '[0.5' is not a YAML value",
}


@pytest.mark.parametrize(("override", "line"), WRONG.items(), ids=WRONG)
def test_a_mistake_is_told_in_one_line(override: str, line: str) -> None:
    with pytest.raises(UserError) as told:
        configuration.load("tiny", [override])
    assert line in str(told.value)
    assert "\n" not in str(told.value)


def test_every_mistake_is_told() -> None:
    with pytest.raises(UserError) as told:
        configuration.load("tiny", ["loss.imag=1", "train.half_batch=0"])
    assert "loss.imag" in str(told.value)
    assert "train.half_batch" in str(told.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("loss: [1, 2", "mine.yaml: not YAML"),
        ("- loss", "mine.yaml: expected groups of keys (data, model, loss, ...), found list"),
        ("loss: {image: [1]}", "mine.yaml: loss.image = [1]: input should be a valid number"),
        ("loss:\n", "mine.yaml: loss = None: "),
    ],
)
def test_a_file_with_a_mistake_is_named(text: str, line: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as told:
        configuration.load(file)
    assert line in str(told.value)
    assert "\n" not in str(told.value)


def test_a_missing_file_is_named_with_the_presets() -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: neither a preset \(.*market1501.*\) nor a YAML file"):
        configuration.load("nowhere.yaml")


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("")
    assert configuration.load(file) == Config()


def groups_in(group: Any) -> Iterator[Any]:
    yield group
    for name in type(group).__pydantic_fields__:
        if is_dataclass(inner := getattr(group, name)):
            yield from groups_in(inner)


def test_every_field_and_every_group_is_explained() -> None:
    """The text that `--explain` and the documentation show."""
    groups = list(groups_in(Config()))
    assert len(groups) > 10
    for group in groups:
        bare = [name for name, field in type(group).__pydantic_fields__.items() if not field.description]
        assert not bare, f"{type(group).__name__}: {bare}"


# What is meant for text is text


@pytest.mark.parametrize(
    "text",
    ["1501", "on", "no", "2024_01_01", "2024-01-01", "cfg/set #2", "a: b", "1e5", "[x", "null #", "~/a b", "#1", "é"],
)
def test_a_text_is_taken_as_it_is_given(text: str, tmp_path: Path) -> None:
    config = configuration.load("tiny", [f"data.root={text}", f"data.cache={text}"])
    assert (config.data.root, config.data.cache) == (text, text)
    file = tmp_path / "again.yaml"
    file.write_text(configuration.to_yaml(config), encoding="utf-8")
    assert configuration.load(file) == config


@pytest.mark.parametrize("text", ["1501", "on", "2024_01_01", "0x10", "1:30"])
def test_a_text_in_a_file_is_text(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"data: {{root: {text}, join: [{text}]}}\ntrain: {{half_batch: 3}}")
    config = configuration.load(file)
    assert (config.data.root, config.data.join, config.train.half_batch) == (text, (text,), 3)


def test_one_text_is_a_list_of_one() -> None:
    assert configuration.load("tiny", ["data.join=/data/B"]).data.join == ("/data/B",)
    assert configuration.load("tiny", ["data.join=[msmt17=/a, /b]"]).data.join == ("msmt17=/a", "/b")


@pytest.mark.parametrize("written", ["010", "1:30", "yes", "true"])
def test_a_number_that_yaml_reads_otherwise_is_asked_about(tmp_path: Path, written: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"train:\n  iterations: {written}\ndata:\n  root: {written}\n")
    with pytest.raises(
        UserError, match=rf"a\.yaml, line 2: {written} (can be read in two ways|where a number is needed)"
    ):
        configuration.load(file)
    with pytest.raises(UserError, match=rf"{written} (can be read in two ways|where a number is needed)"):
        configuration.load("tiny", [f"train.iterations={written}"])
    assert configuration.load("tiny", [f"data.root={written}"]).data.root == written


def test_a_group_that_stands_twice_is_told_with_both_lines(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("loss: {image: 1}\ndata: {root: x}\nloss: {cycle: 1}\n")
    with pytest.raises(UserError, match=r"mine.yaml: loss stands twice, in line 1 and in line 3"):
        configuration.load(file)
    file.write_text("train:\n  seed: 1\n  keep: 2\n  seed: 3\n")
    with pytest.raises(UserError, match=r"seed stands twice, in line 2 and in line 4"):
        configuration.load(file)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_in_unicode_are_read(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {root: Zoë}", encoding=encoding)
    assert configuration.load(file).data.root == "Zoë"


def test_another_encoding_is_told(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes("# for\ndata: {root: Zoë}".encode("latin-1"))
    with pytest.raises(UserError, match=r"mine.yaml, line 2: byte 0xeb is no UTF-8; save it as UTF-8"):
        configuration.load(file)


GOOD = configuration.to_yaml(Config()).encode()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 255)), max_size=8), st.integers(0, len(GOOD)))
def test_a_damaged_file_is_read_or_refused_in_one_line(
    tmp_path: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(GOOD)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    file = tmp_path / "mine.yaml"
    file.write_bytes(bytes(damaged[: len(damaged) - cut]))
    try:
        configuration.load(file)
    except UserError as error:
        said = str(error)
    else:
        said = "mine.yaml"
    assert "mine.yaml" in said
    assert "\n" not in said


def test_every_value_is_explained() -> None:
    said = configuration.explain()
    for group, values in configuration.to_dict(Config()).items():
        for key in values:
            assert f"{group}.{key}" in said
    assert (
        configuration.explain("train.half_batch").splitlines()[0] == "train.half_batch = 8 (whole number, at least 1)"
    )
    assert configuration.explain("train.half_batch", configuration.load("tiny")).startswith("train.half_batch = 4")
    with pytest.raises(UserError, match=r"unknown key train.half_bach; did you mean train.half_batch\?"):
        configuration.explain("train.half_bach")
