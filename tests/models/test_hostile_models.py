"""Captioners, inpainters and classifiers that try to run code, or to read what is not theirs: nothing of it happens."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GenerationConfig

from checkpoints import Checkpoints
from hostile import auto_map, code, fetched, files_in, merged, pickled
from hub_server import Hub
from synood_cli.errors import ItemError, ModelError
from synood_cli.models.build import build_classifier, build_encoder, build_inpainter
from synood_cli.models.chat_template import INSTRUCTION, rendered_prompt
from synood_cli.models.generation_settings import plain_generation
from synood_cli.models.model_files import cleaned, shown
from synood_cli.models.transformers_captioner import TransformersCaptioner
from synood_cli.records import Description, ModelSpec

Attack = Callable[[Path, Path], None]


def load(kind: str, name: str) -> Any:
    """The model of that kind, as its stage would load it."""
    adapter = {"captioner": "transformers", "inpainter": "diffusers", "classifier": "timm", "clip": "open_clip"}[kind]
    spec = ModelSpec(adapter=adapter, name=name)
    if kind == "captioner":
        return TransformersCaptioner(spec, "cpu", "fp32", instruction="list", max_new_tokens=1)
    build = {"inpainter": build_inpainter, "classifier": build_classifier, "clip": build_encoder}[kind]
    return build(spec, "cpu", "fp32")


def remote_code(folder: Path, marker: Path) -> None:
    """Settings of transformers, at every depth, that name a class in a file beside them."""
    for name in ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if not (folder / name).exists():
            (folder / name).write_text("{}")
        merged(folder, name, **auto_map())
    config = json.loads((folder / "config.json").read_text())
    merged(folder, "config.json", text_config={**config["text_config"], **auto_map()})
    (folder / "evil.py").write_bytes(code(marker))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_bytes(code(marker))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "user/evil", "peft_type": "LORA"}')


def unknown_type(folder: Path, marker: Path) -> None:
    remote_code(folder, marker)
    merged(folder, "config.json", model_type="evil", architectures=["EvilModel"])


def processor_class(folder: Path, marker: Path) -> None:
    remote_code(folder, marker)
    merged(folder, "processor_config.json", processor_class="EvilProcessor")
    merged(folder, "tokenizer_config.json", tokenizer_class="EvilTokenizer", processor_class="EvilProcessor")


def kernels(folder: Path, marker: Path) -> None:
    merged(folder, "config.json", attn_implementation="user/evil", _attn_implementation="user/evil", use_kernels=True)


def escaping_template(folder: Path, marker: Path) -> None:
    attack = "{{ cycler.__init__.__globals__.os.system('touch " + str(marker) + "') }}"
    (folder / "chat_template.jinja").write_text(attack)


def pickles(folder: Path, marker: Path) -> None:
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
        for ending in (".bin", ".pt", ".pth", ".ckpt"):
            weights.with_suffix(ending).write_bytes(pickled(marker))
        (weights.parent / "pytorch_model.bin").write_bytes(pickled(marker))


def disguised_pickles(folder: Path, marker: Path) -> None:
    for weights in folder.rglob("*.safetensors"):
        weights.write_bytes(pickled(marker))


def index_outside(folder: Path, marker: Path) -> None:
    """An index of weights that names a file elsewhere."""
    weights = next(iter(folder.rglob("*model.safetensors")))
    outside = folder.parent / "outside.safetensors"
    weights.rename(outside)
    table = {"weight_map": {"x": "../" * weights.relative_to(folder).as_posix().count("/") + "../outside.safetensors"}}
    weights.with_name(f"{weights.name}.index.json").write_text(json.dumps({"metadata": {}, **table}))


def link_outside(folder: Path, marker: Path) -> None:
    weights = next(iter(folder.rglob("*model.safetensors")))
    outside = folder.parent / "outside.safetensors"
    weights.rename(outside)
    weights.symlink_to(outside)


def fifo(folder: Path, marker: Path) -> None:
    settings = next(iter(folder.rglob("*config.json")))
    settings.unlink()
    os.mkfifo(settings)


def custom_pipeline(folder: Path, marker: Path) -> None:
    (folder / "pipeline.py").write_bytes(code(marker))
    merged(folder, "model_index.json", _class_name=["pipeline", "EvilPipeline"], custom_pipeline="user/evil")
    merged(folder, "model_index.json", unet=["evil", "EvilModel"])
    (folder / "unet" / "evil.py").write_bytes(code(marker))


def other_library(folder: Path, marker: Path) -> None:
    merged(folder, "model_index.json", scheduler=["os", "system"])


def other_class(folder: Path, marker: Path) -> None:
    merged(folder, "model_index.json", text_encoder=["transformers", "pipeline"])


def hub_architecture(folder: Path, marker: Path) -> None:
    merged(folder, "config.json", architecture="hf-hub:user/evil")


def places_of_weights(folder: Path, marker: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    places = {"file": str(marker), "url": "http://127.0.0.1:1/x", "hf_hub_id": "user/evil", "custom_load": "hf"}
    merged(folder, "config.json", pretrained_cfg={**config["pretrained_cfg"], **places, "source": "timm"})
    for weights in folder.glob("*.safetensors"):
        weights.unlink()


def constructor_arguments(folder: Path, marker: Path) -> None:
    merged(folder, "config.json", model_args={"checkpoint_path": str(marker), "pretrained": True})


def huge_arguments(folder: Path, marker: Path) -> None:
    merged(folder, "config.json", model_args={"num_classes": 2**40})


def settings(name: str, **changed: Any) -> Attack:
    """Settings changed in the file `name`; a key `a__b` is b in the table a."""

    def attack(folder: Path, marker: Path) -> None:
        document = json.loads((folder / name).read_text())
        for key, value in changed.items():
            *tables, last = key.split("__")
            table = document
            for part in tables:
                table = table.setdefault(part, {})
            table[last] = value
        (folder / name).write_text(json.dumps(document))

    return attack


def tensors(change: Callable[[str, Tensor], Tensor]) -> Attack:
    """Every tensor of the first weights as `change` makes it."""

    def attack(folder: Path, marker: Path) -> None:
        path = next(iter(folder.rglob("*model.safetensors")))
        found = {name: change(name, tensor) for name, tensor in load_file(path).items()}
        save_file(found, path, metadata={"format": "pt"})

    return attack


def long_table(folder: Path, marker: Path) -> None:
    """A file without a byte of weights behind a table of tensors of 100 GB."""
    for weights in folder.rglob("*.safetensors"):
        weights.write_bytes((10**11).to_bytes(8, "little") + b"{")


def generation(**changed: Any) -> Attack:
    return settings("generation_config.json", **changed)


def growing_text(folder: Path, marker: Path) -> None:
    """A tokenizer that makes a hundred million letters of one."""
    document = json.loads((folder / "tokenizer.json").read_text())
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
    document["normalizer"] = {"type": "Sequence", "normalizers": [grow] * 9}
    (folder / "tokenizer.json").write_text(json.dumps(document))


def few_tokens(folder: Path, marker: Path) -> None:
    """A CLIP that knows a hundred tokens of its tokenizer's."""
    settings("open_clip_config.json", model_cfg__text_cfg__vocab_size=100)(folder, marker)
    tensors(lambda name, x: x[:100].clone() if name == "token_embedding.weight" else x)(folder, marker)


