"""The tables of `synood eval`, as text, CSV, Markdown and LaTeX, and the command's new options."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import Ended, run_synood

from pipeline import photograph
from synood_cli.cli.eval_tables import Result, as_csv, as_latex, as_markdown
from synood_cli.reports.published import PUBLISHED, published_rows

if TYPE_CHECKING:
    from checkpoints import Checkpoints


def metric(method: str, dataset: str, auroc: float, **more: Any) -> dict[str, Any]:
    row = {"method": method, "head": "", "clip": "", "model": "", "adapts": False, "dataset": dataset, "auroc": auroc}
    row |= {"fpr95": 1 - auroc, "aupr_in": 0.5, "aupr_out": 0.5, "ind_accuracy": None, "ind_images": 4, "ood_images": 2}
    ends = {f"{name}_{end}": None for name in ("auroc", "fpr95") for end in ("low", "high")}
    return row | ends | {"fpr95_positive": "ind", "fpr95_other": 0.25} | more


def difference(**more: Any) -> dict[str, Any]:
    row = {"method": "100% & co_", "head": "head@2", "dataset": "a|b", "against_method": "MCM", "against_head": ""}
    row |= {"auroc": 0.1, "auroc_low": 0.05, "auroc_high": 0.15, "auroc_excludes_zero": True}
    row |= {"fpr95": -0.1, "fpr95_low": -0.3, "fpr95_high": 0.1, "fpr95_excludes_zero": False}
    return row | more


RESULT = Result(
    [
        metric("MCM", "a|b", 0.75),
        metric("MCM", "average", 0.75),
        metric("100% & co_", "a|b", 0.85, head="head@2"),
        metric("100% & co_", "average", 0.85, head="head@2"),
        metric("AdaNeg", "a|b", 0.9, head="head@2", adapts=True),
        metric("AdaNeg", "average", 0.9, head="head@2", adapts=True),
        metric("Energy", "a|b", 0.6, model="/models/resnet50"),
        metric("Energy", "average", 0.6, model="/models/resnet50"),
    ],
    [difference()],
    [],
    [],
    0.95,
    "ind",
)


def test_markdown_is_the_papers_layout() -> None:
    lines = as_markdown(RESULT).decode().splitlines()
    assert lines[0] == "In percent. FPR at 95% TPR: InD is positive (MCM, NegLabel, CSP, SynOOD)."
    assert lines[2:9] == [
        r"| method | a\|b AUROC ↑ | a\|b FPR95 ↓ |",
        "| --- | ---: | ---: |",
        "| MCM | 75.00 | 25.00 |",
        r"| 100% & co\_ (head@2) | 85.00 | 15.00 |",
        "| AdaNeg (head@2)† | 90.00 | 10.00 |",
        "| Energy (resnet50) | 60.00 | 40.00 |",
        "",
    ]
    assert (
        lines[-3]
        == r"| 100% & co\_ (head@2) | a\|b | +10.00 \[+5.00, +15.00\] | -10.00 \[-30.00, +10.00\] | AUROC not 0 |"
    )
    assert lines[-1] == "† adapts to the test images: its numbers depend on their order and mixture."


def test_a_rate_is_named_with_all_its_digits() -> None:
    assert as_markdown(RESULT._replace(tpr=0.999)).decode().startswith("In percent. FPR at 99.9% TPR: ")
    assert as_latex(RESULT._replace(tpr=0.29)).decode().startswith("% In percent. FPR at 29% TPR: ")


def test_rows_of_several_references_name_theirs() -> None:
    rows = [metric("MCM", "a", 0.7, head=f"head@{n}", clip=f"clip {n}") for n in (1, 2)]
    rows += [metric("NegLabel", "a", 0.8, head=f"head@{n}", clip=f"clip {n}") for n in (1, 2)]
    apart = [difference(method="NegLabel", head=f"head@{n}", dataset="a", against_head=f"head@{n}") for n in (1, 2)]
    result = RESULT._replace(rows=rows, differences=apart)
    text = as_markdown(result).decode()
    assert "Differences in points, with paired bootstrap intervals." in text
    assert "| NegLabel (head@2) | MCM head@2 | a | +10.00" in text
    assert "| MCM (head@1) | 70.00 | 30.00 |" in text
    assert r"NegLabel (head@1) & MCM head@1 & a & +10.00" in as_latex(result).decode()
    lines = list(csv.DictReader(io.StringIO(as_csv(result).decode())))
    assert [(line["head"], line["clip"], line["against_head"]) for line in lines[2:]] == [
        ("head@1", "clip 1", "head@1"),
        ("head@2", "clip 2", "head@2"),
    ]


def test_latex_is_escaped_and_balanced() -> None:
    text = as_latex(RESULT).decode()
    assert r"100\% \& co\_ (head@2) & 85.00 & 15.00 \\" in text
    assert r"AdaNeg (head@2)$\dagger$ & 90.00 & 10.00 \\" in text
    assert r" & \multicolumn{2}{c}{a\textbar{}b} \\" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    columns = re.search(r"\\begin{tabular}{(l[r]+)}", text)
    assert columns is not None
    assert columns[1] == "lrr"


def test_csv_has_all_numbers_and_the_difference_of_its_row() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(RESULT._replace(published=published_rows())).decode())))
    assert len(rows) == 8 + len(PUBLISHED)
    found = {(row["method"], row["dataset"]): row for row in rows if not row["source"]}
    row = found["100% & co_", "a|b"]
    assert (row["auroc"], row["against_method"], row["auroc_difference"], row["fpr95_difference_low"]) == (
        "0.85", "MCM", "0.1", "-0.3",
    )  # fmt: skip
    assert (found["AdaNeg", "a|b"]["adapts"], found["MCM", "a|b"]["adapts"]) == ("1", "0")
    assert found["Energy", "average"]["model"] == "/models/resnet50"
    printed = [row for row in rows if row["source"].startswith("published: Li et al., ICCV 2025")]
    assert len(printed) == len(PUBLISHED)
    assert {row["method"]: row["fpr95_positive"] for row in printed} == {
        "MCM": "ind", "NegLabel": "ind", "CSP": "ind", "AdaNeg": "ood", "SynOOD": "ind",
    }  # fmt: skip
    assert {row["tpr"] for row in rows} == {"0.95"}


def test_published_rows_stand_in_the_columns_that_they_share() -> None:
    text = as_markdown(
        RESULT._replace(
            rows=[metric("MCM", name, 0.5) for name in ("Textures", "iNaturalist", "average")],
            published=published_rows(),
            differences=[],
        )
    ).decode()
    assert r"| SynOOD \[published, ViT-B/16, imagenet-ood\] | 95.29 | 22.94 | 99.57 | 1.57 | 97.01 | 14.27 |" in text
    assert r"| AdaNeg†‡ \[published, ViT-B/16, imagenet-ood\] | – | – | – | – | 96.66 | 18.92 |" in text
    assert "‡ FPR95 under the other convention: OOD is positive (OpenOOD v1.5, AdaNeg)." in text
    assert "openood-imagenet" not in text


def test_published_rows_of_the_other_convention_are_marked_and_of_another_rate_left_out() -> None:
    rows = [metric("MCM", name, 0.5) for name in ("Textures", "iNaturalist", "average")]
    result = RESULT._replace(rows=rows, published=published_rows(), differences=[])
    turned = as_latex(result._replace(positive="ood")).decode()
    assert r"AdaNeg$\dagger$ [published, ViT-B/16, imagenet-ood] & -- & -- & -- & -- & 96.66 & 18.92 \\" in turned
    assert r"SynOOD$\ddagger$ [published, ViT-B/16, imagenet-ood] & 95.29 & 22.94" in turned
    assert "% ‡ FPR95 under the other convention: InD is positive (MCM, NegLabel, CSP, SynOOD)." in turned
    at_90 = as_markdown(result._replace(tpr=0.9)).decode()
    assert "Textures FPR90 ↓" in at_90
    assert r"| SynOOD \[published, ViT-B/16, imagenet-ood\] | 95.29 | – | 99.57 | – | 97.01 | – |" in at_90


ODD = 'a|b &amp; $x$ ~~c~~ <i>\n[d](e) `f`_g_ \\ "h" {%} #^'


def test_names_of_any_characters_stay_in_their_cells() -> None:
    result = RESULT._replace(
        rows=[metric("MCM", ODD, 0.5), metric("NegLabel", ODD, 0.6, head="head@1")],
        differences=[difference(method="NegLabel", head="head@1", dataset=ODD)],
    )
    markdown = as_markdown(result).decode()
    cell = r"a\|b \&amp; \$x\$ \~\~c\~\~ \<i\>\\n\[d\](e) \`f\`\_g\_ \\ " + '"h" {%} #^'
    assert f"| method | {cell} AUROC ↑ | {cell} FPR95 ↓ |" in markdown.splitlines()
    assert len({line.count("|") - line.count(r"\|") for line in markdown.splitlines()[2:5]}) == 1
    latex = as_latex(result).decode()
    cell = (
        r"a\textbar{}b \&amp; \$x\$ \textasciitilde{}\textasciitilde{}c\textasciitilde{}\textasciitilde{} "
        r"\textless{}i\textgreater{}\textbackslash{}n[d](e) `f`\_g\_ \textbackslash{} "
        r"\textquotedbl{}h\textquotedbl{} \{\%\} \#\textasciicircum{}"
    )
    assert rf" & \multicolumn{{2}}{{c}}{{{cell}}} \\" in latex.splitlines()
    rows = list(csv.DictReader(io.StringIO(as_csv(result).decode(), newline="")))
    assert [row["dataset"] for row in rows] == [ODD, ODD]


def test_the_papers_average_is_that_of_its_sets() -> None:
    """What the paper prints for SynOOD's four sets averages to what it prints as their average."""
    sets = [row for row in PUBLISHED if row.method == "SynOOD" and row.suite == "imagenet-ood"]
    four = [row for row in sets if row.dataset != "average"]
    [average] = [row for row in sets if row.dataset == "average" and row.backbone == "ViT-B/16"]
    assert len(four) == 4
    assert sum(row.auroc for row in four) / 4 == pytest.approx(average.auroc, abs=0.006)
    assert sum(row.fpr95 for row in four) / 4 == pytest.approx(average.fpr95, abs=0.006)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> Path:
    """A workspace with a head and eval@1 of every method."""
    root = tmp_path_factory.mktemp("study")
    for class_name in ("cat", "dog", "frog"):
        for number in range(3):
            photograph(root / "photos" / class_name / f"{number}.jpg", number, detail=number + 1)
    for number in range(4):
        photograph(root / "textures" / f"{number}.png", 100 + number, detail=1)
    (root / "candidates.txt").write_text("\n".join([*(f"thing {n}" for n in range(9)), "adj,odd", "adj,even"]))
    run_synood("init", root / "ws")
    models = f'clip = "{checkpoints.clip}"\nclassifier = "{checkpoints.classifier}"'
    (root / "ws/synood.toml").write_text(f'[models]\n{models}\n[execution]\ndevice = "cpu"\n[select]\nper_class = 3\n')
    for command in (
        ["select", root / "photos"],
        ["mine-labels", "--candidates", root / "candidates.txt", "--share", "0.5", "--pool", "csp"],
    ):
        assert run_synood(*command, "-w", root / "ws").code == 0
    return root


