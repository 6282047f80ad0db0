from __future__ import annotations

import pytest
import torch
from tiny import tiny_gpt2, tiny_llama, tokenizer_named

from sftdemo.core.errors import ModelError
from sftdemo.data.chat import render_prompt
from sftdemo.data.examples import Example
from sftdemo.data.templates import RenderedPrompt, Segment, get_template
from sftdemo.mask.encoding import encoder_for
from sftdemo.model import generation, linear_layers
from sftdemo.model.generation import generate

PROMPTS = ["Say hello", "a", "Count to 3 and then Count to 3 again", "What is the capital of Italy?"]


def prompts_for(tokenizer, template: str = "instruction") -> list[RenderedPrompt]:
    return [render_prompt(Example(-1, "", instruction=text), get_template(template), tokenizer) for text in PROMPTS]


def by_hand(model, tokenizer, prompt: RenderedPrompt, count: int) -> str:
    """Greedy decoding, a whole forward a token, one prompt, no padding."""
    (encoded,) = encoder_for(tokenizer).encode_prompts([prompt])
    ids = list(encoded.ids)
    for _ in range(count):
        with torch.no_grad():
            token = model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item()
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return tokenizer.decode(ids[len(encoded.ids) :], skip_special_tokens=True)


@pytest.fixture(params=["gpt2", "llama"])
def pair(request):
    if request.param == "gpt2":
        return tiny_gpt2(tokenizer_named("gpt2")).eval(), tokenizer_named("gpt2")
    return tiny_llama(tokenizer_named("chatml")).eval(), tokenizer_named("chatml")


def always(model, token: int):
    """Makes the model say `token` whatever it is asked."""

    def prefer(_, __, output):
        output.logits[..., token] = 1e4
        return output

    return model.register_forward_hook(prefer)


def test_a_batch_answers_as_one_by_one(pair):
    model, tokenizer = pair
    prompts = prompts_for(tokenizer)
    together = generate(model, tokenizer, prompts, 12)
    assert [answer.prompt for answer in together] == [prompt.text for prompt in prompts]
    assert together == [generate(model, tokenizer, [prompt], 12)[0] for prompt in prompts]
    assert [answer.answer for answer in together] == [by_hand(model, tokenizer, prompt, 12) for prompt in prompts]
    assert len({answer.answer for answer in together}) > 1


def test_several_batches_keep_the_order(pair, monkeypatch):
    model, tokenizer = pair
    prompts = prompts_for(tokenizer)
    together = generate(model, tokenizer, prompts, 6)
    monkeypatch.setattr(generation, "BATCH_SIZE", 2)
    assert generate(model, tokenizer, prompts, 6) == together


def test_stop_reason_length(pair):
    model, tokenizer = pair
    always(model, tokenizer("a")["input_ids"][0])
    assert {(answer.stop, answer.answer) for answer in generate(model, tokenizer, prompts_for(tokenizer), 5)} == {
        ("length", "aaaaa")
    }


def test_stop_reason_eos(pair):
    model, tokenizer = pair
    always(model, tokenizer.eos_token_id)
    answers = generate(model, tokenizer, prompts_for(tokenizer), 5)
    assert {(answer.stop, answer.answer) for answer in answers} == {("EOS", "")}


def test_stop_reason_stopped(pair):
    model, tokenizer = pair
    letter = tokenizer("a")["input_ids"][0]
    always(model, letter)
    asked = iter([False, False, True])
    (answer,) = generate(model, tokenizer, prompts_for(tokenizer)[:1], 50, lambda: next(asked, True))
    assert answer.stop == "stopped"
    assert 1 <= len(answer.answer) <= 4


def test_a_stop_ends_the_batches_still_to_come(pair, monkeypatch):
    model, tokenizer = pair
    always(model, tokenizer("a")["input_ids"][0])
    monkeypatch.setattr(generation, "BATCH_SIZE", 1)
    answers = generate(model, tokenizer, prompts_for(tokenizer), 50, lambda: True)
    assert {answer.stop for answer in answers} == {"stopped"}
    assert all(len(answer.answer) <= 1 for answer in answers)


