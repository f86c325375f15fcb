"""Cards say what is known and name what is not; models go to a stand-in of the hub and come back the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import dgnet
from dgnet import config as configuration
from dgnet.errors import UserError
from dgnet.evaluate.results import save_all
from dgnet.export.card import card_of
from dgnet.retrieval.decision import Threshold

sys.path.insert(0, str(Path(__file__).parent))

from stand_in import TOKEN, hub


def header(text: str) -> dict:
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def test_a_saved_model_has_a_card_beside_it(model: dgnet.Model, tmp_path: Path) -> None:
    path = model.save(tmp_path / "anna.safetensors", licence="cc-by-nc-4.0")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["anna.safetensors", "anna.safetensors.md"]
    text = card_of(path).read_text()
    assert header(text)["license"] == "cc-by-nc-4.0"
    assert header(text)["library_name"] == "dgnet"
    assert "image-generation" in header(text)["tags"]
    for heading in ("Data", "Figures", "Threshold", "Intended use", "Limits", "Use"):
        assert f"\n## {heading}\n" in text
    assert "Trained on `people`" in text
    assert f"\n# {model.file.parent.name}\n" in text
    assert "drawn by dgnet: it shows nobody" in text
    assert "Figures\n\nUnknown" in text
    assert "None: the model ranks, and does not decide" in text
    assert str(Path(model.config.data.root).parent) not in text  # where data lie on this machine is nobody's business


def test_a_card_tells_the_evaluation_of_these_weights_and_no_other(weights: Path, people: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((weights / "model.safetensors").read_bytes())
    model = dgnet.load(path, device="cpu")
    results = model.evaluate(people)
    save_all(results, tmp_path / "evaluation.json")
    text = model.card().text()
    figures = results[0].figures()
    low, high = (100 * end for end in results[0].intervals["rank1"])
    assert f"| rank-1 | {100 * figures['rank1']:.2f} | {low:.2f} to {high:.2f} |" in text
    (entry,) = header(text)["model-index"][0]["results"]
    assert entry["dataset"]["name"] == "people"
    assert {"type": "rank1", "name": "rank-1", "value": round(100 * figures["rank1"], 2)} in entry["metrics"]
    assert "same camera left out" in text

    save_all([replace(results[0], provenance={"weights": "of others"})], tmp_path / "evaluation.json")
    assert "model-index" not in header(model.card().text())
    (tmp_path / "evaluation.json").write_text("{")
    assert "model-index" not in header(model.card().text())


def test_a_card_tells_the_threshold(weights: Path, tmp_path: Path) -> None:
    model = dgnet.load(weights / "model.safetensors", device="cpu")
    model.threshold = Threshold(0.7, 0.68, 0.72, 1e-3, 0.9, model.fingerprint, "/secret/shop", 100, 100000)
    text = model.card().text()
    assert "0.7000, 95 % interval [0.6800, 0.7200]" in text
    assert "Calibrated on `shop` (100 pairs of one person, 100000 of two) for a false-accept rate of 0.001" in text
    assert "/secret" not in text


def test_a_card_of_rounded_weights_tells_nothing_of_what_they_were(weights: Path, people: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((weights / "model.safetensors").read_bytes())
    model = dgnet.load(path, device="cpu")
    save_all(model.evaluate(people), tmp_path / "evaluation.json")
    model.threshold = Threshold(0.7, 0.68, 0.72, 1e-3, 0.9, model.fingerprint, "shop", 100, 100000)
    whole, half = (
        card_of(model.save(tmp_path / f"{half}.safetensors", half=half)).read_text() for half in (False, True)
    )
    for told in ("model-index", "0.7000", "Fingerprint"):
        assert told in whole
        assert told not in half


def test_a_card_knows_whose_data_are_and_when_it_does_not(model: dgnet.Model) -> None:
    def told(**data: str) -> str:
        base = configuration.to_dict(model.config)
        base["data"] |= data
        return replace(model.card(), config=configuration.from_dict(base)).text()

    assert "Market-1501 is given out for research by its authors" in told(root="/data/m", layout="market1501")
    assert "Licence of the data: unknown to dgnet. Say it here" in told(root="/data/shop", layout="folders")
    assert "Unknown: the file does not say what it was trained on" in told(root="")


def test_a_text_that_is_no_card_is_left_alone(
    model: dgnet.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "anna.safetensors.md"
    mine.write_text("# my notes\n")
    model.save(tmp_path / "anna.safetensors")
    assert mine.read_text() == "# my notes\n"
    assert "is no model card of dgnet" in capsys.readouterr().err


PROGRAM = """
import json, sys
import dgnet
model, repo, token = dgnet.load(sys.argv[1], device="cpu"), sys.argv[2], sys.argv[3]
try:
    address = model.push_to_hub(repo, token=token, licence="mit", message="first")
    back = dgnet.load(f"hub:{repo}", device="cpu")
    same = all(bool((a == b).all()) for a, b in zip(back.net.state_dict().values(), model.net.state_dict().values()))
    print(json.dumps({"address": address, "same": same, "people": back.identities}))
    dgnet.load("hub:anna/nothing")
except dgnet.UserError as error:
    print(json.dumps({"error": str(error)}))
"""


def pushed(server_address: str, weights: Path, home: Path, *words: str) -> list[dict]:
    surroundings = os.environ | {
        "HF_ENDPOINT": server_address, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(weights), *words], capture_output=True, text=True, env=surroundings
    )
    assert not done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ["model", "teacher"])
def test_a_model_goes_to_the_hub_and_comes_back(weights: Path, tmp_path: Path, name: str) -> None:
    with hub() as server:
        first, last = pushed(server.address, weights / f"{name}.safetensors", tmp_path, "anna/people", TOKEN)
    assert first == {"address": f"{server.address}/anna/people", "same": True, "people": [1, 2, 3]}
    assert last["error"].startswith("weights hub:anna/nothing/model.safetensors: cannot be fetched")
    files = server.repositories["anna/people"]
    assert sorted(files) == ["README.md", "model.safetensors"]
    assert header(files["README.md"].decode())["license"] == "mit"
    assert "\n# people\n" in files["README.md"].decode()
    assert server.messages == ["first"]
    assert "private" in (server.created[0].get("visibility"), *server.created[0])  # by the hub's newer word, or older


def test_what_the_hub_refuses_is_one_line(weights: Path, model: dgnet.Model, tmp_path: Path) -> None:
    with hub() as server:
        (said,) = pushed(server.address, weights / "model.safetensors", tmp_path, "anna/people", "hf_wrong")
    assert said["error"].startswith("anna/people: the hub did not take it (")
    assert "\n" not in said["error"]
    (said,) = pushed("http://127.0.0.1:9", weights / "model.safetensors", tmp_path, "anna/people", TOKEN)
    assert said["error"].startswith("anna/people: the hub did not take it (")
    for wrong in ("people", "a/b/c", ""):
        with pytest.raises(UserError, match="write it as user/name"):
            model.push_to_hub(wrong)
    assert not server.repositories


def test_saving_changes_nothing_in_the_model(model: dgnet.Model, photos: list[Path], tmp_path: Path) -> None:
    again = dgnet.load(model.save(tmp_path / "copy.safetensors"), device="cpu")
    assert torch.equal(again.embed(photos[:3]), model.embed(photos[:3]))
