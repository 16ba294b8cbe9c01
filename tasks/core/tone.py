"""HDR and wide colour made SDR: one table from stored to displayed colour, which libavfilter applies everywhere.

PQ and HLG are read as BT.2100 defines them, HLG on a display of 1,000 nits. Reference white (203 nits, BT.2408) becomes
SDR white; what is brighter is squeezed into the top of the range, what is darker than KNEE stays as it is. Colours of
BT.2020 become those of BT.709, and those outside it are clipped. SDR is encoded for BT.1886.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.schema import Primaries, Transfer

Colors = NDArray[np.float64]

STEPS = 49
"""Entries along each side of the table; between them colours are interpolated."""
REFERENCE_WHITE_NITS = 203.0
PEAK_NITS = 1000.0
"""Becomes the brightest SDR; mastering metadata is too often missing or wrong to ask."""
KNEE = 0.8
"""Share of reference white up to which brightness is kept."""
SDR_GAMMA = 2.4
LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593])
BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)


def to_sdr(colors: Colors, transfer: Transfer, primaries: Primaries) -> Colors:
    """Displayed BT.709 colours (..., 3) of stored ones, both from 0 to 1."""
    if transfer == "sdr":
        linear = colors**SDR_GAMMA
    else:
        nits = pq_nits(colors) if transfer == "pq" else hlg_nits(colors)
        linear = nits / REFERENCE_WHITE_NITS
        brightest = np.maximum(linear.max(axis=-1, keepdims=True), 1e-9)
        linear = linear * (_squeeze(brightest) / brightest)
    if primaries == "bt2020":
        linear = linear @ BT2020_TO_BT709.T
    return np.asarray(np.clip(linear, 0.0, 1.0) ** (1 / SDR_GAMMA))


def pq_nits(signal: Colors) -> Colors:
    """Nits of a PQ signal (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return np.asarray(10_000 * (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1))


def hlg_nits(signal: Colors) -> Colors:
    """Nits of an HLG signal (ARIB STD-B67) on a display of PEAK_NITS, whose system gamma is 1.2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = (scene @ LUMINANCE_2020)[..., None]
    return np.asarray(PEAK_NITS * scene * np.maximum(luminance, 1e-9) ** 0.2)


def _squeeze(light: Colors) -> Colors:
    """Light from 0 to the peak (1 is reference white) as 0 to 1: itself up to KNEE, from there a hyperbola."""
    peak = PEAK_NITS / REFERENCE_WHITE_NITS
    a = -(KNEE**2) * (peak - 1) / (KNEE**2 - 2 * KNEE + peak)
    b = (KNEE**2 - 2 * KNEE * peak + peak) / (peak - 1)
    bent = (b + KNEE) ** 2 / (b - a) * (light + a) / np.maximum(light + b, 1e-9)
    return np.where(light <= KNEE, light, np.minimum(bent, 1.0))


@functools.cache
def table_file(transfer: Transfer, primaries: Primaries) -> Path:
    """The table as a .cube file for libavfilter's lut3d, made once per process and removed with it."""
    axis = np.linspace(0.0, 1.0, STEPS)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    rows = to_sdr(np.stack([red, green, blue], axis=-1), transfer, primaries).reshape(-1, 3)
    path = Path(_folder().name) / f"{transfer}_{primaries}.cube"
    with path.open("w", encoding="ascii") as file:
        file.write(f"LUT_3D_SIZE {STEPS}\n")
        np.savetxt(file, rows, fmt="%.6f")
    return path


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="reelflow-colour-")
