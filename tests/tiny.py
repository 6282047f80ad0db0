"""Tokenizers and models small enough to be made in a test: nothing is downloaded."""

from __future__ import annotations

import json
from functools import cache

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CORPUS = [
    "### Instruction:\nSay hello\n\n### Response:\nHello world!",
    "### Instruction:\nCount to 3\n\n### Response:\n1 2 3",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "Q: What is the capital of Italy? A: Arr, the capital of Italy be Rome!",
    "user assistant system answer answers the question with a word or two words",
] * 4

# so that spaces, newlines, digits and what follows an apostrophe merge as well, as they do in a large vocabulary
RICH = (
    CORPUS
    + ["a  b    c\n\n  d\n\n\ne \n f\t\tg", "12 34 45 234 345 2024 1,234", "don't it's they'll 've (a) (b) \"a\" ..."]
    * 8
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# how Llama 3 cuts a text into words: a word may take one punctuation mark along, digits stand in threes
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content | trim }} {{ eos_token }}"
    "{% else %}[INST] {{ m.content | trim }} [/INST]{% endif %}{% endfor %}"
)


def _wrap(tokenizer: Tokenizer, chat_template: str | None = None, **special: str) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)
    wrapped.chat_template = chat_template
    return wrapped


def byte_level(
    *special: str, chat_template: str | None = None, pad_token: str | None = None, words=None, corpus=CORPUS
):
    """GPT-2's kind: byte-level BPE, the first special token is EOS, nothing is put before a text. `words` is the
    pre-tokenizer, where it is not GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = words or pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400 if corpus is CORPUS else 500,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return _wrap(tokenizer, chat_template, eos_token=special[0], pad_token=pad_token)


def llama3(*special: str, chat_template: str | None = None):
    """Llama 3's kind: byte-level BPE inside the words of a pattern of its own, `<|begin_of_text|>` before a text."""
    words = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    begin = "<|begin_of_text|>"
    tokenizer = byte_level("<|end_of_text|>", begin, *special, words=words, corpus=RICH).backend_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return _wrap(tokenizer, chat_template, bos_token=begin, eos_token="<|end_of_text|>")


def digits(*special: str, chat_template: str | None = None):
    """SmolLM2's kind: GPT-2's, except that every digit is a token."""
    words = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return byte_level(*special, chat_template=chat_template, words=words, corpus=RICH)


def trimming():
    """Pythia's kind: GPT-2's, except that the offsets it reports leave out the spaces that a token begins with."""
    tokenizer = byte_level("<|endoftext|>", corpus=RICH).backend_tokenizer
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return _wrap(tokenizer, eos_token="<|endoftext|>")


def spaces_added():
    """Phi's kind: GPT-2's with runs of spaces as tokens of their own, and one that swallows the spaces beside it."""
    wrapped = byte_level("<|endoftext|>", corpus=RICH)
    runs = [AddedToken(" " * count, normalized=False, special=False) for count in (2, 3, 4)]
    wrapped.add_tokens([*runs, AddedToken("<tool>", lstrip=True, rstrip=True, normalized=False, special=False)])
    return wrapped


def sentencepiece(scheme: str, chat_template: str | None = None):
    """Llama-2's kind: BPE with byte fallback, a space of its own before a text, `<s>` before it and no `</s>` after.

    `scheme` is Metaspace's prepend_scheme, or "legacy" for the normalizer that the first Llama files had.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    special = ["<unk>", "<s>", "</s>"]
    # merged over words, or a row of the corpus would become one token
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=460, special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)], show_progress=False
    )
    tokenizer.train_from_iterator((row.replace("\n", " ") for row in CORPUS), trainer)
    tokenizer = _without_special_bytes(tokenizer, special)
    if scheme == "legacy":
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return _wrap(tokenizer, chat_template, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _without_special_bytes(trained: Tokenizer, special: list[str]) -> Tokenizer:
    """The trainer makes every token it is given a special one; in a real file the bytes are ordinary."""
    content = json.loads(trained.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in special]
    return Tokenizer.from_str(json.dumps(content))


def appends_eos():
    """A tokenizer that puts `</s>` after every text by itself."""
    tokenizer = byte_level("</s>").backend_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return _wrap(tokenizer, eos_token="</s>", pad_token="</s>")


def unigram():
    """Unigram with pieces made by hand, because its trainer does not come to the same ones twice."""
    words = sorted({f"▁{word}" for row in CORPUS for word in row.split()})
    letters = sorted({letter for row in CORPUS for letter in row} - {" "})
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -4.0), *((word, -5.0) for word in words)]
    vocab = pieces + [(letter, -6.0) for letter in letters if letter not in dict(pieces)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    return _wrap(tokenizer, eos_token="</s>", unk_token="<unk>")


def characters():
    """One token a character, its id the character's ASCII code; `<s>` (128) begins a text and `</s>` (129) is EOS."""
    vocab = {chr(code): code for code in range(128)} | {"<s>": 128, "</s>": 129, "<unk>": 130}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 128)])
    return _wrap(tokenizer, INST, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


MAKERS = {
    "gpt2": lambda: byte_level("<|endoftext|>", pad_token="<|endoftext|>"),
    "chatml": lambda: byte_level("<|im_end|>", "<|im_start|>", "<|endoftext|>", chat_template=CHATML),
    "llama": lambda: sentencepiece("first", chat_template=INST),
    "llama_always": lambda: sentencepiece("always", chat_template=INST),
    "llama_legacy": lambda: sentencepiece("legacy", chat_template=INST),
    "appends_eos": appends_eos,
    "unigram": unigram,
    "llama3": llama3,
    "digits": lambda: digits("<|im_end|>", "<|im_start|>", "<|endoftext|>", chat_template=CHATML),
}

OTHERS = {"characters": characters, "trimming": trimming, "spaces_added": spaces_added}


@cache
def tokenizer_named(name: str) -> PreTrainedTokenizerFast:
    return (MAKERS | OTHERS)[name]()


def tiny_gpt2(tokenizer) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=256,
        n_embd=32,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    return GPT2LMHeadModel(config)


def tiny_llama(tokenizer) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config)
