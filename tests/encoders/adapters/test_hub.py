"""Vision models of transformers with small random weights; the preparation beside that of the library."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import encoders
from encoders.errors import EncoderError
from encoders.packages import versions
from tests.encoders.adapters.pictures import PicturesContract, pictures

if not versions("transformers"):
    pytest.skip("the extra [hf] is not installed", allow_module_level=True)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from encoders.adapters.hub import CONFIG, PROCESSORS, Pictures

VIT = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
CONVNEXT = {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_pct": 0.875,
}
CLIP = {
    "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40}, "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.48, 0.45, 0.40],
    "image_std": [0.26, 0.26, 0.27],
}  # fmt: skip


def saved(folder: Path, model: Any, config: dict[str, Any]) -> Path:
    model.save_pretrained(folder)
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def vit(folder: Path, seed: int = 0) -> Path:
    from transformers import ViTConfig, ViTModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ViTModel(
            ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                      image_size=32, patch_size=8, initializer_range=0.2)
        )  # fmt: skip
    return saved(folder, model, VIT)


def convnext(folder: Path) -> Path:
    from transformers import ConvNextConfig, ConvNextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = ConvNextModel(
            ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1, 1, 1, 1], initializer_range=0.5)
        )
    return saved(folder, model, CONVNEXT)


class TestVisionTransformer(PicturesContract):
    dim, metric = 24, "cosine"
    folder: Path

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = vit(tmp_path_factory.mktemp("vit"))

    @classmethod
    def make(cls) -> Any:
        return encoders.load(f"hf:{cls.folder}", device="cpu")

    def test_the_same_as_the_library_itself(self, items: list[Any], embedded: np.ndarray) -> None:
        from transformers import ViTImageProcessorPil, ViTModel

        model = ViTModel.from_pretrained(self.folder).eval()
        fed = ViTImageProcessorPil(**VIT)([Image.fromarray(item) for item in items], return_tensors="pt")
        with torch.inference_mode():
            found = model(**fed)
        for pooling, theirs in (
            ("auto", found.pooler_output),
            ("cls", found.last_hidden_state[:, 0]),
            ("mean", found.last_hidden_state.mean(dim=1)),
        ):
            ours = encoders.load(f"hf:{self.folder}", device="cpu", pooling=pooling).encode(items)
            assert np.abs(ours - torch.nn.functional.normalize(theirs).numpy()).max() < 2e-5, pooling

    def test_settings_and_weights_change_the_fingerprint(self, encoder: Any, tmp_path: Path) -> None:
        mean = encoders.load(f"hf:{self.folder}", device="cpu", pooling="mean")
        other = encoders.load(f"hf:{vit(tmp_path / 'b', seed=5)}", device="cpu")
        assert len({one.fingerprint for one in (encoder, mean, other)}) == 3
        assert mean.provenance["weights"] == encoder.provenance["weights"] != other.provenance["weights"]
        assert encoder.provenance["transformers"] == versions("transformers")["transformers"]
        with pytest.raises(EncoderError, match="pooling 'max' is none of auto, cls, mean"):
            encoders.load(f"hf:{self.folder}", pooling="max")

    def test_loading_says_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        from transformers.utils import logging

        capsys.readouterr()
        self.make()
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "") and logging.is_progress_bar_enabled()

    def test_on_the_command_line(self, items: list[Any], tmp_path: Path, capsys: Any) -> None:
        from gallery import cli

        for at in range(3):
            (tmp_path / "people" / str(at)).mkdir(parents=True)
            Image.fromarray(items[at]).save(tmp_path / "people" / str(at) / "1.png")
        place = str(tmp_path / "g")
        assert cli.main(["enroll", place, str(tmp_path / "people"), "--encoder", f"hf:{self.folder}"]) == 0
        assert cli.main(["identify", place, str(tmp_path / "people" / "2" / "1.png"), "--json"]) == 0
        out = capsys.readouterr().out
        (answer,) = json.loads(out[out.index("[") :])
        assert (answer["decision"], answer["candidates"][0]["id"]) == ("undecided", "2")


def test_a_convolutional_model_is_pooled_over_places(tmp_path: Path) -> None:
    from transformers import ConvNextImageProcessorPil, ConvNextModel

    items = pictures(5)
    folder = convnext(tmp_path)
    ours = encoders.load(f"hf:{folder}", device="cpu", pooling="mean", metric="euclidean").encode(items)
    fed = ConvNextImageProcessorPil(**CONVNEXT)(
        [Image.fromarray(item) for item in items], return_tensors="pt"
    )
    with torch.inference_mode():
        theirs = ConvNextModel.from_pretrained(folder).eval()(**fed).last_hidden_state.mean(dim=(2, 3))
    assert ours.shape == (5, 16) and np.abs(ours - theirs.numpy()).max() < 2e-5


@pytest.mark.parametrize(
    ("config", "name"),
    [(VIT, "ViTImageProcessorPil"), (CONVNEXT, "ConvNextImageProcessorPil"), (CLIP, "CLIPImageProcessorPil"),
     (VIT | {"do_normalize": False}, "ViTImageProcessorPil"),
     (VIT | {"do_rescale": False, "resample": 0}, "ViTImageProcessorPil"),
     (CONVNEXT | {"size": {"shortest_edge": 384}}, "ConvNextImageProcessorPil")],
)  # fmt: skip
def test_pictures_are_prepared_as_by_the_library(config: dict[str, Any], name: str) -> None:
    import transformers

    ours, theirs = Pictures(config), getattr(transformers, name)(**config)
    for item in pictures(6, seed=3):
        expected = theirs(Image.fromarray(item), return_tensors="np")["pixel_values"][0]
        assert ours(item).shape == ours.shape == expected.shape
        assert np.abs(ours(item) - expected).max() < 1e-4


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_what_a_file_does_not_say_is_as_the_library_does_it(name: str) -> None:
    import transformers

    theirs = getattr(transformers, f"{name}ImageProcessorPil")()
    for saved in ({}, theirs.to_dict()):
        ours = Pictures(saved | {"image_processor_type": f"{name}FeatureExtractor"})
        (item,) = pictures(1, seed=4)
        expected = theirs(Image.fromarray(item), return_tensors="np")["pixel_values"][0]
        assert ours(item).shape == expected.shape
        assert np.abs(ours(item) - expected).max() < 1e-4


def test_an_edge_in_the_way_of_older_files() -> None:
    plain = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": 32}
    item = pictures(1)[0]
    assert np.array_equal(Pictures(plain)(item), Pictures(CLIP | {
        "image_mean": None, "image_std": None, "size": {"shortest_edge": 40}})(item))  # fmt: skip
    assert Pictures({"feature_extractor_type": "ViTFeatureExtractor", "size": 40}).shape == (3, 40, 40)


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = vit(tmp_path / "a")
    (folder / CONFIG).write_text(json.dumps(VIT | {"do_pad": True}))
    with pytest.raises(EncoderError, match="asks for do_pad, which is not known here"):
        encoders.load(f"hf:{folder}")
    (folder / CONFIG).write_text(json.dumps(VIT | {"size": {"shortest_edge": 32}}))
    with pytest.raises(EncoderError, match="no fixed size"):
        encoders.load(f"hf:{folder}")
    (folder / CONFIG).write_text(json.dumps(VIT | {"image_processor_type": "LevitImageProcessor"}))
    with pytest.raises(EncoderError, match="is of type LevitImageProcessor; known here are Beit, Bit, CLIP"):
        encoders.load(f"hf:{folder}")
    (folder / CONFIG).write_text("{")
    with pytest.raises(EncoderError, match="is no vision model that transformers opens"):
        encoders.load(f"hf:{folder}")


def test_what_is_no_model_and_what_is_a_pickle(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="is no vision model that transformers opens"):
        encoders.load(f"hf:{tmp_path}")
    folder = vit(tmp_path / "pickled")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"is no vision model that transformers opens: .*safetensors"):
        encoders.load(f"hf:{folder}")
