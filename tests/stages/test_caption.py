import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from chat_server import completion, say, serving
from hostile import merged
from pipeline import Silent
from synood_cli.config import CaptionSettings, Execution, Models, SelectSettings
from synood_cli.errors import SynoodError, UsageError
from synood_cli.models.clip_tokens import count_clip_tokens
from synood_cli.stages.caption import caption
from synood_cli.stages.select import select

SETTINGS = CaptionSettings()
ONE = Execution(device="cpu", workers=1, concurrency=1)


@pytest.fixture
def selection(make_run, photos):
    return select(make_run(), SelectSettings(per_class=2), photos)


def prompts(store, captions):
    return {store.image(row["image_id"])["name"]: row for row in store.rows(captions, "prompts")}


def captions_file(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_captions_from_a_file(store, make_run, selection, photos, tmp_path):
    names = [store.image(row["image_id"])["name"] for row in store.rows(selection, "selected_images")]
    lines = [
        {"image": name, "caption": "The image shows grass, two cats, a wooden fence and the sky."} for name in names
    ]
    lines[1] = {"image": str(photos / names[1]), "elements": ["bamboo", "kittens", "cat"]}
    made = caption(make_run(), SETTINGS, Models(), selection, captions_file(tmp_path / "c.jsonl", lines))
    rows = prompts(store, made)
    assert len(rows) == 6
    second = rows[names[1]]
    assert json.loads(second["elements"])[0] == "bamboo"
    assert "cat" not in json.loads(second["elements"])
    first = rows[names[0]]
    assert first["raw_answer"] == "The image shows grass, two cats, a wooden fence and the sky."
    assert not any("cat" in element for element in json.loads(first["elements"]))
    assert first["prompt"] == f"A photo only remain {', '.join(json.loads(first['elements']))}."
    assert first["tokens"] == count_clip_tokens(first["prompt"])
    assert (first["model"], first["revision"]) == ("file", None)


def test_captions_of_photographs_that_were_renamed_since(store, make_run, selection, photos, tmp_path):
    rows = [store.image(row["image_id"]) for row in store.rows(selection, "selected_images")]
    renamed = photos.rename(tmp_path / "moved")
    for row in rows:
        path = renamed / row["name"]
        path.rename(path.with_name(f"new {path.name}"))
    select(make_run(), SelectSettings(per_class=4), renamed)
    places = [store.image(row["id"])["path"] for row in rows]
    assert places == [(renamed / row["name"]).with_name(f"new {Path(row['name']).name}") for row in rows]
    lines = [
        {"image": str(places[0]), "elements": ["place now"]},
        {"image": str(places[1].relative_to(tmp_path)), "elements": ["place now, relative"]},
        {"image": str(photos / rows[2]["name"]), "elements": ["place then"]},
        {"image": rows[3]["name"], "elements": ["name then"]},
    ]
    made = caption(make_run(), SETTINGS, Models(), selection, captions_file(tmp_path / "c.jsonl", lines))
    said = {name: row["raw_answer"] for name, row in prompts(store, made).items()}
    expected = ["place now", "place now, relative", "place then", "name then"]
    assert said == {row["name"]: text for row, text in zip(rows, expected, strict=False)}
    assert sorted(item for item, _ in store.failures(made)) == sorted(row["name"] for row in rows[4:])


def test_an_image_without_caption_is_a_failure(store, make_run, selection, tmp_path):
    names = [store.image(row["image_id"])["name"] for row in store.rows(selection, "selected_images")]
    lines = [{"image": name, "elements": ["grass"]} for name in names[1:]]
    lines.append({"image": names[0], "elements": 7})
    made = caption(make_run(), SETTINGS, Models(), selection, captions_file(tmp_path / "c.jsonl", lines))
    assert made.items_done == 5
    [(item, reason)] = store.failures(made)
    assert item == names[0]
    assert reason.startswith("no caption in ")
    [warning] = made.notes["warnings"]
    assert "line 6" in warning


def test_what_is_wrong_with_a_captions_file_is_told_of_the_file_that_was_given(store, make_run, selection, tmp_path):
    names = [store.image(row["image_id"])["name"] for row in store.rows(selection, "selected_images")]
    lines = [{"image": name, "elements": ["grass"]} for name in names]
    path = captions_file(tmp_path / "c.jsonl", lines)
    good = caption(make_run(), SETTINGS, Models(), selection, path)
    with path.open("a") as file:
        file.write('{"image"\n')
    bad = caption(make_run(), SETTINGS, Models(), selection, path)
    assert good.notes["warnings"] == []
    assert ["line 7: not JSON" in warning for warning in bad.notes["warnings"]] == [True]
    lines.reverse()
    again = caption(make_run(), SETTINGS, Models(), selection, captions_file(path, lines))
    assert (again.name, again.notes["warnings"]) == (good.name, [])


def test_a_description_of_the_main_object_alone_is_a_failure_and_failures_alone_are_no_captions(
    store, make_run, selection, tmp_path
):
    names = [store.image(row["image_id"])["name"] for row in store.rows(selection, "selected_images")]
    lines = [{"image": name, "elements": ["a cat", "dogs", "frog"]} for name in names]
    for line, name in zip(lines, names, strict=True):
        line["elements"] = [name.split("/")[0]]
    with pytest.raises(
        SynoodError, match=r"all 6 images failed; the first: cat/0.jpg: the description names only the main"
    ):
        caption(make_run(), SETTINGS, Models(), selection, captions_file(tmp_path / "c.jsonl", lines))
    [made] = store.artifacts("captions")
    assert (made.status, made.items_done, made.items_failed) == ("unfinished", 0, 6)
    assert all("names only the main object" in reason for _, reason in store.failures(made))


def test_long_descriptions_lose_whole_elements(store, make_run, selection, tmp_path):
    names = [store.image(row["image_id"])["name"] for row in store.rows(selection, "selected_images")]
    elements = [f"thing number {index}" for index in range(60)]
    lines = [{"image": name, "elements": elements} for name in names]
    made = caption(make_run(), SETTINGS, Models(), selection, captions_file(tmp_path / "c.jsonl", lines))
    for row in prompts(store, made).values():
        kept = json.loads(row["elements"])
        assert kept == elements[: len(kept)]
        assert (
            row["tokens"]
            <= 77
            < count_clip_tokens(SETTINGS.template.format(elements=", ".join(elements[: len(kept) + 1])))
        )


def test_clip_tags(store, make_run, selection, checkpoints, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("grass\nsky\nwater\nfence\nroad\ncat\n")
    models = Models(clip=str(checkpoints.clip), captioner="clip-tags")
    settings = CaptionSettings(tags=2, tag_z_score=0.0, tag_class_similarity=0.999)
    made = caption(make_run(), settings, models, selection, vocabulary=words)
    assert made.items_failed == 0
    for row in prompts(store, made).values():
        assert 1 <= len(json.loads(row["elements"])) <= 2
        assert set(json.loads(row["elements"])) <= {"grass", "sky", "water", "fence", "road", "cat"}
    words.write_text("grass\nsky\n")
    other = caption(make_run(), settings, models, selection, vocabulary=words)
    assert not other.reused


def test_a_photograph_that_grows_beyond_memory_when_it_is_scaled_is_a_failure(
    store, make_run, photos, checkpoints, tmp_path
):
    """Scaled until its shortest side has 64 pixels, this one would take 12 × 64 × 64 × 65,000 bytes: 3.2 GB."""
    captioner = shutil.copytree(checkpoints.captioner, tmp_path / "captioner")
    processor = json.loads((captioner / "processor_config.json").read_text())["image_processor"]
    merged(captioner, "processor_config.json", image_processor=processor | {"size": {"shortest_edge": 64}})
    Image.effect_noise((65_000, 1), 50).convert("RGB").save(photos / "cat/thin.jpg")
    selected = select(make_run(), SelectSettings(per_class=2), photos)
    made = caption(make_run(), CaptionSettings(max_new_tokens=6), Models(captioner=str(captioner)), selected)
    assert made.items_done == 5
    [(item, reason)] = store.failures(made)
    assert item == "cat/thin.jpg"
    assert "too long and thin" in reason


def test_a_multimodal_model_and_a_resumed_run(store, make_run, selection, checkpoints):
    models = Models(captioner=str(checkpoints.captioner))
    settings = CaptionSettings(max_new_tokens=6)
    with pytest.raises(KeyboardInterrupt):
        caption(make_run(batch_size=2, progress=Silent(stop_after=4)), settings, models, selection)
    [half] = store.artifacts("captions")
    before = half.items_done + half.items_failed
    assert before == 4
    progress = Silent()
    made = caption(make_run(batch_size=2, progress=progress), settings, models, selection)
    assert made.name == half.name
    assert made.items_done + made.items_failed == 6
    undisturbed = caption(make_run(batch_size=3, force=True), settings, models, selection)
    assert made.digest == undisturbed.digest
    model = store.models(made)["captioner"]
    assert model.name == str(checkpoints.captioner)
    assert len(model.revision or "") == 64


def answered(body):
    return lambda handler: handler.reply(200, body)


def test_reasoning_is_no_element_and_a_refusal_is_a_failure(store, make_run, selection):
    with serving() as server:
        server.script = [
            say("<think>The user wants a list. I see a red sofa.</think>\n\nlamp, window"),
            say("I'm sorry, but I can't help with identifying elements in this image."),
            say("<think>The user wants a list. I see a red sofa."),
            answered(completion(None, refusal="no")),
        ]
        models = Models(captioner="llava", captioner_url=server.url)
        made = caption(make_run(execution=ONE), SETTINGS, models, selection)
    names = list(prompts(store, made))
    first = prompts(store, made)[names[0]]
    assert first["prompt"] == "A photo only remain lamp, window."
    assert first["raw_answer"].startswith("<think>")
    assert [reason.partition(":")[0] for _, reason in store.failures(made)] == [
        "the model refused",
        "the model reasoned and gave no answer",
        "the model refused",
    ]
    assert "warnings" not in made.notes


def test_cut_answers_lose_their_last_element_and_are_counted(store, make_run, selection):
    with serving() as server:
        server.script = [
            answered(completion("lamp, window, pic", "length")),
            answered(completion('["lamp", "window", "pic', "length")),
            answered(completion("a very long descr", "length")),
            answered(completion("<think>I see a lam", "length")),
        ]
        models = Models(captioner="llava", captioner_url=server.url)
        with pytest.raises(KeyboardInterrupt):
            caption(make_run(execution=ONE, progress=Silent(stop_after=2)), SETTINGS, models, selection)
        made = caption(make_run(execution=ONE), SETTINGS, models, selection)
    cut = [row["prompt"] for row in prompts(store, made).values() if "grass" not in row["prompt"]]
    assert cut == ["A photo only remain lamp, window."] * 2
    assert [reason for _, reason in store.failures(made)] == [
        "the answer was cut off before its first element was whole; --max-new-tokens allows more than 96 tokens",
        "the model reasoned and gave no answer; --max-new-tokens allows more than 96 tokens",
    ]
    [warning] = made.notes["warnings"]
    assert warning.startswith("2 of the answers were cut off at 96 tokens, and lost their last element")
    assert "--max-new-tokens" in warning


def test_a_local_captioner_knows_which_answers_were_cut(store, make_run, selection, checkpoints):
    models = Models(captioner=str(checkpoints.captioner))
    whole = caption(make_run(), CaptionSettings(max_new_tokens=40), models, selection)
    assert "warnings" not in whole.notes
    short = caption(make_run(), CaptionSettings(max_new_tokens=4), models, selection)
    assert "were cut off at 4 tokens" in short.notes["warnings"][0]


def test_a_key_without_a_server_is_refused(make_run, selection):
    with pytest.raises(UsageError, match="a key is sent to a captioning server alone"):
        caption(make_run(), SETTINGS, Models(captioner="clip-tags"), selection, key_env="HOME")
