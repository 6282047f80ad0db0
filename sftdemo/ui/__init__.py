"""The page. The only part that imports gradio."""

from .page import build
from .serve import launch

__all__ = ["build", "launch"]