def evaluated(study: Path, *arguments: str | Path) -> Ended:
    images = ["--ind", study / "photos", "--ood", f"textures={study / 'textures'}"]
    return run_synood("eval", *images, *arguments, "-w", study / "ws")


EVERYTHING = ["--method", "mcm,head", "--method", "AdaNeg", "--baselines", "msp,Energy", "--bootstrap", "10"]


def test_everything_in_one_command(study: Path) -> None:
    ended = evaluated(study, *EVERYTHING, "--timing", "--compare", "published", "--json")
    assert (ended.code, ended.json["failed"]) == (0, 0)
    rows = [row for row in ended.json["rows"] if row["dataset"] == "textures"]
    assert [(row["method"], row["head"], row["adapts"]) for row in rows] == [
        ("MCM", "", False), ("CSP", "head@1", False), ("Energy", "", False), ("MSP", "", False),
        ("AdaNeg", "head@1", True),
    ]  # fmt: skip
    assert {row["against_method"] for row in ended.json["differences"]} == {"CSP"}
    for row in ended.json["differences"]:
        outside = row["auroc_low"] > 0 or row["auroc_high"] < 0
        assert row["auroc_excludes_zero"] is outside
    [cost] = ended.json["resources"]
    assert (cost["added_parameters"], cost["learned_parameters"], cost["device"]) == (0, 0, "cpu")
    assert 0 < cost["milliseconds"] < 1000
    assert cost["clip_parameters"] > 1e6
    assert len(ended.json["published"]) == len(PUBLISHED)


