"""What hypothesis draws the settings of a run from: every field, within its limits."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from sftdemo.core.config import SETTINGS, RunConfig
from sftdemo.core.trl_settings import ALLOWED, LORA, TRACKING, write_pairs


def values(name: str):
    """What the setting may be."""
    setting = SETTINGS[name]
    if setting.choices:
        return st.sampled_from([*setting.choices])
    if setting.kind is bool:
        return st.booleans()
    low, high, _ = setting.limits
    return st.integers(low, high) if setting.kind is int else st.floats(low, high)


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(TEXT, PLAIN, max_size=2)
# Of these two the value is checked with the name; of the others where TRL is imported.
CHECKED = {
    "gradient_accumulation_steps": st.integers(1, 1024),
    "lora.init_lora_weights": st.sampled_from([True, "gaussian"]),
}
FOR_ALL = {name: VALUES for name in ALLOWED if name not in TRACKING} | CHECKED
FOR_FULL = {name: values for name, values in FOR_ALL.items() if not name.startswith(LORA)}
LENGTH = st.one_of(
    st.fixed_dictionaries({"steps": values("steps")}), st.fixed_dictionaries({"epochs": values("epochs")}), st.just({})
)
TEXTS = {
    "model": st.sampled_from(["gpt2", "my models/it's here", "C:\\new\\tiny", "naïve/$HOME", "no", "1e3", "~"]),
    "template": st.one_of(st.sampled_from(["alpaca", "chat"]), st.tuples(TEXT, TEXT).map("{instruction}".join), TEXT),
    "chat_template_kwargs": st.dictionaries(TEXT, TEXT | st.booleans(), max_size=2).map(json.dumps) | st.just(""),
    "prompts": st.lists(TEXT, max_size=3).map(tuple),
    "save_every": st.sampled_from([None, "1", "250", "10m", "0.5m"]),
}
METHODS = ("full", "merge", "film", "load_in_4bit")  # of which not all go together
OTHERS = st.fixed_dictionaries(
    {},
    optional=TEXTS
    | {name: values(name) for name in SETTINGS if name not in (*TEXTS, "steps", "epochs", *METHODS, "set")},
)


def _pairs(known: dict):
    names = st.lists(st.sampled_from(sorted(known)), max_size=3, unique=True)
    return names.flatmap(lambda names: st.fixed_dictionaries({name: known[name] for name in names})).map(write_pairs)


METHOD = st.one_of(
    st.fixed_dictionaries({"merge": st.booleans(), "set": _pairs(FOR_ALL)}),
    st.fixed_dictionaries({"film": st.booleans(), "load_in_4bit": st.booleans(), "set": _pairs(FOR_ALL)}),
    st.fixed_dictionaries({"full": st.just(True), "set": _pairs(FOR_FULL)}),
)


def configs():
    """Any settings that a run can have."""
    parts = st.tuples(LENGTH, METHOD, OTHERS)
    return parts.map(lambda drawn: RunConfig(**drawn[0], **drawn[1], **drawn[2]))
