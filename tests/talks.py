"""Conversations that a chat template may be given, by what is special in them. Shares no code with sftdemo."""

from __future__ import annotations

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tell the weather.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def system(content) -> dict:
    return {"role": "system", "content": content}


def user(content, **more) -> dict:
    return {"role": "user", "content": content, **more}


def says(content, **more) -> dict:
    return {"role": "assistant", "content": content, **more}


def call(arguments) -> dict:
    return {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def part(text: str) -> dict:
    return {"type": "text", "text": text}


def weather(content, arguments, **more) -> list[dict]:
    """A call of a tool, its result, and what is made of it."""
    return [
        user("Weather in Oslo?"),
        says(content, tool_calls=[call(arguments)], **more),
        {"role": "tool", "tool_call_id": "c1", "name": "get_weather", "content": "4 C"},
        says("It is 4 degrees."),
    ]


def talks(mark: str) -> dict[str, dict]:
    """Rows by name; `mark` is the text of a special token."""
    fruit = [user("Name a fruit."), says("A cherry.")]
    more = [*fruit, user("Another one?"), says("A plum, or 12 figs."), user("And?"), says("Ça suffit 🙂")]
    tooled = {"tools": TOOLS}
    return {
        "one turn": {"messages": fruit},
        "three turns": {"messages": more},
        "a system turn": {"messages": [system("Be brief."), *more]},
        "system and answer": {"messages": [system("Greet."), says("Hello there.")]},
        "answer first": {"messages": [says("Hi, ask me."), *fruit]},
        "spaces": {"messages": [user(" Hello  "), says("  Hello there \n"), user("\nBye "), says(" Bye\n\n")]},
        "newlines": {"messages": [user("List two"), says("\n- a\n\n- b")]},
        "reasoning": {"messages": [user("2+2?"), says("4", reasoning_content="Two and two is four.")]},
        "thinking": {"messages": [user("2+2?"), says("4", thinking="Two and two is four.")]},
        "reasoning twice": {
            "messages": [
                user("2+2?"),
                says("4", reasoning_content="Two and two is four."),
                user("And 3+4?"),
                says("7", reasoning_content="Three, four:\nseven."),
            ]
        },
        "think in content": {"messages": [user("Add 3 and 4."), says("Three and four.\n</think>\n\nSeven.")]},
        "whole thought in content": {
            "messages": [user("Add 3 and 4."), says("<think>\nThree.\n</think>\n\nSeven."), user("Sure?"), says("Yes.")]
        },
        "a call, object": {"messages": weather("", {"city": "Oslo"}), **tooled},
        "a call, string": {"messages": weather("I look.", '{"city": "Oslo",  "days": 3}'), **tooled},
        "a call, null": {"messages": weather(None, '{"city": "Oslo"}'), **tooled},
        "a call, reasoned": {"messages": weather("", {"city": "Oslo"}, reasoning_content="I need a tool."), **tooled},
        "a call, no tools": {"messages": weather("", {"days": 3, "exact": True})},
        "weights": {
            "messages": [
                user("Tell me a colour."),
                says("WRONGFIRST", weight=0),
                user("Try again."),
                says("Blue.", weight=1),
                user("Again."),
                says("Grey.", loss=False),
                user("Now?"),
                says("Red.", train=True),
            ]
        },
        "a last turn that is not trained": {"messages": [*more[:-1], says("No.", weight=0)]},
        "typed": {
            "messages": [user(f"What is {mark}?"), says(f"A mark: {mark}"), user(mark), says(f"{mark} ends it.")]
        },
        "typed in reasoning": {"messages": [user("Eh?"), says("So.", reasoning_content=f"What is {mark} then?")]},
        "typed in a call": {
            "messages": weather("", {"city": f"Oslo{mark}", mark: "x"}),
            "tools": [{"type": "function", "function": TOOLS[0]["function"] | {"description": f"Ends in {mark}"}}],
        },
        "emoji": {"messages": [user("🙂👩‍👩‍👧"), says("👩‍👩‍👧🙂é"), user("日本"), says("語 ½")]},
        "empty turns": {"messages": [user("x"), says(""), user(""), says("fine"), user("y"), says("")]},
        "two users": {"messages": [user("Hi."), user("Are you there?"), says("Yes.")]},
        "two answers": {"messages": [user("Hi."), says("Hello."), says("How are you?")]},
        "a user at the end": {"messages": [*fruit, user("Thanks.")]},
        "parts": {
            "messages": [
                system([part("Be brief.")]),
                user([part("Name "), part("a fruit.")]),
                says([part("A "), part("cherry.")]),
                user("Another?"),
                says("A plum."),
            ]
        },
        "arguments": {"messages": more, "chat_template_kwargs": {"enable_thinking": False}},
        "prompt and completion": {
            "prompt": [user("Example q"), says("Example a"), user("Real q")],
            "completion": [says("Real a")],
        },
        "two completions": {"prompt": fruit[:1], "completion": [says("A cherry."), user("More."), says("A plum.")]},
    }