PROCESSOR = "processor_config.json"
CLIP, SCHEDULE = "open_clip_config.json", "scheduler/scheduler_config.json"
TOO_LARGE = "describe a model of .* parameters or more, but the weights have"
MEANT_TO_FAIL: list[tuple[str, str, Attack]] = [
    ("clip", TOO_LARGE, settings(CLIP, model_cfg__vision_cfg__layers=[256] * 4, model_cfg__vision_cfg__width=2**15)),
    ("clip", TOO_LARGE, settings(CLIP, model_cfg__vision_cfg__timm_model_name="vit_giant_patch14_clip_224")),
    ("clip", TOO_LARGE, settings(CLIP, model_cfg__vision_cfg__layers=256, model_cfg__vision_cfg__width=2**15)),
    ("clip", "the weights do not fit the settings: .*mlp", settings(CLIP, model_cfg__vision_cfg__mlp_ratio=5)),
    ("clip", "preprocess_cfg.std.1", settings(CLIP, preprocess_cfg__std=[1, 0, 1])),
    ("clip", "preprocess_cfg.mean.0", settings(CLIP, preprocess_cfg__mean=[1e308] * 3)),
    ("clip", "logit_scale", tensors(lambda name, x: x * torch.nan if name == "logit_scale" else x)),
    ("clip", "logit_scale", tensors(lambda name, x: x - torch.inf if name == "logit_scale" else x)),
    ("clip", "logit_scale", tensors(lambda name, x: x + 1000 if name == "logit_scale" else x)),
    ("clip", "logit_scale", tensors(lambda name, x: x.repeat(5) if name == "logit_scale" else x)),
    ("clip", "no floating-point numbers", tensors(lambda name, x: x.to(torch.int8))),
    ("clip", "no floating-point numbers", tensors(lambda name, x: x.to(torch.complex64))),
    ("clip", "floating-point.*text_proj", tensors(lambda name, x: x.int() if name == "text_projection" else x)),
    ("clip", "no image size", settings(CLIP, model_cfg__vision_cfg__patch_size=0)),
    *[("clip", key, settings(CLIP, **{f"model_cfg__vision_cfg__{key}": []})) for key in ("patch_size", "image_size")],
    *[
        (kind, f"no floating-point numbers: .* is {name}", tensors(lambda _, x, dtype=dtype: x.to(dtype)))
        for kind in ("captioner", "inpainter", "classifier")
        for name, dtype in (("I8", torch.int8), ("BOOL", torch.bool))
    ],
    ("captioner", "do not fit the settings: .*lm_head.* say", settings("config.json", text_config__vocab_size=5)),
    ("captioner", TOO_LARGE, settings("config.json", text_config__num_hidden_layers=10**6)),
    ("captioner", TOO_LARGE, settings("config.json", vision_config__image_size=10**5)),
    ("captioner", "quantised", settings("config.json", text_config__quantization_config={"quant_method": "gptq"})),
    (
        "captioner",
        "more than 1024 MiB",
        settings(PROCESSOR, image_processor__crop_size={"height": 3 * 10**4, "width": 3 * 10**4}),
    ),
    ("captioner", "more than 1024 MiB", growing_text),
    ("captioner", "repetition_penalty", generation(repetition_penalty=-1.0)),
    ("captioner", "no_repeat_ngram_size", generation(no_repeat_ngram_size=10**9)),
    ("captioner", "eos_token_id", generation(eos_token_id="evil")),
    ("inpainter", TOO_LARGE, settings("unet/config.json", layers_per_block=10**6)),
    ("inpainter", TOO_LARGE, settings("vae/config.json", layers_per_block=10**6)),
    ("inpainter", TOO_LARGE, settings("text_encoder/config.json", num_hidden_layers=10**6)),
    ("inpainter", "sample_size", settings("unet/config.json", sample_size=2000)),
    ("inpainter", "scaling_factor", settings("vae/config.json", scaling_factor="x")),
    ("inpainter", "scaling_factor", settings("vae/config.json", scaling_factor=0)),
    ("inpainter", "model_max_length", settings("tokenizer/tokenizer_config.json", model_max_length=10**30)),
    ("inpainter", "model_max_length", settings("tokenizer/tokenizer_config.json", model_max_length=78)),
    ("inpainter", "num_train_timesteps", settings(SCHEDULE, num_train_timesteps=10**9)),
    ("inpainter", "beta_end", settings(SCHEDULE, beta_end=float("nan"))),
    ("inpainter", "beta_start", settings(SCHEDULE, beta_start=-5.0)),
    ("inpainter", "prediction_type", settings(SCHEDULE, prediction_type="evil")),
    ("inpainter", "timestep_spacing", settings(SCHEDULE, timestep_spacing="evil")),
    ("inpainter", "dynamic_thresholding_ratio", settings(SCHEDULE, thresholding=True, dynamic_thresholding_ratio=5.0)),
    ("inpainter", "10 trained_betas are not 1000", settings(SCHEDULE, trained_betas=[0.1] * 10)),
    (
        "classifier",
        "state_dict for ResNet: .*size mismatch",
        settings("config.json", model_args__channels=[8] * 4),
    ),
    ("inpainter", "do not fit the settings", settings("text_encoder/config.json", max_position_embeddings=70)),
    ("classifier", TOO_LARGE, settings("config.json", architecture="vit_giant_patch14_clip_224", model_args={})),
    ("classifier", "input_size", settings("config.json", pretrained_cfg__test_input_size=[3, 30000, 30000])),
    ("classifier", "input_size", settings("config.json", pretrained_cfg__test_input_size=[3, 0, 0])),
    ("classifier", "input_size", settings("config.json", pretrained_cfg__test_input_size="x")),
    ("classifier", r"\.mean", settings("config.json", pretrained_cfg__mean=["a"])),
    ("classifier", r"\.std", settings("config.json", pretrained_cfg__std=[0, 0, 0])),
    *[
        ("classifier", "label_names are no list of names", settings("config.json", label_names=names))
        for names in ([1, None, {}], "abc", ["", "", ""], ["a" * 10**6, "b", "c"], ["cat\x1b[31m", "dog", "frog"])
    ],
    *[(kind, "100,000,000,000 bytes", long_table) for kind in ("clip", "captioner", "inpainter", "classifier")],
]


