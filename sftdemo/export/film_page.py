"""Draw the film of a run for a page that needs no other file: the answers at each step, with a slider.

Every frame stands in the page as escaped text, so that without a script all can be read. `SCRIPT` only shows and hides
them; it is the one script that the page's policy lets run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from ..core.events import Failed, Frame, Phase
from ..runs.film import film, has_film
from ..runs.wording import column_name, moments

CHARACTERS = 500_000  # of answers and prompts in all frames, at most
SCRIPT = """
const film = document.getElementById("film"), frames = [...film.querySelectorAll(".frame")], last = frames.length - 1;
const reel = film.querySelector(".reel"), [play, slider, label] = reel.children;
let timer = null;
const show = (at) => {
  frames.forEach((frame, index) => { frame.hidden = index !== at; });
  slider.value = at;
  label.textContent = frames[at].querySelector("h3").textContent;
  slider.setAttribute("aria-valuetext", label.textContent);
};
const pause = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
const step = (by) => show(Math.min(Math.max(Number(slider.value) + by, 0), last));
slider.max = last;
slider.oninput = () => { pause(); step(0); };
play.onclick = () => {
  if (timer) { pause(); return; }
  if (Number(slider.value) === last) show(0);
  play.textContent = "Pause";
  timer = setInterval(() => { step(1); if (Number(slider.value) === last) pause(); }, 1100);
};
document.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.target === slider || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  pause();
  step(by);
});
reel.hidden = false;
show(last);
"""
STYLE = """
.reel { display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; position: sticky; top: 0;
  padding: .4rem 0; background: var(--paper); }
.reel:not([hidden]) ~ .frame h3 { display: none; }
.reel[hidden], .frame[hidden] { display: none; }
.reel input { flex: 1 1 14rem; accent-color: var(--trained-line); }
.reel button { font: inherit; min-width: 5rem; }
.reel output { min-width: 8rem; font-weight: 600; }
.frame h3 { font-size: 1rem; }
"""


def film_section(run: Path) -> Generator[Phase, None, str]:
    """Return the film of a run as HTML, and an empty text if it has kept none. A film that is not developed yet is
    developed, for which its base is needed; one that cannot be says why in the film's place."""
    if not has_film(run):
        return ""
    frames: list[Frame] = []
    for event in film(run):
        match event:
            case Frame():
                frames.append(event)
            case Phase():
                yield event
            case Failed():
                return f"<h2>The film</h2>\n<p>It could not be developed: {escape(event.message)}</p>"
            case _:
                pass
    return _drawn(frames) if frames else ""


def _drawn(frames: Sequence[Frame]) -> str:
    arms = [list(group) for _, group in groupby(frames, key=lambda frame: frame.prompt_loss_weight)]
    questions = _questions(arms)
    asked = len(arms[0][0].answers)
    about = "The answers to the held-out prompts and to those that were typed, after some of the steps."
    about += f" The first {questions} of {asked} prompts are shown." if questions < asked else ""
    told = "".join(f"<li>{escape(words)}</li>" for words in _moments(arms))
    most = max(len(arm) for arm in arms)
    steps = [[arm[min(index, len(arm) - 1)] for arm in arms] for index in range(most)]
    shown = "\n".join(_frame(each, questions) for each in steps)
    reel = (
        '<div class="reel" hidden><button type="button">Play</button>'
        '<input type="range" min="0" step="1" aria-label="step of the training"><output></output></div>'
    )
    return f'<h2>The film</h2>\n<div id="film"><p>{about}</p><ul>{told}</ul>{reel}\n{shown}\n</div>'


def _questions(arms: Sequence[Sequence[Frame]]) -> int:
    """Return how many of the questions are drawn, so that no more than `CHARACTERS` are, but for one."""
    frames = [frame for arm in arms for frame in arm]
    characters = count = 0
    for count in range(1, len(frames[0].answers) + 1):
        characters += sum(len(text) for frame in frames for text in frame.answers[count - 1])
        if characters > CHARACTERS:
            return max(1, count - 1)
    return count


def _moments(arms: Sequence[Sequence[Frame]]) -> Iterator[str]:
    for arm in arms:
        name = f"{column_name(arm[0].prompt_loss_weight)}: " if len(arms) > 1 else ""
        yield from (f"{name}{sentence}" for sentence in moments(list(arm)))


def _frame(frames: Sequence[Frame], questions: int) -> str:
    """Return what the models of all arms were after one step."""
    names = [f"{column_name(frame.prompt_loss_weight)} · " if len(frames) > 1 else "" for frame in frames]
    losses = [
        f"{name}held-out loss: answers {frame.completion_loss:.3f}, prompts {frame.prompt_loss:.3f}"
        for name, frame in zip(names, frames, strict=True)
        if frame.losses
    ]
    drawn = [f"<h3>step {frames[0].step}</h3>", *(f'<p class="soft">{words}</p>' for words in losses)]
    for index in range(questions):
        prompt, source, *_ = frames[0].answers[index]
        answers = [(name, *frame.answers[index][2:]) for name, frame in zip(names, frames, strict=True)]
        said = "".join(
            f'<div><span class="soft">{name}{escape(stop)}</span>\n{escape(answer)}</div>'
            for name, answer, stop in answers
        )
        asked = f'<div class="prompt">{escape(prompt)} <span class="soft">({escape(source)})</span></div>'
        drawn.append(f'<div class="answers">{asked}{said}</div>')
    return f'<div class="frame">{"".join(drawn)}</div>'
