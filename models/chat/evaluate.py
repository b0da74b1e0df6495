"""Measures model.onnx on held-out cases, greedily, and writes held-out.json.

    /tmp/chat-venv/bin/python evaluate.py            # 300 cases a task, a few minutes on one core
    /tmp/chat-venv/bin/python evaluate.py --cases 40 # a quick look, writes nothing

Held out means: the key of a case (the two operands, the date, the name or word to copy) is one of the tenth that
`words.held_out` picks, and no training conversation asks with that key. Tasks marked "taught" have no such cases: the
multiplication table, the facts and the small talk are what the model was to learn by heart.
"""

import argparse
import json
import random
import re

import numpy as np
from tokenizers import Tokenizer

import check
import dialogue
import records
import sums
import talk
import template
import tools
from words import held_out

SEED = 7
CASES = 300
SAMPLES = 3  # Cases of each task that go into held-out.json.
BATCH = 50
LONGEST = 160
END = (2, 0)


def asked(draw, accept=lambda question, answer: True, held=True):
    """Cases of one kind of question whose key is held out; with held=False, any that training may have seen."""

    def case(r):
        while True:
            key, question, answer, *_ = draw(r)
            if held_out(key) == held and accept(question, answer):
                return None, [dialogue.user(question)], answer

    return case


def small(question, answer):
    return all(int(number) <= 99 for number in re.findall(r"\d+", question))


def large(question, answer):
    return not small(question, answer)


def held_calendar(r):
    while True:
        key, question, answer, _ = records.pick(r, sums.CALENDAR)(r)
        if held_out(key):
            return None, [dialogue.user(question)], answer


def structured(held):
    def case(r):
        _, messages = dialogue.structured(r, held)
        return None, messages[:2], messages[2]["content"]

    return case


def calls(kind, held=True):
    def case(r):
        while True:
            offered, messages = tools.tools_conversation(r, held, records.pick, kind)
            made = messages[1]["tool_calls"]
            if kind == "single" or len(made) == 2:
                return (
                    offered,
                    messages[:1],
                    tools.call_text([(c["function"]["name"], c["function"]["arguments"]) for c in made]),
                )

    return case


def results(r):
    while True:
        offered, messages = tools.tools_conversation(r, False, records.pick, "single")
        if len(messages) == 4:
            return offered, messages[:3], messages[3]["content"]


def remembered(r):
    told, reply, question, answer = talk.memory(r, True)
    between = asked(sums.addition)(r)
    return (
        None,
        [
            dialogue.user(told),
            dialogue.assistant(reply),
            between[1][0],
            dialogue.assistant(between[2]),
            dialogue.user(question),
        ],
        answer,
    )


TASKS = {
    "addition, to 99": asked(sums.addition, small),
    "addition, to 999": asked(sums.addition, large),
    "subtraction, to 99": asked(sums.subtraction, small),
    "subtraction, to 999": asked(sums.subtraction, large),
    "multiplication, two digits by one": asked(lambda r: sums.multiplication(r, False)),
    "multiplication table to 12 (taught)": asked(lambda r: sums.multiplication(r, True), held=False),
    "division, table to 12 (taught)": asked(sums.division, held=False),
    "unit conversion": asked(sums.conversion),
    "calendar": held_calendar,
    "JSON from text, schema given": structured(True),
    "JSON from text, words known (taught)": structured(False),
    "one tool call": calls("single"),
    "one tool call, words known (taught)": calls("single", held=False),
    "two tool calls, same tool": calls("same"),
    "two tool calls, two tools": calls("different"),
    "answer from a tool's result (taught)": results,
    "remembering over turns": remembered,
    "repeating a text": asked(talk.repeat),
    "unknown questions refused": asked(talk.mystery),
    "capitals (taught)": asked(talk.capital, held=False),
    "small talk (taught)": asked(talk.fixed, held=False),
}


def parsed_calls(text):
    parts = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text, re.S)
    return [json.loads(part) for part in parts]