@pytest.mark.parametrize(("kind", "message", "attack"), MEANT_TO_FAIL)
def test_numbers_that_cannot_be_are_refused_by_name_before_anything_is_allocated(
    checkpoints: Checkpoints, tmp_path: Path, kind: str, message: str, attack: Attack
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(getattr(checkpoints, kind), folder)
    attack(folder, tmp_path / "it-ran")
    with pytest.raises(ModelError, match=message) as refused:
        load(kind, str(folder))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("message", "attack"),
    [
        ("do not fit the settings: .*token_embedding", settings(CLIP, model_cfg__text_cfg__vocab_size=7)),
        (
            "do not fit the settings: .*text_projection",
            tensors(lambda name, x: x[:5] if name == "text_projection" else x),
        ),
    ],
)
def test_a_text_tower_whose_weights_are_not_its_own_is_refused_by_name(
    checkpoints: Checkpoints, tmp_path: Path, message: str, attack: Attack
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoints.clip, folder)
    attack(folder, tmp_path / "it-ran")
    clip = load("clip", str(folder))
    with pytest.raises(ModelError, match=message):
        clip.encode_texts(["cat"])


def compute(kind: str, model: Any) -> None:
    """Ask a model for what its stage asks of it."""
    if kind == "clip":
        model.encode_images(model.prepare(Image.new("RGB", (40, 30)))[None])
        model.encode_texts(["cat"])
    elif kind == "classifier":
        model.logits(torch.zeros(1, 3, 32, 32))
    else:
        prompts = model.encode_prompts(["cat"])
        noise = torch.zeros(1, *model.latent_shape())
        model.denoise(noise, prompts, steps=1, strength=1.0, guidance_scale=1.0, scheduler="ddim")


