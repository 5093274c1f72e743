"""synood: out-of-distribution detection with CLIP and synthesized near-boundary images (SynOOD, ICCV 2025)."""

__version__ = "0.1.0"
