"""The page as a whole: self-contained, escaped, complete, and as cheap for many images as for few."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline import photograph
from report_study import make_captions, make_eval, make_heads, make_selection, make_synthetic, random_scores
from synood_cli.errors import StoreError
from synood_cli.reports.page import report, write_report
from synood_cli.store.store import Artifact, Store

if TYPE_CHECKING:
    from conftest import Study

VOID = {"meta", "img", "br", "line", "path", "circle"}
HOSTILE = '<script>alert("1")</script>\x1b[2J\u202e'
ESCAPED = "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;\\x1b[2J\\u202e"


class Reader(HTMLParser):
    """Collects tags, texts and references; fails on a tag that closes what is not open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_every_part_is_there(store: Store, study: Study) -> None:
    page = report(store, study.evaluation)
    assert page.parts == ["detection", "synthesis", "labels", "losses", "failures", "lineage"]
    text = Reader(page.html).text
    for expected in (
        "60 in-distribution images against far (60), near (60)",
        "4 photographs of 2 classes selection@1",
        "abcdef012345",
        "centred-energy as in the release energy",
        "FPR95 the share of OOD images that pass the threshold",
        "In percent, with 95% bootstrap intervals",
        "4 photographs were redrawn towards the boundary m out = 2",
        "50.0% of the saved images are on its OOD side",
        "+4.00 → +0.00",
        "anvil 0.500",
        "Training loss: train-labels (head@3)",
        "Nothing failed.",
        "head@1: two labels are alike",
        "synood train-proj",
    ):
        assert expected in text, expected


def test_percentages_have_two_decimals(store: Store, study: Study) -> None:
    row = next(store.db.query("select * from metrics where method = 'SynOOD' and dataset = 'average'"))
    text = Reader(report(store, study.evaluation).html).text
    assert f"{100 * row['auroc']:.2f}" in text
    assert f"{100 * row['auroc_low']:.2f}–{100 * row['auroc_high']:.2f}" in text
    assert f"{100 * row['fpr95_other']:.2f}" in text
    assert f"{100 * row['fpr95']:.2f} (best)" in text


def test_parts_follow_the_lineage(store: Store, study: Study) -> None:
    ends = {"selection@1": [], "captions@1": [], "synthetic@1": ["synthesis"], "head@1": ["labels"]}
    ends["head@3"] = ["synthesis", "labels", "losses"]
    for name, parts in ends.items():
        page = report(store, store.get(name))
        assert page.parts == [*parts, "failures", "lineage"], name
        assert f"<h1>{name}</h1>" in page.html
        Reader(page.html)


def test_nothing_comes_from_elsewhere(store: Store, study: Study) -> None:
    page = report(store, study.evaluation).html
    tags = Reader(page).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "base"}
    references = [value for _, names in tags for name, value in names.items() if name in ("src", "href", "xlink:href")]
    assert references
    assert all(reference.startswith(("data:image/jpeg;base64,", "#")) for reference in references)
    assert not any(name.startswith("on") for _, names in tags for name in names)
    assert "url(" not in page
    assert "@import" not in page


def test_pictures_have_words_and_headers_have_a_scope(store: Store, study: Study) -> None:
    tags = Reader(report(store, study.evaluation).html).tags
    alts = [names["alt"] for tag, names in tags if tag == "img"]
    assert len(alts) == 8
    assert set(alts) == {
        "Photograph of cat", "Photograph of dog",
        "Synthetic neighbour of a photograph of cat", "Synthetic neighbour of a photograph of dog",
    }  # fmt: skip
    assert all("scope" in names or "aria-hidden" in names for tag, names in tags if tag == "th")
    for tag, names in tags:
        if tag == "svg":
            assert names.get("aria-hidden") == "true" or names["role"] == "img"
    identifiers = [names["id"] for _, names in tags if "id" in names]
    assert len(identifiers) == len(set(identifiers))
    targets = {names["href"][1:] for tag, names in tags if tag == "a"}
    assert targets <= set(identifiers)


