"""The summary of `synood sweep`, as text and Markdown."""

from __future__ import annotations

import pytest

from synood_cli.cli.output import Output
from synood_cli.cli.sweep import as_table, show_summary
from synood_cli.stages.sweep import Spread, SummaryRow

ROWS = [
    SummaryRow(variant, None, dataset, 2, Spread(0.9, 0.01, 0.007), Spread(0.2, None, 0.0))
    for variant in ("a|b", "c_d")
    for dataset in ("x|y", "average")
]


def written(rates: set[tuple[float, str]], capfdbinary: pytest.CaptureFixture[bytes]) -> tuple[str, str]:
    show_summary(Output(json=False, quiet=False, verbose=False, color=False), ROWS, rates, "markdown")
    out, err = capfdbinary.readouterr()
    return out.decode(), err.decode()


def test_names_stay_in_their_cells(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    out, _ = written({(0.95, "ind")}, capfdbinary)
    assert out.splitlines() == [
        r"| variant | seeds | x\|y AUROC | x\|y FPR95 | average AUROC | average FPR95 |",
        "| --- | --- | --- | --- | --- | --- |",
        r"| a\|b | 2 | 90.00 ± 1.00 | 20.00 | 90.00 ± 1.00 | 20.00 |",
        r"| c\_d | 2 | 90.00 ± 1.00 | 20.00 | 90.00 ± 1.00 | 20.00 |",
    ]


@pytest.mark.parametrize(
    ("rates", "name"),
    [({(0.9, "ood")}, "FPR90"), ({(0.9, "ind"), (0.95, "ind")}, "FPR"), ({(0.995, "ind")}, "FPR99.5")],
)
def test_the_false_positive_rate_is_called_what_it_is(
    rates: set[tuple[float, str]], name: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    out, err = written(rates, capfdbinary)
    assert f"| average {name} |" in out.splitlines()[0]
    assert f"(n - 1). {name}: " in err
    assert as_table(ROWS, name)[0][-1] == f"average {name}"
