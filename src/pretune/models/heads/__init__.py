"""What turns pooled features into outputs: one file per kind of head."""

from pretune.models.heads._base import Head, HeadModule

__all__ = ["Head", "HeadModule"]