def test_names_prompts_and_reasons_are_escaped(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    name = "<img src=x onerror=alert(1)>\x1b[31m\udcff.jpg"
    selection, images = make_selection(store, root, {HOSTILE: [photograph(root / "cat" / name, 1)]})
    captions = make_captions(store, selection, images, HOSTILE)
    synthetic = make_synthetic(store, captions, {images[0]: (3.0, 1.0)}, HOSTILE, HOSTILE)
    heads = make_heads(store, selection, synthetic, {images[0]: HOSTILE}, [1.0])
    folders = {"ind": f"/data/{HOSTILE}", HOSTILE: "/ood\udcff"}
    evaluation = make_eval(store, heads, random_scores([HOSTILE], 5), folders)
    store.db.table("failures").insert(
        {"artifact_id": evaluation.id, "item": HOSTILE, "reason": HOSTILE, "created_at": "now"}
    )
    store.db.execute("update artifacts set items_failed = 1 where id = ?", [evaluation.id])

    page = report(store, store.get("eval@1")).html
    page.encode("utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", page)
    tags = Reader(page).tags
    assert not [tag for tag, names in tags if tag == "script" or "onerror" in names]
    # class, top-1, prompt, negative label, OOD set, folder, failure and its reason
    assert page.count(ESCAPED) >= 8
    assert "cat/&lt;img src=x onerror=alert(1)&gt;\\x1b[31m\\xff.jpg" in page
    assert "/ood\\xff" in page
    assert any(names.get("alt") == 'Photograph of <script>alert("1")</script>\\x1b[2J\\u202e' for _, names in tags)


def test_a_photograph_that_is_gone_is_a_placeholder(store: Store, study: Study) -> None:
    for path in study.photos.rglob("*.jpg"):
        path.unlink()
    page = report(store, study.evaluation).html
    assert page.count("not shown: no such file or folder") == 4
    assert len([tag for tag, _ in Reader(page).tags if tag == "img"]) == 4


def test_without_bootstrap_there_are_no_intervals(store: Store, study: Study) -> None:
    store.db.execute("update metrics set auroc_low = null, auroc_high = null, fpr95_low = null, fpr95_high = null")
    page = report(store, study.evaluation).html
    assert 'class="interval"' not in page
    assert "bootstrap intervals" not in page


def test_the_same_artifacts_give_the_same_page(store: Store, study: Study, tmp_path: Path) -> None:
    paths = [tmp_path / "out" / name for name in ("a.html", "b.html")]
    for path in paths:
        assert write_report(store, study.evaluation, path)[0] == "detection"
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes() == report(store, study.evaluation).html.encode()


def test_a_link_in_the_workspace_is_replaced_and_not_followed(store: Store, study: Study, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    page = store.workspace.reports / "eval@1.html"
    page.symlink_to(precious)
    write_report(store, study.evaluation, page)
    assert (precious.read_text(), page.is_symlink()) == ("precious", False)
    (store.workspace.reports / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="is a symbolic link"):
        write_report(store, study.evaluation, store.workspace.reports / "elsewhere" / "precious")
    assert precious.read_text() == "precious"


def test_a_place_that_cannot_be_written(store: Store, study: Study, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"page\.html: a part of the path is a file, not a folder"):
        write_report(store, study.evaluation, tmp_path / "file" / "page.html")


def make_crowd(store: Store, root: Path, per_class: int) -> Artifact:
    photos = {
        name: [photograph(root / name / f"{k}.jpg", k, size=(8, 8)) for k in range(per_class)]
        for name in ("cat", "dog")
    }
    selection, ids = make_selection(store, root, photos)
    captions = make_captions(store, selection, ids, "sky")
    return make_synthetic(store, captions, {image: (5.0, image / 7) for image in ids}, "sky")


def test_many_images_take_no_more_queries_than_few(store: Store, tmp_path: Path) -> None:
    counts = []
    for per_class in (15, 60):
        synthetic = make_crowd(store, tmp_path / str(per_class), per_class)
        statements: list[str] = []
        store.db.conn.set_trace_callback(statements.append)
        page = report(store, synthetic)
        store.db.conn.set_trace_callback(None)
        assert page.html.count("<article") == 24
        assert f"{2 * per_class} photographs were redrawn" in page.html
        counts.append(len(statements))
    assert counts[0] == counts[1]
