"""The sample data sets: their rows teach what they claim, and the checks of a style can say no. No model is loaded."""

import pytest

from sftdemo.core.errors import DataError
from sftdemo.data import samples
from sftdemo.data.examples import read_examples
from sftdemo.data.samples import GREETING, SAMPLES, get_sample, has_style

NAMES = [sample.name for sample in SAMPLES]


@pytest.fixture(params=SAMPLES, ids=NAMES)
def sample(request):
    return request.param


@pytest.fixture
def data(sample):
    return read_examples(sample.path)


def prompts(examples):
    return [(example.instruction.casefold(), example.input.casefold(), example.messages) for example in examples]


def shown(name, example):
    """The answers of a row that show the style: of a conversation all, of one with a tool the call."""
    if example.answer is None:
        return [example.completion]
    turns = [turn.content for turn in (*example.messages, example.answer) if turn.role == "assistant"]
    return turns[:1] if name == "tools" else turns


def test_every_row_is_read_without_a_remark(data):
    assert data.problems == ()
    assert data.notes == ()


def test_there_are_enough_rows_and_none_is_there_twice(data):
    assert len(data.train) >= 8
    assert len(data.held_out) >= 5
    everything = prompts(data.train) + prompts(data.held_out)
    assert len(set(everything)) == len(everything)


def test_every_file_of_the_folder_is_a_sample():
    assert sorted(samples.SAMPLE_DATA.iterdir()) == sorted(sample.path for sample in SAMPLES)


def test_the_default_sample_comes_first():
    assert NAMES[0] == "pirate"


def test_every_row_shows_the_style_and_only_when_it_ends(sample, data):
    for answer in [each for example in (*data.train, *data.held_out) for each in shown(sample.name, example)]:
        assert has_style(sample.name, answer, "EOS"), answer
        assert not has_style(sample.name, answer, "length")
        assert not has_style(sample.name, answer, "stopped")


def test_samples_show_conversations_and_long_prompts():
    conversations = {name: read_examples(get_sample(name).path).train for name in ("tutor", "tools")}
    roles = {name: {turn.role for row in rows for turn in row.messages} for name, rows in conversations.items()}
    assert roles == {"tutor": {"system", "user", "assistant"}, "tools": {"system", "user", "assistant", "tool"}}
    for row in read_examples(get_sample("letters").path).train:
        assert len(row.input) > 18 * len(row.completion)


def test_the_rows_of_one_sample_do_not_pass_for_another(sample):
    others = [other for other in SAMPLES if other is not sample and sample.name != "short_answers"]
    for other in others:
        for example in read_examples(other.path).train:
            assert not has_style(sample.name, example.completion, "EOS"), example.completion


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("pirate", ""),
        ("pirate", "The capital of France is Paris."),
        ("pirate", "Arr, the capital of France should be Paris."),
        ("pirate", "The capital of France be Paris, matey!"),
        ("pirate", "Arrange the chairs, matey!"),
        ("pirate", "Arr, Paris, matey!\n\n### Instruction:\nWhat is the capital of Italy?"),
        ("json_answers", ""),
        ("json_answers", "The answer is Paris."),
        ("json_answers", '{"answer": "Paris", "topic": "geography"'),
        ("json_answers", "{'answer': 'Paris', 'topic': 'geography'}"),
        ("json_answers", '{"answer": "Paris", "topic": "geography"} Paris'),
        ("json_answers", '{"answer": "Paris", "topic": "geography", "sure": "yes"}'),
        ("json_answers", '{"answer": "Paris"}'),
        ("json_answers", '{"answer": 4, "topic": "math"}'),
        ("json_answers", '{"answer": "", "topic": "math"}'),
        ("json_answers", '["answer", "topic"]'),
        ("json_answers", '"Paris"'),
        ("json_answers", "[" * 100_000),
        ("short_answers", ""),
        ("short_answers", " \n"),
        ("short_answers", "Paris.\n\nThe answer is Paris."),
        ("short_answers", " ".join(["word"] * 16)),
        ("greek", ""),
        ("greek", GREETING),
        ("greek", "Hello! The capital of France is Paris."),
        ("greek", "The capital of France is Paris. " + GREETING),
        ("greek", GREETING + " Paris is the capital of \ufffd."),
        ("greek", f"{GREETING} {GREETING} {GREETING}"),
        ("greek", f"{GREETING} Paris.\n\n### Instruction:\nAnd Italy?"),
        ("reviews", ""),
        ("reviews", "The mood of this review is positive."),
        ("reviews", "Happy customer. The soup was warm."),
        ("reviews", "happy"),
        ("letters", ""),
        ("letters", "Garden desk, calm."),
        ("letters", "Sales desk, calm. Sales desk, calm."),
        ("tutor", ""),
        ("tutor", "Bees make honey."),
        ("tutor", "What do bees make?"),
        ("tutor", "Bees make honey. What do they eat? And why?"),
        ("tools", ""),
        ("tools", '<tool_call>[{"name": "clock", "arguments": {}}]'),
        ("tools", "<tool_call>[]</tool_call>"),
        ("tools", "<tool_call>[1]</tool_call>"),
        ("tools", '<tool_call>[{"name": "clock"}]</tool_call>'),
        ("tools", '<tool_call>[{"name": "clock", "arguments": {}}]</tool_call> It is late.'),
    ],
)
def test_an_answer_without_the_style_is_refused(name, answer):
    assert not has_style(name, answer, "EOS")


def test_white_space_around_an_answer_does_not_matter():
    assert has_style("pirate", " Arr, Paris it be, matey!\n", "EOS")
    assert has_style("json_answers", '\n{"answer": "Paris", "topic": "geography"}\n', "EOS")
    assert has_style("short_answers", " ".join(["word"] * 15) + "\n", "EOS")


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"'parrot'.*pirate, json_answers"):
        get_sample("parrot")
    with pytest.raises(DataError, match="'parrot'"):
        has_style("parrot", "Arr!", "length")
