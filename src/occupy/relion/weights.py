"""What RELION's prior did to a class: means over shells of the weights it hands over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.io.exchange import Exchange, half_complex

MOST_VALUES = 3_000_000
"""Weights read from a file; of larger ones every second, third … row is enough for means over shells."""


@dataclass(frozen=True)
class Weights:
    """Means over shells of what RELION knows.

    Attributes
    ----------
    weight : ndarray of float32, shape (shells,)
        Mean weight.
    factor : ndarray of float32, shape (shells,)
        Mean of W / (W + 1/(T τ²)): what the prior left.
    """

    weight: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]


def read_weights(call: Exchange) -> Weights:
    """Read the weights of a call and average them over shells.

    The file is mapped, and of a large one only every n-th row is read.
    """
    grid = half_complex(call.weight)
    n = grid.shape[0]
    reach = int((call.shells - 1) * call.padding) + 1
    k = np.fft.fftfreq(n) * n
    rows = np.flatnonzero(np.abs(k) <= reach)
    columns = min(grid.shape[2], reach + 1)
    step = max(1, round((len(rows) ** 2 * columns / MOST_VALUES) ** 0.5))
    rows = rows[::step]
    values = np.asarray(grid[np.ix_(rows, rows, np.arange(columns))], dtype=np.float64)
    squares = k[rows][:, None, None] ** 2 + k[rows][None, :, None] ** 2 + np.arange(columns) ** 2
    shell = np.rint(np.sqrt(squares) / call.padding).astype(np.intp)
    return shell_means(values, shell, call)


def shell_means(values: npt.NDArray[np.float64], shell: npt.NDArray[np.intp], call: Exchange) -> Weights:
    """Average weights and the prior's factor over shells."""
    inside = shell < call.shells
    values, shell = np.maximum(values[inside], 0), shell[inside]
    count = np.maximum(np.bincount(shell, minlength=call.shells), 1)
    mean = np.bincount(shell, values, call.shells) / count
    prior = np.zeros(call.shells)
    known = min(call.shells, len(call.tau2))
    # Sums over the padded grid are spread over padding³ as many points.
    prior[:known] = call.fudge * call.tau2[:known] * call.padding**3
    product = values * prior[shell]
    # RELION does not let weights fall below a thousandth of their shell's mean.
    product = np.maximum(product, 1e-3 * mean[shell] * prior[shell])
    factor = np.bincount(shell, product / (product + 1), call.shells) / count
    return Weights(mean.astype(np.float32), factor.astype(np.float32))
