"""The arithmetic that the tests run on is the one that the environment chooses.

`make other-cpu` computes as an older CPU would. Torch and the two libraries under it have a switch each:
ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA (convolutions) and MKL_ENABLE_INSTRUCTIONS (products of matrices). MKL heeds its
switch on Intel's CPUs only.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

SHOWN = """
import torch

torch.nn.functional.conv2d(torch.ones(4, 16, 64, 64), torch.ones(16, 16, 3, 3))
torch.ones(9, 9) @ torch.ones(9, 9)
"""


def test_threads_and_instructions_reach_torch() -> None:
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
    if chosen := os.environ.get("ATEN_CPU_CAPABILITY"):
        assert torch.backends.cpu.get_cpu_capability() == chosen.upper()


@pytest.mark.skipif("Intel" not in torch.__config__.show(), reason="this torch has neither MKL nor oneDNN")
@pytest.mark.parametrize(
    ("switch", "value", "said"),
    [("ONEDNN_MAX_CPU_ISA", "SSE41", "isa:Intel SSE4.1"), ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2", "SSE4.2) enabled")],
)
def test_the_libraries_under_torch_heed_their_switches(switch: str, value: str, said: str) -> None:
    environment = os.environ | {switch: value, "ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"}
    ended = subprocess.run([sys.executable, "-c", SHOWN], env=environment, capture_output=True, text=True, check=True)
    if "MKL" in switch and "Intel(R) Architecture processors" in ended.stdout:  # as MKL calls the CPUs of others
        pytest.skip("MKL heeds its switch on Intel's CPUs only")
    assert said in ended.stdout
