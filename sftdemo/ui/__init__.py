"""The page. The only part that imports gradio."""

from .page import build, launch

__all__ = ["build", "launch"]
