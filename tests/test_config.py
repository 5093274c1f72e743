"""Models that synood.toml and the command line name by place."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from synood_cli.config import EvalSettings, MineSettings, Models
from synood_cli.errors import UsageError
from synood_cli.evaluated_methods import AdaNegSettings, Baseline
from synood_cli.settings_file import Config


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a settings file, a model and weights, and another current folder with other ones."""
    for place in ("study", "elsewhere"):
        (tmp_path / place / "models" / "clip").mkdir(parents=True)
        (tmp_path / place / "weights.pt").touch()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "study"


def configured(folder: Path, models: str) -> Config:
    (folder / "synood.toml").write_text(f"[models]\n{models}\n")
    return Config.read(folder / "synood.toml")


def test_folders_in_the_file_are_relative_to_it(study: Path) -> None:
    models = configured(study, 'clip = "models/clip"\ninpainter = "local-dir:models/clip"').models({})
    assert models.clip_spec().name == models.inpainter_spec().name == str(study / "models" / "clip")


def test_candidates_in_the_file_are_relative_to_it_unless_they_are_a_list_by_name(study: Path) -> None:
    (study / "words.txt").touch()
    (study / "csp").touch()
    for said, meant in (("words.txt", str(study / "words.txt")), ("csp", "csp"), ("./csp", str(study / "csp"))):
        (study / "synood.toml").write_text(f'[mine-labels]\ncandidates = "{said}"\n')
        settings = Config.read(study / "synood.toml").settings("mine-labels", None, {})
        assert isinstance(settings, MineSettings)
        assert settings.candidates == meant


def test_the_release_of_the_csp_pool_is_csps_own_wherever_the_pool_is_chosen() -> None:
    config = Config({"mine-labels": {"pool": "csp"}}, "synood.toml")
    for settings in (
        config.settings("mine-labels", "release", {}),
        Config({"recipe": "release"}, "synood.toml").settings("mine-labels", None, {"pool": "csp"}),
    ):
        assert isinstance(settings, MineSettings)
        assert settings.ind_template == settings.noun_template
        assert len(settings.noun_template.split("|")) == 8
        assert len(settings.csp_template.split("|")) == 4
        assert (settings.candidates, settings.average) == ("csp", "raw")
    neglabel = config.settings("mine-labels", "release", {"pool": "neglabel"})
    assert isinstance(neglabel, MineSettings)
    assert (neglabel.ind_template, neglabel.candidates, neglabel.average) == ("a nice {}", "neglabel", "unit")
    assert config.settings("mine-labels", "paper", {}) == MineSettings(pool="csp")


def test_folders_on_the_command_line_are_relative_to_the_current_folder(study: Path) -> None:
    models = configured(study, 'clip = "nothing"').models({"clip": "models/clip"})
    assert models.clip_spec().name == str(study.parent / "elsewhere" / "models" / "clip")


def test_a_settings_file_given_by_a_relative_path_counts_too(study: Path) -> None:
    configured(study, 'classifier = "models/clip"')
    models = Config.read(Path("..") / "study" / "synood.toml").models({})
    assert models.classifier_spec().name == str(study / "models" / "clip")


def test_a_checkpoint_file_becomes_absolute(study: Path) -> None:
    in_file = configured(study, 'pretrained = "weights.pt"')
    assert in_file.models({}).clip_spec().pretrained == str(study / "weights.pt")
    said = in_file.models({"pretrained": "weights.pt"}).clip_spec()
    assert (said.name, said.pretrained) == ("ViT-B-16", str(study.parent / "elsewhere" / "weights.pt"))


def test_names_that_are_no_places_stay(study: Path) -> None:
    (study / "openai").mkdir()
    models = configured(study, 'clip = "ViT-B-32"\ncaptioner = "org/captioner"').models({})
    assert (models.clip, models.captioner, models.pretrained) == ("ViT-B-32", "org/captioner", "openai")
    assert models.clip_spec().pretrained == "openai"
    assert Models(clip="org/clip").clip_spec().pretrained is None


def test_a_server_on_the_command_line_takes_the_place_of_clip_tags_in_the_file(study: Path) -> None:
    settings = configured(study, 'captioner = "clip-tags"\ncaptioner_url = "http://file"')
    assert settings.models({}).captioner_spec().adapter == "clip-tags"
    spec = settings.models({"captioner_url": "http://line"}).captioner_spec()
    assert (spec.adapter, spec.name, spec.url) == ("openai-server", Models().captioner, "http://line")
    both = settings.models({"captioner_url": "http://line", "captioner": "llava"}).captioner_spec()
    assert (both.adapter, both.name) == ("openai-server", "llava")
    assert settings.models({"captioner": "clip-tags"}).captioner_spec().adapter == "clip-tags"
    with pytest.raises(UsageError, match="the captioner clip-tags asks no server"):
        settings.models({"captioner": "clip-tags", "captioner_url": "http://line"})


def test_a_model_that_is_no_text_is_refused(study: Path) -> None:
    with pytest.raises(UsageError, match=r"\[models\] clip: Input should be a valid string"):
        configured(study, "clip = 3").models({})


def settings_of(folder: Path, table: str, **given: object) -> EvalSettings:
    (folder / "synood.toml").write_text(table)
    settings = Config.read(folder / "synood.toml").settings("eval", None, given)
    assert isinstance(settings, EvalSettings)
    return settings


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (["energy,MSP", "odin", "msp"], ("Energy", "MSP", "ODIN")),
        ("ViM, knn", ("ViM", "KNN")),
        (["all"], get_args(Baseline)),
        (["ash", "MSP"], ("ASH-S", "ASH-B", "MSP")),
        ("ash-b", ("ASH-B",)),
        ([], ()),
    ],
)
def test_names_are_listed_with_commas_or_one_by_one_in_any_case(
    tmp_path: Path, said: object, means: tuple[str]
) -> None:
    assert settings_of(tmp_path, "", baselines=said).baselines == means


def test_a_name_that_is_none_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--baselines: Input should be 'MSP', .* or 'ASH-B' \(got 'Enery'\)"):
        settings_of(tmp_path, "", baselines=["Enery"])
    with pytest.raises(UsageError, match="--method: "):
        settings_of(tmp_path, "", method=[","])


def test_the_methods_own_settings_are_tables_of_the_file(tmp_path: Path) -> None:
    found = settings_of(tmp_path, '[eval]\nmethod = "all"\nadaneg.memory = 3\n[eval.baseline]\nknn_k = 7\n')
    assert (found.method, found.adaneg.memory, found.adaneg.gap) == (("mcm", "head", "eq2", "adaneg"), 3, 0.5)
    assert found.baseline.knn_k == 7
    assert (AdaNegSettings().memory, AdaNegSettings().beta) == (9, 5.0)  # those of the public code
    with pytest.raises(UsageError, match=r"\[eval\] adaneg: "):
        settings_of(tmp_path, "[eval.adaneg]\nmemory = 0\n")
