"""The three linear models by their loss, and what people call them."""

from __future__ import annotations

from typing import Literal

LinkName = Literal["softmax", "sigmoid", "squared"]
"""softmax for one class out of several, sigmoid for any number of classes, squared for numbers."""
MODELS: dict[LinkName, str] = {"softmax": "logistic regression", "sigmoid": "logistic regression", "squared": "ridge regression"}
"""What a linear model with this loss and an L2 penalty is called."""
LOSSES: dict[LinkName, str] = {"softmax": "log loss", "sigmoid": "log loss summed over labels", "squared": "half the squared error"}
"""What the loss is called."""