@pytest.mark.parametrize(
    ("kind", "attack"),
    [
        ("clip", settings(CLIP, model_cfg__vision_cfg__pool_type="none")),
        ("clip", settings(CLIP, model_cfg__text_cfg__pool_type="none")),
        ("clip", few_tokens),
        ("inpainter", settings("unet/config.json", freq_shift="y")),
        ("inpainter", settings("tokenizer/tokenizer_config.json", pad_token="<evil>")),
    ],
)
def test_a_model_that_fails_inside_is_told_by_name(
    checkpoints: Checkpoints, tmp_path: Path, kind: str, attack: Attack
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(getattr(checkpoints, kind), folder)
    attack(folder, tmp_path / "it-ran")
    model = load(kind, str(folder))
    with pytest.raises(ModelError, match=f"{folder}' fails: ") as refused:
        compute(kind, model)
    assert refused.value.hint


@pytest.mark.parametrize("kind", ["clip", "classifier", "inpainter"])
def test_a_model_that_is_sound_computes(checkpoints: Checkpoints, kind: str) -> None:
    compute(kind, load(kind, str(getattr(checkpoints, kind))))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_of_an_inpainter_that_lacks_a_weight_is_not_made_up(
    checkpoints: Checkpoints, tmp_path: Path, part: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoints.inpainter, folder)
    [path] = (folder / part).glob("*.safetensors")
    kept = load_file(path)
    name = min(name for name in kept if name.endswith("weight"))
    del kept[name]
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"/{part}' lacks 1 of the model's weights"):
        load("inpainter", str(folder))


def test_of_how_a_captioner_wants_to_generate_only_tokens_and_repetition_count() -> None:
    kept = {"eos_token_id": [2, 3], "suppress_tokens": [5], "repetition_penalty": 1.05, "no_repeat_ngram_size": 1}
    asked = {
        **{"num_beams": 4, "num_return_sequences": 4, "custom_generate": "user/evil", "trust_remote_code": True},
        **{"penalty_alpha": 0.6, "top_k": 4, "force_words_ids": [[5]], "prompt_lookup_num_tokens": 10**6},
        **{"cache_implementation": "offloaded_static", "stop_strings": ["a"], "max_time": 1e-9},
        **{"max_new_tokens": 10**9, "min_new_tokens": 10**9, "return_dict_in_generate": True, "output_scores": True},
    }
    assert plain_generation(GenerationConfig(**kept, **asked)) == GenerationConfig(**kept)


