"""Ask this model as it was trained: `python use.py "PROMPT"`. A copy of this file lies in the folder of every run.

It needs transformers, torch and, for a LoRA adapter, peft. Prompt and end are in the folder: its chat template and its
generation config.
"""

import argparse
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


def load(base: str | None = None) -> tuple[Any, Any]:
    """Return the model and its tokenizer. `base` names the model under an adapter, if it is not on the Hub.

    Raises:
        OSError: if the model under an adapter is neither on this disk nor to be had from the Hub.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(str(FOLDER))
    if (FOLDER / "adapter_config.json").is_file():
        from peft import PeftConfig, PeftModel

        name = base or str(PeftConfig.from_pretrained(str(FOLDER)).base_model_name_or_path)
        try:
            AutoConfig.from_pretrained(name)  # its smallest file: without the Hub each costs half a minute
        except OSError as error:
            raise OSError(
                f"the model under this adapter, {name}, is not on this disk, and the Hub does not give it. Name "
                "a folder of it (--base FOLDER), or export the run where it was trained with all weights (--to merged)."
            ) from error
        model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(name, dtype="float32"), FOLDER)
    else:
        model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype="float32")
    model.generation_config = GenerationConfig.from_pretrained(FOLDER)
    return model.eval(), tokenizer


def ask(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int = 256, **more: str) -> str:
    """Return the most likely answer. `more` are further keys of the message, such as an instruction's `input`."""
    messages = [{"role": "user", "content": prompt, **more}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    length = inputs["input_ids"].shape[1]
    room = (getattr(model.config, "max_position_embeddings", None) or length + max_new_tokens) - length
    output = model.generate(**inputs.to(model.device), max_new_tokens=min(max_new_tokens, room), do_sample=False)
    return tokenizer.decode(output[0, length:], skip_special_tokens=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask this model as it was trained.")
    parser.add_argument("prompt")
    parser.add_argument("--input", default="", help="the input of an instruction, if it has one")
    parser.add_argument(
        "--base", help="a folder or Hub id of the model under an adapter, if it is not the trained one's"
    )
    parser.add_argument("--max-new-tokens", type=int, default=256)
    options = parser.parse_args()
    try:
        model, tokenizer = load(options.base)
    except OSError as error:
        raise SystemExit(f"error: {error}") from None
    more = {"input": options.input} if options.input else {}
    print(ask(model, tokenizer, options.prompt, options.max_new_tokens, **more))


if __name__ == "__main__":
    main()
