"""Whole conversations, how they are written for the model, and what share each kind has."""

import json
import random

import records
import sums
import talk
import tools
from words import NAMES, held_out

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "Be brief.",
    "You are a friendly assistant.",
    "Answer the question.",
    "You are an assistant that answers in one sentence.",
    "You are a small language model.",
    "Be helpful and honest.",
    "You answer questions.",
    "You are a careful assistant. Use the tools when you need them.",
    "You extract facts from texts.",
    "You can use tools.",
    "Answer shortly and correctly.",
)
SCHEMA_LINE = "Answer in JSON with this schema: "


def tool_line(tool):
    return json.dumps(tool.get("function", tool), ensure_ascii=False)


def written(messages, offered=None, prompt=False):
    """The conversation as the chat template writes it, as a list of (text, learned)."""
    pieces = []
    rest = messages
    if (messages and messages[0]["role"] == "system") or offered:
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        rest = messages[1:] if messages[0]["role"] == "system" else messages
        text = "<|im_start|>system\n" + system
        if offered:
            text += (
                ("\n" if system else "") + "<tools>\n" + "\n".join(tool_line(tool) for tool in offered) + "\n</tools>"
            )
        pieces.append((text + "<|im_end|>\n", False))
    for message in rest:
        pieces.append((f"<|im_start|>{message['role']}\n", False))
        text = message["content"] or ""
        if message.get("tool_calls"):
            calls = tools.call_text(
                [(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]
            )
            text = text + ("\n" if text else "") + calls
        learned = message["role"] == "assistant" and message.get("learned", True)
        pieces.append((text + "<|im_end|>", learned))
        pieces.append(("\n", False))
    if prompt:
        pieces.append(("<|im_start|>assistant\n", False))
    return pieces


def rough(r, question):
    """As people type: sometimes without capitals, full stop or question mark, sometimes polite."""
    draw = r.random()
    if draw < 0.10:
        question = question.rstrip("?.")
    elif draw < 0.15:
        question = question[:1].lower() + question[1:]
    elif draw < 0.18:
        question = question[:1].lower() + question[1:].rstrip("?.")
    elif draw < 0.22 and question[0].isupper():
        question = (
            r.choice(("Please tell me: ", "Question: ", "Hi! ", "Can you help? ", "I have a question. ")) + question
        )
    return question


def turn(r, held, group):
    """A question and an answer, of one of the groups: sum, unit, date, talk."""
    while True:
        if group == "sum":
            key, q, a, v = records.pick(r, sums.ARITHMETIC)(r)
        elif group == "unit":
            key, q, a, v = sums.conversion(r)
        elif group == "date":
            key, q, a, v = records.pick(r, sums.CALENDAR)(r)
        else:
            key, q, a = records.pick(r, talk.TALK)(r)
            v = None
        if held_out(key) == held:
            return rough(r, q), a, v


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


GROUPS = ("sum", "unit", "date", "talk")


def plain(r, turns=None):
    """One turn or several about nothing in particular, with things to remember and sums that go on."""
    turns = turns or r.choices((1, 2, 3, 4, 6), (56, 18, 12, 8, 6))[0]
    messages, waiting, last = [], None, None
    for i in range(turns):
        draw = r.random()
        if waiting and (draw < 0.4 or i == turns - 1):
            q, a = waiting
            waiting = None
        elif waiting is None and i < turns - 1 and draw < 0.22:
            told, reply, asked, answer = talk.memory(r, False)
            waiting = (asked, answer)
            messages += [user(told), assistant(reply)]
            continue
        elif last is not None and draw > 0.8 and last < 900:
            n = r.randint(1, 20)
            minus = r.random() < 0.3 and last >= n
            if held_out(f"{last} - {n}" if minus else f"{min(last, n)} + {max(last, n)}"):
                continue
            q = r.choice(
                ("And minus {n}?", "Subtract {n} from that.", "Take away {n}.")
                if minus
                else ("And plus {n}?", "Add {n} to that.", "And {n} more?", "Now add {n}.")
            )
            q, a = q.format(n=n), sums.worked(last, "-" if minus else "+", n)
            last = last - n if minus else last + n
            messages += [user(q), assistant(a)]
            continue
        else:
            group = r.choices(GROUPS, (58, 9, 14, 19))[0]
            q, a, v = turn(r, False, group)
            last = v if group == "sum" and " = " in a and isinstance(v, int) and v >= 0 else None
            messages += [user(q), assistant(a)]
            continue
        last = None
        messages += [user(q), assistant(a)]
    if r.random() < 0.25:
        if r.random() < 0.1:
            n = r.choice(NAMES)
            messages = [
                {"role": "system", "content": f"You are {n}, a helpful assistant."},
                user(r.choice(("Who are you?", "What is your name?"))),
                assistant(f"I am {n}."),
            ] + messages
        else:
            messages.insert(0, {"role": "system", "content": r.choice(SYSTEMS)})
    return None, messages


def several_sums(r):
    """Many sums in one request: practice without a turn for each."""
    asked, answers = [], []
    while len(asked) < r.randint(3, 7):
        key, _, a, _ = records.pick(
            r, ((sums.addition, 42), (sums.subtraction, 30), (sums.multiplication, 20), (sums.division, 8))
        )(r)
        if not held_out(key):
            asked.append(a.split(" = ")[0])
            answers.append(a)
    q = r.choice(("Calculate each: {}", "What is {}?", "Compute {}.", "Solve: {}", "{}")).format(
        r.choice(("; ", ", ", "\n")).join(asked)
    )
    return None, [user(q), assistant("\n".join(answers))]


def structured(r, held=False, record=None):
    schema, text, answer = records.extraction(r, held, record)
    line = SCHEMA_LINE + json.dumps(schema, ensure_ascii=False)
    system = line if r.random() < 0.75 else f"{r.choice(SYSTEMS)}\n{line}"
    messages = [{"role": "system", "content": system}, user(text), assistant(answer)]
    if not held and r.random() < 0.15:
        # The same schema over again: the text changes, the keys stay.
        for _ in range(r.randint(1, 2)):
            again, text2, answer2 = records.extraction(r, held, record)
            if again == schema:
                messages += [user(text2), assistant(answer2)]
    return None, messages


def with_tools(r, held=False, kind=None):
    offered, messages = tools.tools_conversation(r, held, records.pick, kind)
    if not held and r.random() < 0.14:
        # Tools are there and none is wanted.
        q, a, _ = turn(r, False, r.choices(GROUPS, (30, 10, 15, 45))[0])
        if any(
            word in str(offered)
            for word in (
                "calc",
                "add",
                "subtract",
                "multiply",
                "divide",
                "evaluate",
                "time",
                "date",
                "search",
                "find",
                "weather",
                "translate",
                "convert",
                "price",
            )
        ):
            q, a = talk.fixed(r)[1:]
        messages = [user(q), assistant(a)] + (messages if r.random() < 0.3 else [])
    elif not held and len(messages) > 3 and r.random() < 0.2:
        again = tools.tools_conversation(
            r, held, lambda *_: r.choice((tools.weather, tools.search, tools.lookup)), "single"
        )
        if again[0][0]["function"]["name"] not in str(offered) and len(offered) < tools.MOST_TOOLS:
            offered = offered + again[0][:1]
            call = again[1][1]["tool_calls"][0]["function"]["name"]
            if call == again[0][0]["function"]["name"]:
                messages = messages + again[1]
    if r.random() < 0.3:
        messages.insert(0, {"role": "system", "content": r.choice(SYSTEMS)})
    return offered, messages


def conversation(r):
    """(tools or None, messages): one conversation of the training mixture."""
    draw = r.random()
    if draw < 0.54:
        return plain(r)
    if draw < 0.64:
        return several_sums(r)
    if draw < 0.82:
        return structured(r)
    return with_tools(r)


def long_conversation(r):
    """Many turns, so that far positions are met in training."""
    offered, messages = plain(r, r.randint(12, 40))
    return offered, messages


if __name__ == "__main__":
    r = random.Random(1)
    for _ in range(12):
        offered, messages = conversation(r)
        print("".join(text for text, _ in written(messages, offered)))
        print("-----")