def test_a_captioner_that_wants_to_generate_otherwise_answers_as_it_is_asked(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoints.captioner, folder)
    generation(num_beams=4, num_return_sequences=4, penalty_alpha=0.6, top_k=4)(folder, tmp_path)
    [answer] = load("captioner", str(folder)).describe([Image.new("RGB", (40, 30), "red")], ["cat"])
    assert isinstance(answer, Description)


def test_a_captioner_that_fails_inside_costs_images_in_words(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoints.captioner, folder)
    settings("config.json", vision_feature_layer=-1000)(folder, tmp_path)
    answers = load("captioner", str(folder)).describe([Image.new("RGB", (40, 30))] * 2, ["cat"] * 2)
    assert [type(one) for one in answers] == [ItemError, ItemError]


@pytest.mark.parametrize("library", ["config.json", "text_encoder/config.json"])
def test_a_number_of_labels_makes_no_labels(checkpoints: Checkpoints, tmp_path: Path, library: str) -> None:
    kind = "inpainter" if "/" in library else "captioner"
    folder = tmp_path / "model"
    shutil.copytree(getattr(checkpoints, kind), folder)
    settings(library, num_labels=10**10)(folder, tmp_path)
    model = load(kind, str(folder))
    part = model.pipe.text_encoder if kind == "inpainter" else model._model
    assert part.config.num_labels == 2


REFUSED: list[tuple[str, Attack]] = [
    ("captioner", unknown_type),
    ("captioner", processor_class),
    ("captioner", escaping_template),
    ("captioner", pickles),
    ("captioner", disguised_pickles),
    ("captioner", index_outside),
    ("captioner", link_outside),
    ("captioner", fifo),
    ("inpainter", custom_pipeline),
    ("inpainter", other_library),
    ("inpainter", other_class),
    ("inpainter", pickles),
    ("inpainter", disguised_pickles),
    ("inpainter", index_outside),
    ("inpainter", link_outside),
    ("inpainter", fifo),
    ("classifier", hub_architecture),
    ("classifier", places_of_weights),
    ("classifier", constructor_arguments),
    ("classifier", huge_arguments),
    ("classifier", pickles),
    ("classifier", disguised_pickles),
    ("classifier", link_outside),
    ("classifier", fifo),
    ("clip", link_outside),
    ("clip", fifo),
]


@pytest.mark.parametrize(("kind", "attack"), REFUSED)
def test_a_hostile_folder_is_refused_in_words_and_nothing_ran(
    checkpoints: Checkpoints, tmp_path: Path, kind: str, attack: Attack
) -> None:
    marker, folder = tmp_path / "it-ran", tmp_path / "model"
    shutil.copytree(getattr(checkpoints, kind), folder)
    attack(folder, marker)
    with pytest.raises(ModelError) as refused:
        load(kind, str(folder))
    assert refused.value.hint
    assert not marker.exists()


