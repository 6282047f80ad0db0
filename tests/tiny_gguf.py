"""A GGUF file small enough to be made in a test."""

from __future__ import annotations

import json
from pathlib import Path

from gguf import GGUFWriter
from tiny import tiny_llama, tokenizer_named


def tiny_gguf(path: Path) -> None:
    """The smallest model of llama's kind, with a tokenizer of GPT-2's kind."""
    tokenizer = tokenizer_named("gpt2")
    model = tiny_llama(tokenizer)
    config, known = model.config, sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(known))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([text for text, _ in known])
    writer.add_token_types([1] * len(known))
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, weight in model.state_dict().items():
        own = name.removesuffix(".weight")
        if own in names:
            writer.add_tensor(f"{names[own]}.weight", weight.numpy())
        else:
            _, _, layer, part = own.split(".", 3)
            writer.add_tensor(f"blk.{layer}.{parts[part]}.weight", weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
