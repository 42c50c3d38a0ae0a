"""Regularised linear models: one solver for three losses.

L-BFGS (Liu & Nocedal 1989) for softmax (single labels) and sigmoid (several labels), a closed form for squares (numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.evaluation.lbfgs import minimise
from pretune.evaluation.links import LinkName

Link = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(scores (…, C), targets (…, C)) -> loss of each row (…), residual (…, C) whose product with the features is the gradient."""


TOLERANCE = 1e-9
"""It has converged when a step lowers its objective by less than this share: probabilities are then within 1e-3 of scikit-learn's."""
_ROWS = 4_096
"""Rows that are taken to float64 at once."""


class Rows(Protocol):
    """Features (N, D) of examples: a dense or a sparse matrix."""

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        ...

    def __matmul__(self, weight: Tensor) -> Tensor:
        """Return (N, C) of a weight (D, C)."""
        ...

    def transposed_times(self, residual: Tensor) -> Tensor:
        """Return (D, C) of a residual (N, C)."""
        ...


class Dense:
    """A dense matrix (N, D)."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.shape = (tensor.shape[0], tensor.shape[1])

    def __matmul__(self, weight: Tensor) -> Tensor:
        return self.tensor @ weight

    def transposed_times(self, residual: Tensor) -> Tensor:
        """Return (D, C)."""
        return self.tensor.T @ residual

    def take(self, index: NDArray[np.int64]) -> Dense:
        """Return some rows."""
        return Dense(self.tensor[torch.from_numpy(index)])


@contextmanager
def one_thread() -> Generator[None]:
    """Compute on one thread: the products are small, and on a busy machine waiting for a second thread took ten times longer."""
    many = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(many)


# --- losses --------------------------------------------------------------------------------------


def softmax(scores: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of one class out of several."""
    log_p = scores.log_softmax(-1)
    return -(goal * log_p).sum(-1), log_p.exp() - goal


def sigmoid(scores: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy, summed over classes."""
    loss = torch.nn.functional.softplus(scores) - goal * scores
    return loss.sum(-1), scores.sigmoid() - goal


def squared(scores: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Half the squared error."""
    residual = scores - goal
    return 0.5 * residual.square().sum(-1), residual


LINKS: dict[LinkName, Link] = {"softmax": softmax, "sigmoid": sigmoid, "squared": squared}


def outputs(rows: Rows, weight: Tensor) -> Tensor:
    """Return scores (N, C) of a weight and bias (D + 1, C)."""
    return rows @ weight[:-1] + weight[-1]


def fit(
    link: Link,
    rows: Rows,
    goal: Tensor,
    strength: float,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
    precondition: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return weight and bias, (D + 1, C), that minimise mean loss + |weight|² / (2 · strength · N).

    Args:
        link: the loss.
        rows: N rows of D columns.
        goal: (N, C).
        strength: inverse penalty C.
        start: (D + 1, C) near the minimum; zeros by default.
        tolerance: share by which a last step lowers the objective.
        precondition: a symmetric linear map of weights (D, C) that evens out the curvature; steps are taken before it.
    """
    if link is squared and isinstance(rows, Dense):
        return _ridge(rows.tensor, goal, 1 / strength)
    if link is softmax and goal.shape[1] == 2:
        begun = None if start is None else as_one(start)
        return as_two(fit(sigmoid, rows, goal[:, 1:], 2 * strength, begun, tolerance, precondition))
    count, width = rows.shape
    penalty = 1 / (strength * count)
    even = precondition or (lambda weight: weight)
    begin = torch.zeros(width + 1, goal.shape[1], dtype=goal.dtype) if start is None else start

    def weights(x_1P: Tensor) -> Tensor:
        x = x_1P.view(width + 1, -1)
        return begin + torch.cat([even(x[:-1]), x[-1:]])

    def objective(x_1P: Tensor) -> tuple[Tensor, Tensor]:
        weight = weights(x_1P)
        loss, residual = link(outputs(rows, weight), goal)
        residual /= count
        slope = torch.cat([even(rows.transposed_times(residual) + penalty * weight[:-1]), residual.sum(0, keepdim=True)])
        return (loss.mean() + 0.5 * penalty * weight[:-1].square().sum())[None], slope.reshape(1, -1)

    return weights(minimise(objective, torch.zeros_like(begin).reshape(1, -1), tolerance))


def as_one(weight: Tensor) -> Tensor:
    """Return the one column (…, 1) of a sigmoid that two columns of a softmax amount to.

    A softmax over two classes is a sigmoid of the difference of their scores, which takes half the products; at its minimum the
    columns are opposite, so that the penalty at twice the strength is the same.
    """
    return weight[..., 1:] - weight[..., :1]


def as_two(weight: Tensor) -> Tensor:
    """Return the two columns (…, 2) of a softmax that one column of a sigmoid amounts to."""
    return torch.cat([-weight / 2, weight / 2], -1)


def _ridge(x_ND: Tensor, y_NC: Tensor, penalty: float) -> Tensor:
    """Return the minimum of the squared loss in closed form: descent is slow where columns resemble each other.

    In float64: rounding of the sums of many rows in float32 is more than a weak penalty.
    """
    middle_D, middle_C = x_ND.mean(0, dtype=torch.float64), y_NC.double().mean(0)
    normal = penalty * torch.eye(x_ND.shape[1], dtype=torch.float64)
    wanted = normal.new_zeros(x_ND.shape[1], y_NC.shape[1])
    for some, goal in zip(x_ND.split(_ROWS), y_NC.split(_ROWS), strict=True):
        centred = some.double() - middle_D
        normal += centred.T @ centred
        wanted += centred.T @ (goal - middle_C)
    weight = torch.cholesky_solve(wanted, torch.linalg.cholesky(normal))
    return torch.cat([weight, (middle_C - middle_D @ weight)[None]]).to(x_ND.dtype)