def test_a_chat_ends_at_what_the_template_puts_after_an_answer():
    tokenizer = tokenizer_named("chatml")
    model = tiny_llama(tokenizer).eval()
    model.generation_config.eos_token_id = None
    always(model, tokenizer.convert_tokens_to_ids("<|im_end|>"))
    (answer, *_) = generate(model, tokenizer, prompts_for(tokenizer, "chat"), 5)
    assert (answer.stop, answer.answer) == ("EOS", "")


def test_a_prompt_too_long(pair):
    model, tokenizer = pair
    long = RenderedPrompt((Segment("word " * 600, "prompt"),), chat=False)
    with pytest.raises(ModelError, match=r"prompt beginning 'word word.* has \d+ tokens; with 5 new ones.*Shorten it"):
        generate(model, tokenizer, [long], 5)


def test_just_short_enough():
    tokenizer = tokenizer_named("gpt2")
    model = tiny_gpt2(tokenizer)
    (token,) = tokenizer("a")["input_ids"]
    prompt = RenderedPrompt((Segment(tokenizer.decode([token]) * 251, "prompt"),), chat=False)
    assert len(encoder_for(tokenizer).encode_prompts([prompt])[0].ids) + 5 == model.config.n_positions
    assert len(generate(model, tokenizer, [prompt], 5)) == 1
    with pytest.raises(ModelError, match="256 positions"):
        generate(model, tokenizer, [prompt], 6)


def test_an_empty_prompt_needs_a_bos():
    empty = RenderedPrompt((), chat=False)
    with pytest.raises(ModelError, match="prompt is empty"):
        generate(tiny_gpt2(tokenizer_named("gpt2")), tokenizer_named("gpt2"), [empty], 5)


def test_no_prompts(pair):
    assert generate(*pair, [], 5) == []


def test_the_model_is_left_as_it_was(pair):
    model, tokenizer = pair
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generate(model, tokenizer, prompts_for(tokenizer), 3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "own", [{"num_beams": 3}, {"repetition_penalty": 9.0}, {"forced_eos_token_id": 5}, {"bad_words_ids": [[10**12]]}]
)
def test_the_models_own_ways_to_generate_do_not_count(pair, own):
    model, tokenizer = pair
    plain = generate(model, tokenizer, prompts_for(tokenizer), 8)
    model.generation_config.update(**own)
    kept = model.generation_config
    assert generate(model, tokenizer, prompts_for(tokenizer), 8) == plain
    assert model.generation_config is kept


@pytest.mark.parametrize(("free", "copied"), [(0, False), (10**9, True)])
def test_the_weights_are_copied_only_where_there_is_room(monkeypatch, free, copied):
    monkeypatch.setattr(linear_layers, "free_memory", lambda: free)
    model = tiny_llama(tokenizer_named("chatml"))
    layers = [each for each in model.modules() if type(each) is torch.nn.Linear and linear_layers.is_supported(each)]
    with linear_layers.onednn_layout(model, 2):
        assert {"forward" in vars(layer) for layer in layers} <= {copied}
    assert not any("forward" in vars(layer) for layer in layers)


def test_an_answer_ends_where_the_model_computes_no_number(pair):
    model, tokenizer = pair
    prompts = prompts_for(tokenizer)
    usual = generate(model, tokenizer, prompts, 6)

    def spoil(_, __, output):
        said["tokens"] += 1
        if said["tokens"] > 3:
            output.logits[1] = float("nan")
        return output

    hook, said = model.register_forward_hook(spoil), {"tokens": 0}
    found = generate(model, tokenizer, prompts, 6, checked=False)
    lost = [answer for answer in found if answer.stop == "NaN"]
    assert [answer for answer in found if answer.stop != "NaN"] == [
        each for each in usual if each.prompt != lost[0].prompt
    ]
    assert [answer.tokens for answer in lost] == [3]
    said["tokens"] = 0
    with pytest.raises(ModelError, match="no number"):
        generate(model, tokenizer, prompts, 6)
    hook.remove()
