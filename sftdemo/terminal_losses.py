"""Draws the loss of every token in the terminal, with rich: the bluer its ground, the more it surprised the model."""

from __future__ import annotations

from rich.text import Text

from .events import TokenLosses
from .rendering import column_name, harmless

TOP = 8.0  # nats that have the full colour
_EMPTY, _FULL = (235, 240, 245), (31, 111, 178)  # of the ground under black letters


def token_losses(event: TokenLosses, in_colour: bool) -> Text:
    """A row's tokens, once for each model; without colours each token has its loss in nats behind it. What is trained
    is underlined, or in brackets."""
    trained = sum(token[3] for token in event.tokens)
    where = "held out" if event.source == "held out" else "training row"
    text = Text(f"row {event.row} · {where} · {trained} of {len(event.tokens)} tokens trained\n", "bold")
    for weight, losses in zip(event.weights, event.losses, strict=True):
        kept = [loss for loss, token in zip(losses, event.tokens[1:], strict=True) if token[3]]
        mean = f", {sum(kept) / len(kept):.2f} nats a trained token" if kept else ""
        text.append(f"{column_name(weight)}{mean}\n", "dim")
        for (shown, _, _, is_trained, breaks), loss in zip(event.tokens, [None, *losses], strict=True):
            text.append(*_token(harmless(shown), is_trained, loss, in_colour))
            text.append("\n" * breaks)
        text.append("\n")
    return text


def _token(shown: str, is_trained: bool, loss: float | None, in_colour: bool) -> tuple[str, str]:
    if not in_colour:
        behind = "" if loss is None else f"⟨{loss:.1f}⟩"
        return (f"[{shown}]" if is_trained else shown) + behind, ""
    share = min(1.0, (loss or 0.0) / TOP)
    red, green, blue = (round(low + share * (high - low)) for low, high in zip(_EMPTY, _FULL, strict=True))
    return shown, f"black on rgb({red},{green},{blue})" + (" underline" if is_trained else "")