def test_the_tables_of_everything(study: Path) -> None:
    said = evaluated(study, *EVERYTHING, "--compare", "published")
    assert said.code == 0
    metrics, differences, published = said.text.split("\n\n")
    assert metrics.splitlines()[1].split()[-2:] == ["model", "adapts"]
    assert [line.split()[-1] for line in metrics.splitlines()[-2:]] == ["adapts"] * 2
    assert differences.startswith("Differences from CSP head@1")
    assert published.splitlines()[0].startswith("Published, on that paper's images: Li et al., ICCV 2025")
    assert any(line.startswith("CSP ") and "95.76  17.51" in line for line in published.splitlines())


def test_from_an_evaluation_without_models_or_images(study: Path) -> None:
    first = evaluated(study, *EVERYTHING, "--json").json
    again = run_synood(
        "eval", "--from", first["artifact"], "--positive", "ood", "--against", "msp", "--csv", "-w", study / "ws"
    )
    assert again.code == 0
    rows = {(row["method"], row["dataset"]): row for row in csv.DictReader(io.StringIO(again.text))}
    assert len(rows) == len(first["rows"])
    for row in first["rows"]:
        other = rows[row["method"], row["dataset"]]
        assert (float(other["fpr95"]), float(other["auroc"])) == (row["fpr95_other"], row["auroc"])
        assert other["fpr95_positive"] == "ood"
    assert rows["CSP", "textures"]["against_method"] == "MSP"
    assert "embed" not in again.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "eval@1", "--ind", "."], "--ind and --from"),
        (["--from", "eval@1", "--head", "head@1"], "--head and --from"),
        (["--ood", "a=b"], "there are no in-distribution images"),
        (["--from", "eval@1", "--suite", "openood-imagenet"], "--suite and --from"),
        (["--from", "eval@1", "--csv", "--markdown"], "--csv and --markdown: one form of output at a time"),
        (["--from", "head@1"], "head@1 is a head; this command reads a eval"),
        (["--from", "eval@1", "--method", "csp"], "--method: Input should be 'mcm', 'head', 'eq2' or 'adaneg'"),
        (["--from", "eval@1", "--against", "nobody"], "--against 'nobody': no method or head"),
    ],
)
def test_what_makes_no_sense_is_refused(study: Path, arguments: list[str], message: str) -> None:
    assert evaluated(study, *EVERYTHING, "--quiet").code == 0
    ended = run_synood("eval", *arguments, "-w", study / "ws")
    assert ended.code == 2
    assert message in ended.err


def test_an_ood_set_cannot_take_the_name_of_the_ind_images_beside_one(study: Path) -> None:
    ended = run_synood("eval", "--ind", study / "photos", "--ood", f"ind:a={study / 'textures'}", "-w", study / "ws")
    assert (ended.code, "cannot be called 'ind:a'" in ended.err) == (2, True)
