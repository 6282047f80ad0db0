"""Conversations that were once masked wrongly, each with what is right written out."""

# ruff: noqa: RUF001 (DeepSeek's marks are written with wide bars)

from __future__ import annotations

from functools import cache

import pytest
from chats import STYLES
from marked import marked_tokenizer, stops_of
from masked import Made, made_of
from talks import TOOLS, call, part, says, system, user
from tiny import CHATML, byte_level, sentencepiece
from tokenizers import AddedToken

FRUIT = [user("Name a fruit."), says("A cherry.")]
END = "<|im_end|>"
VICUNA = (
    "{% for m in messages %}"
    "{{ 'USER: ' + m.content + ' ' if m.role == 'user' else 'ASSISTANT: ' + m.content + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
OPENCHAT = (
    "{% for m in messages %}{{ 'GPT4 Correct ' + m.role.title() + ': ' + m.content + '<|end_of_turn|>' }}{% endfor %}"
    "{% if add_generation_prompt %}GPT4 Correct Assistant:{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else "
    "' ' + m.content + eos_token }}{% endfor %}"
)
UNASKED = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
NAMED = CHATML.replace("{{ m.role }}", "{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}")


def on(template: str, row: dict | list, **settings) -> Made:
    """What one of the stored templates makes of a row, or of messages."""
    row = {"messages": row} if isinstance(row, list) else row
    return made_of(marked_tokenizer(template), row, stops_of(template), **settings)


@cache
def chatml(template: str = CHATML):
    return byte_level(END, "<|im_start|>", chat_template=template)


class TestOneTurn:
    """A user's turn and an answer, "A cherry."."""

    @pytest.mark.parametrize(
        ("template", "right", "flags"),
        [
            ("gptoss", "<|channel|>final<|message|>A cherry.<|return|>", set()),
            ("qwen3", "<think>\n\n</think>\n\nA cherry.<|im_end|>", set()),
            ("glm4moe", "\n<think></think>\nA cherry.<|endoftext|>", {"eos_added"}),
            ("cohere2", "A cherry.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", set()),
            ("smolvlm", " A cherry.<end_of_utterance>", set()),
            ("idefics3", " A cherry.<end_of_utterance>", set()),
            ("llava_next", " A cherry.</s>", set()),
            ("muse_glimmer", " to=user<|message|>A cherry.<|eot|>", set()),
            ("phi3", "A cherry.<|end|>", set()),
            # the prompt opens a thought: two newlines are one token, of which the prompt has half
            ("qwen3_5_think", "\n</think>\n\nA cherry.<|im_end|>", {"merged_boundary"}),
            ("qwen3_6", "\n</think>\n\nA cherry.<|im_end|>", {"merged_boundary"}),
            ("qwen3_8", "\n</think>\n\nA cherry.<|im_end|>", {"merged_boundary"}),
            # and here the template goes on in another way than the prompt asks
            ("deepseek_r1_distill", "A cherry.<｜end▁of▁sentence｜>", {"prompt_not_continued"}),
            ("deepseekv3", "A cherry.<｜end▁of▁sentence｜>", {"prompt_not_continued"}),
            ("nemotron_3_nano", "</think>A cherry.<|im_end|>", {"prompt_not_continued"}),
            ("nemotron_3_super", "</think>A cherry.<|im_end|>", {"prompt_not_continued"}),
        ],
    )
    def test_what_the_template_writes(self, template, right, flags):
        made = on(template, FRUIT)
        assert made.trained == [[right]]
        told = {"eos_added", "merged_boundary", "prompt_not_continued"}
        assert made.flags & told == flags

    def test_what_stands_before_it(self):
        (text,) = on("gptoss", FRUIT).texts
        assert text.endswith(
            "<|start|>user<|message|>Name a fruit.<|end|><|start|>assistant<|channel|>final<|message|>"
            "A cherry.<|return|>"
        )
        (text,) = on("smolvlm", FRUIT).texts
        assert text.startswith("<|im_start|>User: Name a fruit.<end_of_utterance>\nAssistant: A cherry.")
        (text,) = on("nemotron_3_nano", FRUIT).texts
        assert text.endswith("<|im_start|>assistant\n<think></think>A cherry.<|im_end|>")
        (text,) = on("deepseek_r1_distill", FRUIT).texts
        assert "<think>" not in text

    @pytest.mark.parametrize("template", ["qwen3_5_think", "qwen3_6", "qwen3_8", "nemotron_3_nano"])
    def test_the_remedies_of_an_opened_thought(self, template):
        thought = on(template, [FRUIT[0], says("A cherry.", reasoning_content="Red and round.")])
        assert thought.trained[0][0].startswith("Red and round.\n</think>\n")
        assert not thought.flags & {"prompt_not_continued", "merged_boundary"}
        row = {"messages": FRUIT, "chat_template_kwargs": {"enable_thinking": False}}
        for made in (on(template, row), on(template, FRUIT, arguments='{"enable_thinking": false}')):
            assert made.trained == [["A cherry.<|im_end|>"]]
            assert "prompt_not_continued" not in made.flags

    @pytest.mark.parametrize(
        ("tokenizer", "right"),
        [
            (sentencepiece("first", chat_template=STYLES["llama2"][0]), "A cherry. </s>"),
            (byte_level("</s>", "<s>", chat_template=VICUNA), " A cherry.</s>"),
            (byte_level("<|end_of_turn|>", chat_template=OPENCHAT), " A cherry.<|end_of_turn|>"),
            (byte_level("</s>", "[INST]", "[/INST]", chat_template=MISTRAL), " A cherry.</s>"),
        ],
        ids=["llama2", "vicuna", "openchat", "mistral"],
    )
    def test_a_space_before_the_answer_in_every_turn(self, tokenizer, right):
        tokenizer.bos_token = tokenizer.bos_token or "<s>"
        made = made_of(tokenizer, {"messages": [*FRUIT, user("Another."), says("A cherry.")]})
        (sequence,) = made.trained
        assert sequence == [right, right]
        (each,) = made.sequences
        begin = next(place for place, label in enumerate(each.labels) if label != -100)
        assert tokenizer.convert_ids_to_tokens(each.input_ids[begin])[0] in "Ġ▁"

    def test_a_template_that_is_not_asked(self):
        made = made_of(chatml(UNASKED), {"messages": FRUIT})
        assert made.trained == [["<|im_start|>assistant\nA cherry.<|im_end|>"]]
        assert "no_generation_prompt" in made.flags

    @pytest.mark.parametrize(
        ("template", "right"), [("llama3", "Hello there<|eot_id|>"), ("gemma3", "Hello there<end_of_turn>")]
    )
    def test_trimmed_by_the_template(self, template, right):
        assert on(template, [user("Hi"), says(" Hello there ")]).trained == [[right]]

    def test_a_system_turn_that_is_not_taken_in_is_refused(self):
        made = on("gemma3", [system("Greet."), says("Hello.")])
        assert not made.sequences
        assert "Conversation roles must alternate" in made.problem

    def test_an_end_of_turn_that_is_not_special(self):
        tokenizer = byte_level("</s>", chat_template=CHATML)
        tokenizer.add_tokens([AddedToken(END, special=False), AddedToken("<|im_start|>", special=False)])
        assert made_of(tokenizer, {"messages": FRUIT}).trained == [["A cherry.<|im_end|>"]]


class TestFields:
    """Keys of a message besides its role and content."""

    @pytest.mark.parametrize("off", [{"weight": 0}, {"loss": False}, {"train": False}])
    def test_a_turn_switched_off(self, off):
        colours = [user("Tell me a colour."), says("WRONGFIRST", **off), user("Try again."), says("Blue.", weight=1)]
        made = on("qwen2_5", colours)
        assert made.trained == [["Blue.<|im_end|>"]]
        assert "WRONGFIRST" in made.texts[0]

    @pytest.mark.parametrize("switch", [{"weight": 2}, {"weight": 0.5}, {"loss": "no"}, {"train": []}])
    def test_a_switch_that_is_neither_on_nor_off_is_refused_by_name(self, switch):
        made = on("qwen2_5", [user("x"), says("y", **switch)])
        assert not made.sequences
        assert next(iter(switch)) in made.problem

    @pytest.mark.parametrize("content", ["", None])
    @pytest.mark.parametrize("arguments", ['{"city": "Oslo"}', {"city": "Oslo"}])
    @pytest.mark.parametrize(
        ("template", "right"),
        [
            ("qwen2_5", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'),
            ("llama3_1", '{"name": "get_weather", "parameters": {"city": "Oslo"}}<|eot_id|>'),
            ("gptoss", ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Oslo"}<|call|>'),
            ("lfm2_v2", "<|tool_call_start|>[get_weather(city='Oslo')]<|tool_call_end|><|im_end|>"),
            (
                "glm4moe",
                "\n<think></think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n"
                "</tool_call><|endoftext|>",
            ),
            (
                "deepseekv3",  # joins the arguments to a text, so that they have to be one
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
                '{"city": "Oslo"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
            ),
        ],
    )
    def test_a_tool_call_in_the_templates_syntax(self, template, right, arguments, content):
        messages = [
            user("Weather in Oslo?"),
            says(content, tool_calls=[call(arguments)]),
            {"role": "tool", "tool_call_id": "c1", "content": "4 C"},
            says("It is 4 degrees."),
        ]
        made = on(template, {"messages": messages, "tools": TOOLS})
        answers = [run for sequence in made.trained for run in sequence]
        assert answers[0] == right
        assert "It is 4 degrees." in answers[1]
        assert not any(words.startswith("tool_calls") for each in made.sequences for _, words in each.notes)

    @pytest.mark.parametrize("template", ["llama3", "phi3", "lfm2"])
    def test_a_tool_call_that_the_template_does_not_show_is_told(self, template):
        messages = [user("Weather?"), says("", tool_calls=[call({"city": "Oslo"})]), user("So?"), says("4 C.")]
        assert "text_not_shown" in on(template, {"messages": messages, "tools": TOOLS}).flags

    @pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
    @pytest.mark.parametrize(
        ("template", "right"),
        [
            ("qwen3", "<think>\nTwo and two is four.\n</think>\n\n4<|im_end|>"),
            (
                "gptoss",
                "<|channel|>analysis<|message|>Two and two is four.<|end|><|start|>assistant<|channel|>final<|message|>"
                "4<|return|>",
            ),
        ],
    )
    def test_reasoning(self, template, right, key):
        made = on(template, [user("2+2?"), says("4", **{key: "Two and two is four."})])
        assert made.trained == [[right]]
        assert "text_not_shown" not in made.flags

    @pytest.mark.parametrize("key", ["reasoning_content", "thinking"])
    def test_reasoning_that_the_template_does_not_show_is_told(self, key):
        made = on("llama3", [user("2+2?"), says("4", **{key: "Two and two is four."})])
        assert made.trained == [["4<|eot_id|>"]]
        assert "text_not_shown" in made.flags

    def test_names(self):
        talk = [user("Hi", name="alice"), says("Hello.", name="bob")]
        assert "field_not_shown" in on("qwen3", talk).flags
        made = made_of(chatml(NAMED), {"messages": talk})
        assert "field_not_shown" not in made.flags
        assert made.texts == [
            "<|im_start|>user alice\nHi<|im_end|>\n<|im_start|>assistant\n bob\nHello.<|im_end|>"
        ] or ("alice" in made.texts[0])

    def test_documents(self):
        template = "{% for each in documents %}{{ each.title }}: {{ each.text }}\n{% endfor %}" + CHATML
        row = {"messages": FRUIT, "documents": [{"title": "Trees", "text": "A cherry grows on <|im_end|>."}]}
        made = made_of(chatml(template), row)
        assert made.trained == [["A cherry.<|im_end|>"]]
        assert made.texts[0].startswith("Trees: A cherry grows on <|im_end|>.\n<|im_start|>user")
        assert made.sequences[0].input_ids.count(chatml().eos_token_id) == 2

    def test_a_thought_closed_in_the_content(self):
        talk = [user("Add 3 and 4."), says("Three and four make seven.\n</think>\n\nSeven.")]
        assert on("qwen3", talk).trained == [["<think>\nThree and four make seven.\n</think>\n\nSeven.<|im_end|>"]]

    def test_parts(self):
        talk = [user([part("Name "), part("a fruit.")]), says([part("A "), part("cherry.")])]
        for template, right in (("smolvlm", " A cherry.<end_of_utterance>"), ("qwen2_5", "A cherry.<|im_end|>")):
            made = on(template, talk)
            assert made.trained == [[right]]
            assert "Name a fruit." in made.texts[0]


class TestListForm:
    """TRL's `prompt` and `completion` as lists of messages."""

    def test_the_turns_of_the_prompt_are_not_trained(self):
        prompt = [user("Example q"), says("Example a"), user("Real q")]
        assert on("qwen2_5", {"prompt": prompt, "completion": [says("Real a")]}).trained == [["Real a<|im_end|>"]]

    def test_all_turns_of_the_completion_are(self):
        completion = [says("calling"), {"role": "tool", "content": "4 C"}, says("It is 4.")]
        made = on("qwen2_5", {"prompt": [user("Weather?")], "completion": completion})
        assert made.trained == [["calling<|im_end|>", "It is 4.<|im_end|>"]]

    def test_a_turn_after_the_last_answer_is_told(self):
        made = on("qwen2_5", {"prompt": [user("Hi")], "completion": [says("Hello."), user("stray user turn")]})
        assert made.trained == [["Hello.<|im_end|>"]]
        assert "turns_left_out" in made.flags

    @pytest.mark.parametrize("prompt", [[user("Hi")], [user("Hi"), says("Hello.")]])
    @pytest.mark.parametrize("completion", [[], [user("x")]])
    def test_a_completion_without_an_answer_is_refused(self, prompt, completion):
        made = on("qwen2_5", {"prompt": prompt, "completion": completion})
        assert not made.sequences
        assert made.problem


class TestTold:
    """What is said of a conversation that is masked."""

    def test_an_empty_answer_and_a_typed_end_in_an_earlier_turn(self):
        empty = on("qwen2_5", [user("x"), says(""), user("y"), says("fine")])
        assert empty.trained == [["<|im_end|>", "fine<|im_end|>"]]
        assert "empty_completion" in empty.flags
        typed = on("qwen2_5", [user("x"), says("one<|im_end|>"), user("y"), says("fine")])
        assert "eos_typed" in typed.flags
        (sequence,) = typed.sequences
        assert list(sequence.labels).count(marked_tokenizer("qwen2_5").eos_token_id) == 2

    def test_history_that_is_written_anew(self):
        made = on("qwen3", [*FRUIT, user("Another."), says("A plum.")])
        assert made.trained == [
            ["<think>\n\n</think>\n\nA cherry.<|im_end|>"],
            ["<think>\n\n</think>\n\nA plum.<|im_end|>"],
        ]
        assert "history_rewritten" in made.flags
        assert [each.part for each in made.sequences] == [0, 1]
        assert {each.row for each in made.sequences} == {0}
        assert "<|im_start|>assistant\nA cherry.<|im_end|>" in made.texts[1]

    def test_an_end_that_only_the_last_turn_has(self):
        """gpt-oss ends an answer in one token, and an answer that is history in another, which ends nothing."""
        made = on("gptoss", [*FRUIT, user("Another."), says("A plum.")])
        assert [len(sequence) for sequence in made.trained] == [1, 1]
        assert "<|message|>A cherry.<|end|>" in made.texts[1]

    def test_two_users_in_a_row(self):
        assert "two_user_turns" in on("qwen2_5", [user("Hi."), user("Hello?"), says("Yes.")]).flags

    def test_a_last_turn_that_is_not_trained(self):
        made = on("qwen2_5", [*FRUIT, user("Another."), says("No.", weight=0)])
        assert made.trained == [["A cherry.<|im_end|>"]]