@pytest.mark.parametrize("attack", [remote_code, kernels])
def test_what_a_captioner_names_beside_its_model_is_ignored(
    checkpoints: Checkpoints, tmp_path: Path, attack: Attack
) -> None:
    marker, folder = tmp_path / "it-ran", tmp_path / "model"
    shutil.copytree(checkpoints.captioner, folder)
    attack(folder, marker)
    captioner = load("captioner", str(folder))
    assert captioner._model.config._attn_implementation in ("eager", "sdpa")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("kind", "attack"),
    [("captioner", unknown_type), ("inpainter", custom_pipeline), ("classifier", pickles), ("captioner", pickles)],
)
def test_of_a_hostile_repository_only_the_files_of_a_model_are_fetched(
    hub: Hub, checkpoints: Checkpoints, tmp_path: Path, kind: str, attack: Attack
) -> None:
    marker, folder = tmp_path / "it-ran", tmp_path / "model"
    shutil.copytree(getattr(checkpoints, kind), folder)
    attack(folder, marker)
    hub.publish("user/evil", files_in(folder))
    with pytest.raises(ModelError):
        load(kind, "user/evil")
    assert all(
        Path(name).suffix in (".json", ".txt", ".model", ".jinja", ".safetensors") for name in fetched(hub, "user/evil")
    )
    assert not {name for name in fetched(hub, "user/evil") if name.endswith((".py", ".bin", ".pt", ".pth", ".ckpt"))}
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["captioner", "inpainter", "classifier"])
def test_code_and_pickles_beside_a_sound_model_stay_on_the_hub(
    hub: Hub, checkpoints: Checkpoints, tmp_path: Path, kind: str
) -> None:
    marker = tmp_path / "it-ran"
    extras = {name: code(marker) for name in ("evil.py", "pipeline.py", "unet/evil.py", "modeling_llava.py")}
    pickle = {name: pickled(marker) for name in ("pytorch_model.bin", "unet/diffusion_pytorch_model.bin")}
    hub.publish("user/model", {**files_in(getattr(checkpoints, kind)), **extras, **pickle})
    load(kind, "user/model")
    assert not {name for name in fetched(hub, "user/model") if name.endswith((".py", ".bin"))}
    assert not marker.exists()


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + INSTRUCTION


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (ENDLESS, "takes more than 1 s"),
        ("{{ 'x' * (2 ** 34) }}" + INSTRUCTION, "more than 1024 MiB"),
        ("{{ 'x' * (2 ** 20) }}" + INSTRUCTION, "1,048,594 characters"),
        ("{{ ''.__class__.__mro__ }}" + INSTRUCTION, "SecurityError"),
        ("{% for", "TemplateSyntaxError"),
        ("{{ raise_exception('no images here') }}", "no images here"),
        ("hello", "leaves the instruction out"),
        (f"{{{{ '{INSTRUCTION}' * 3000 }}}}", "repeats the instruction 3,000 times"),
    ],
)
def test_a_chat_template_is_bounded(template: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        rendered_prompt(template, {}, seconds=1)


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("synood_cli", "transformers", "json"):
        (tmp_path / f"{module}.py").write_bytes(code(tmp_path / "it-ran"))
    monkeypatch.chdir(tmp_path)
    assert rendered_prompt(None, {})
    assert not (tmp_path / "it-ran").exists()


def test_a_chat_template_that_is_one_gives_its_prompt() -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content[1].text }}{% endfor %}"
    assert rendered_prompt(template, {"bos_token": "<s>"}) == f"<s>user: {INSTRUCTION}"


def test_settings_lose_what_names_something_and_keep_the_rest() -> None:
    document = {
        "model_type": "llava",
        "rms_norm_eps": 1e-6,
        "auto_map": {"AutoModel": "evil.Evil"},
        "_name_or_path": "user/evil",
        "vision_config": {
            "backbone": "user/evil",
            "hidden_size": 3,
            "drop_path_rate": 0.1,
            "vocab_file": "/etc/passwd",
        },
        "list": [{"url": "x", "size": 2}],
        "architecture": "hf-hub:user/evil",
        "id2label": {"0": "cat"},
        "num_labels": 10**9,
        "torch_dtype": "evil",
        "label_names": ["user/evil", "auto_map"],
    }
    assert cleaned("config.json", document) == {
        "model_type": "llava",
        "rms_norm_eps": 1e-6,
        "vision_config": {"hidden_size": 3, "drop_path_rate": 0.1},
        "list": [{"size": 2}],
        "label_names": ["user/evil", "auto_map"],
    }
    tokens = {"eos_token": "</s>", "pad_token": "a/b", "vocab_file": "/etc/passwd", "tokenizer_file": "x"}
    assert cleaned("tokenizer_config.json", tokens) == {"eos_token": "</s>", "pad_token": "a/b"}
    for packed in ({"quantization_config": {"quant_method": "evil"}}, {"a": {"quantization_config": []}}):
        with pytest.raises(ModelError, match="quantised"):
            cleaned("config.json", packed)
    with pytest.raises(ModelError, match="quantised"):
        cleaned("config.json", {"text_config": {"compression_config": {"format": "evil"}}})


def test_a_snapshot_of_the_hub_may_link_to_its_own_blobs_and_nowhere_else(tmp_path: Path) -> None:
    repository = tmp_path / "models--user--model"
    snapshot, blobs = repository / "snapshots" / ("0" * 40), repository / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / "abc").write_text('{"a": 1}')
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    with shown(snapshot, ["*.json"]) as view:
        assert json.loads((view / "config.json").read_text()) == {"a": 1}
    assert not view.exists()
    (tmp_path / "secret").write_text("{}")
    (snapshot / "other.json").symlink_to("../../../secret")
    with pytest.raises(ModelError, match="link to a file outside"), shown(snapshot, ["*.json"]):
        pass


def test_a_tokenizer_that_is_larger_than_any_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(ModelError, match=r"tokenizer\.json has 67,108,865 bytes"), shown(tmp_path, ["tokenizer.json"]):
        pass