def right(task, messages, expected, answer):
    try:
        if "tool call" in task:
            return parsed_calls(answer) == parsed_calls(expected)
        if task.startswith("JSON"):
            return json.loads(answer) == json.loads(expected)
    except ValueError:
        return False
    if " = " in expected:
        # The steps may differ, the result may not.
        return answer.split("= ")[-1] == expected.split("= ")[-1]
    if task.startswith("small talk"):
        # Any of the answers taught for this question.
        return any(messages[-1]["content"] in questions and answer in answers for questions, answers in talk.FIXED)
    return answer == expected


def generate(model, tokenizer, prompts):
    """Greedy answers to token lists, as one left-padded batch."""
    longest = max(map(len, prompts))
    ids, mask = np.zeros((len(prompts), longest), np.int64), np.zeros((len(prompts), longest), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :], mask[row, longest - len(prompt) :] = prompt, 1
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    past, made, alive = None, [[] for _ in prompts], np.ones(len(prompts), bool)
    for _ in range(LONGEST):
        out, past = check.run(model, ids, mask, positions, past)
        ids = out[:, -1].argmax(axis=1)[:, None]
        for row in np.flatnonzero(alive):
            alive[row] = ids[row, 0] not in END
            if alive[row]:
                made[row].append(int(ids[row, 0]))
        if not alive.any():
            break
        mask = np.concatenate([mask, np.ones((len(prompts), 1), np.int64)], axis=1)
        positions = positions[:, -1:] + 1
    return [tokenizer.decode(tokens, skip_special_tokens=False) for tokens in made]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--cases", type=int, default=CASES)
    options.add_argument("--write", action="store_true", help="write held-out.json with fewer cases, too")
    options.add_argument("--wrong", type=int, default=0, help="print so many wrong answers of each task")
    options = options.parse_args()
    tokenizer = Tokenizer.from_file(str(check.HERE / "tokenizer.json"))
    model = check.session()
    accuracy, samples = {}, []
    for task, draw in TASKS.items():
        r = random.Random(f"{SEED} {task}")
        cases = [draw(r) for _ in range(options.cases)]
        prompts = [tokenizer.encode(template.render(messages, offered, True)).ids for offered, messages, _ in cases]
        order = sorted(range(len(cases)), key=lambda i: len(prompts[i]))
        answers = {}
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            answers.update(zip(rows, generate(model, tokenizer, [prompts[i] for i in rows])))
        marks = [right(task, messages, expected, answers[i]) for i, (_, messages, expected) in enumerate(cases)]
        accuracy[task] = {"right": sum(marks), "cases": len(marks)}
        print(f"{task}: {sum(marks)} of {len(marks)}", flush=True)
        for i in [i for i, mark in enumerate(marks) if not mark][: options.wrong]:
            print(
                "   ",
                json.dumps(cases[i][1][-1]["content"]),
                "wanted",
                json.dumps(cases[i][2]),
                "got",
                json.dumps(answers[i]),
            )
        # The first cases, and the first wrong one where they are all right: the file shows both.
        chosen = list(range(SAMPLES - 1))
        chosen.append(next((i for i, mark in enumerate(marks) if not mark and i not in chosen), SAMPLES - 1))
        for i in chosen:
            offered, messages, expected = cases[i]
            samples.append(
                {
                    "task": task,
                    "messages": messages,
                    **({"tools": offered} if offered else {}),
                    "expected": expected,
                    "answer": answers[i],
                    "right": marks[i],
                }
            )
    if options.cases == CASES or options.write:
        # One case a line, so that a change of weights reads as a change of answers.
        lines = ",\n".join("  " + json.dumps(sample, ensure_ascii=False) for sample in samples)
        measured = ",\n".join(f"  {json.dumps(task)}: {json.dumps(counts)}" for task, counts in accuracy.items())
        (check.HERE / "held-out.json").write_text(f'{{\n"accuracy": {{\n{measured}\n}},\n"cases": [\n{lines}\n]\n}}\n')


if __name__ == "__main__":
    main()
