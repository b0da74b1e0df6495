"""Conversations with tools: which one to call, the arguments copied from the request, and the answer from the result."""

import json

from records import price
from sums import addition, division, multiplication, subtraction
from words import (
    COMPANIES,
    CURRENCIES,
    EVENTS,
    FOODS,
    KEYS,
    LANGUAGES,
    NOUNS,
    PRODUCTS,
    ROOMS,
    VERBS,
    clock,
    drawn,
    email,
    held_out,
    identifier,
    iso,
    name,
    place,
    value,
)

STRING, INTEGER, NUMBER, BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
MOST_TOOLS = 4


def definition(called, description, parameters, required, described=None):
    properties = {
        key: dict(kind, description=described[key]) if described and key in described else kind
        for key, kind in parameters.items()
    }
    schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return {"type": "function", "function": {"name": called, "description": description, "parameters": schema}}


def weather(r, held):
    city = place(r, held)
    called, key = (
        r.choice(("get_weather", "get_weather", "weather", "get_current_weather", "weather_now")),
        r.choice(("city", "city", "location", "place")),
    )
    q, arguments = (
        r.choice(
            (
                "What is the weather in {}?",
                "What is the weather like in {}?",
                "How is the weather in {}?",
                "Weather in {}",
                "What's the weather in {}?",
                "Is it raining in {}?",
                "Is it warm in {}?",
                "Tell me the weather in {}.",
                "Get the weather for {}.",
                "Check the weather in {}.",
                "Do I need an umbrella in {}?",
            )
        ).format(city),
        {key: city},
    )
    parameters = {key: STRING}
    if r.random() < 0.3:
        parameters["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
        if r.random() < 0.5:
            arguments["unit"] = r.choice(("celsius", "fahrenheit"))
            q = q.rstrip("?.") + f" in {arguments['unit']}" + ("." if q.endswith(".") else "?")
    tool = definition(
        called,
        r.choice(
            (
                "Get the weather in a city.",
                "Get the current weather",
                "Get the current weather for a location.",
                "Weather for a place",
            )
        ),
        parameters,
        [key],
        {key: "The city"} if r.random() < 0.3 else None,
    )
    result = r.choice(
        (
            {
                "temperature": r.randint(-20, 40),
                "condition": r.choice(("sunny", "cloudy", "rainy", "windy", "foggy", "snowy")),
            },
            {"temperature": r.randint(-20, 40), "unit": "celsius"},
            {"city": city, "temperature": r.randint(-20, 40)},
        )
    )
    return tool, q, arguments, result


def calculator(r, held):
    while True:
        form, draw = r.choice(
            (
                ("add", addition),
                ("subtract", subtraction),
                ("multiply", multiplication),
                ("divide", division),
                ("any", addition),
                ("any", subtraction),
                ("any", multiplication),
            )
        )
        key, q, answer, v = draw(r)
        if (key == "table" or held_out(key) == held) and q[-1] in "?." and not q[0].isdigit():
            break
    left = answer.split(" = ")[0]
    a, operator, b = left.split(" ")
    if form == "any":
        k = r.choice(("expression", "expression", "formula"))
        return (
            definition(
                r.choice(("calculate", "calculator", "calc", "evaluate")),
                r.choice(("Calculate an expression.", "Do arithmetic", "Evaluate a mathematical expression.")),
                {k: STRING},
                [k],
            ),
            q,
            {k: left},
            r.choice(({"result": v}, v)),
        )
    x, y = r.choice((("a", "b"), ("a", "b"), ("x", "y"), ("first", "second")))
    kind = r.choice((INTEGER, NUMBER))
    return (
        definition(
            r.choice((form, f"{form}_numbers")), f"{form.capitalize()} two numbers.", {x: kind, y: kind}, [x, y]
        ),
        q,
        {x: int(a), y: int(b)},
        r.choice(({"result": v}, v)),
    )


def local_time(r, held):
    city = place(r, held)
    key = r.choice(("city", "timezone", "place"))
    return (
        definition(
            r.choice(("get_time", "current_time", "get_local_time")),
            r.choice(("Get the time in a city.", "Get the current time")),
            {key: STRING},
            [key],
        ),
        r.choice(
            ("What time is it in {}?", "What is the time in {}?", "Tell me the time in {}.", "Time in {}?")
        ).format(city),
        {key: city},
        {"time": clock(r)},
    )


def now(r, held):
    called, text, q, result = r.choice(
        (
            (
                "get_time",
                "Get the current time.",
                ("What time is it?", "What is the time?", "Tell me the time."),
                {"time": clock(r)},
            ),
            (
                "get_date",
                "Get today's date.",
                ("What is the date?", "What date is it today?", "Which day is today?"),
                {"date": iso(r)},
            ),
        )
    )
    return definition(called, text, {}, []), r.choice(q), {}, result


def search(r, held):
    what = value(r, held) if r.random() < 0.5 else f"{value(r, held)} {drawn(r, PRODUCTS + FOODS, held)}"
    key = r.choice(("query", "query", "q", "text"))
    return (
        definition(
            r.choice(("search", "web_search", "search_web", "find")),
            r.choice(("Search the web.", "Search for something.", "Look something up")),
            {key: STRING},
            [key],
        ),
        r.choice(
            ("Search for {}.", "Look up {}.", "Search the web for {}.", "Find {}.", "Please search for {}.")
        ).format(what),
        {key: what},
        {"results": r.randint(1, 90)},
    )


def mail(r, held):
    to, subject = email(r, held), value(r, held)
    return (
        definition(
            r.choice(("send_email", "send_mail", "email")),
            r.choice(("Send an email.", "Send an email to someone")),
            {"to": STRING, "subject": STRING},
            ["to", "subject"],
        ),
        r.choice(
            (
                "Send an email to {0} with the subject {1}.",
                "Email {0} with the subject {1}.",
                'Write an email to {0}, subject "{1}".',
                "Send a mail to {0} about {1}.",
            )
        ).format(to, subject),
        {"to": to, "subject": subject},
        {"status": "sent"},
    )


def message(r, held):
    to, text = name(r, held), value(r, held) if r.random() < 0.6 else f"{value(r, held)} {value(r, held)}"
    first, second = r.choice((("to", "text"), ("recipient", "message"), ("name", "message")))
    return (
        definition(
            r.choice(("send_message", "message", "send_text")),
            "Send a message to someone.",
            {first: STRING, second: STRING},
            [first, second],
        ),
        r.choice(
            ("Send a message to {0}: {1}", "Tell {0}: {1}", 'Send {0} the message "{1}".', "Write to {0}: {1}")
        ).format(to, text),
        {first: to, second: text},
        {"status": "sent"},
    )


def timer(r, held):
    n = r.randint(1, 90)
    unit = r.choice(("minutes", "minutes", "seconds"))
    return (
        definition(
            r.choice(("set_timer", "start_timer", "timer")),
            r.choice(("Set a timer.", f"Start a timer in {unit}")),
            {unit: INTEGER},
            [unit],
        ),
        r.choice(
            ("Set a timer for {0} {1}.", "Start a timer of {0} {1}.", "Wake me in {0} {1}.", "Timer: {0} {1}")
        ).format(n, unit if n > 1 else unit[:-1]),
        {unit: n},
        {"status": "started"},
    )


def alarm(r, held):
    at = clock(r)
    return (
        definition("set_alarm", "Set an alarm.", {"time": STRING}, ["time"]),
        r.choice(("Set an alarm for {}.", "Wake me at {}.", "Alarm at {}.")).format(at),
        {"time": at},
        {"status": "set"},
    )


def exchange(r, held):
    n, (a, b) = price(r), r.sample(CURRENCIES, 2)
    first, second = r.choice((("from", "to"), ("from_currency", "to_currency"), ("source", "target")))
    return (
        definition(
            r.choice(("convert_currency", "exchange", "currency_convert")),
            "Convert money from one currency to another.",
            {"amount": NUMBER, first: STRING, second: STRING},
            ["amount", first, second],
        ),
        r.choice(("Convert {0} {1} to {2}.", "How much is {0} {1} in {2}?", "Change {0} {1} into {2}.")).format(
            n, a, b
        ),
        {"amount": n, first: a, second: b},
        {"amount": price(r), "currency": b},
    )


def translation(r, held):
    text, language = value(r, held), drawn(r, LANGUAGES, held)
    key = r.choice(("language", "target", "to"))
    return (
        definition(
            r.choice(("translate", "translate_text")), "Translate a text.", {"text": STRING, key: STRING}, ["text", key]
        ),
        r.choice(
            ("Translate {0} to {1}.", "Translate {0} into {1}.", 'Translate "{0}" to {1}.', "Say {0} in {1}.")
        ).format(text, language),
        {"text": text, key: language},
        {"translation": value(r, held)},
    )


def share(r, held):
    company = drawn(r, COMPANIES, held)
    key = r.choice(("company", "symbol", "name"))
    return (
        definition(
            r.choice(("get_stock_price", "stock_price")), "Get the stock price of a company.", {key: STRING}, [key]
        ),
        r.choice(("What is the stock price of {}?", "Stock price of {}?", "How much is a share of {}?")).format(
            company
        ),
        {key: company},
        {"price": price(r), "currency": r.choice(CURRENCIES)},
    )


def booking(r, held):
    where, n, at = value(r, held).title(), r.randint(2, 12), clock(r)
    return (
        definition(
            r.choice(("book_table", "reserve_table")),
            "Book a table in a restaurant.",
            {"restaurant": STRING, "people": INTEGER, "time": STRING},
            ["restaurant", "people", "time"],
        ),
        r.choice(
            (
                "Book a table at {0} for {1} people at {2}.",
                "Reserve a table for {1} people at {0} at {2}.",
                "A table for {1} at {2} in {0}, please.",
            )
        ).format(where, n, at),
        {"restaurant": where, "people": n, "time": at},
        {"status": "booked", "number": r.randint(1, 40)},
    )


def light(r, held):
    room, on = drawn(r, ROOMS, held), r.random() < 0.5
    if r.random() < 0.5:
        called = "turn_on_light" if on else "turn_off_light"
        return (
            definition(called, f"Turn {'on' if on else 'off'} the light in a room.", {"room": STRING}, ["room"]),
            f"Turn {'on' if on else 'off'} the light in the {room}.",
            {"room": room},
            {"status": "on" if on else "off"},
        )
    return (
        definition(
            r.choice(("set_light", "switch_light")),
            "Switch the light in a room on or off.",
            {"room": STRING, "on": BOOLEAN},
            ["room", "on"],
        ),
        r.choice(
            (
                f"Turn {'on' if on else 'off'} the light in the {room}.",
                f"Switch the light in the {room} {'on' if on else 'off'}.",
                f"Light {'on' if on else 'off'} in the {room}.",
            )
        ),
        {"room": room, "on": on},
        {"status": "on" if on else "off"},
    )


def heating(r, held):
    room, n = drawn(r, ROOMS, held), r.randint(10, 28)
    return (
        definition(
            "set_temperature",
            "Set the temperature of a room.",
            {"room": STRING, "degrees": INTEGER},
            ["room", "degrees"],
        ),
        r.choice(
            (
                f"Set the {room} to {n} degrees.",
                f"Heat the {room} to {n} degrees.",
                f"Set the temperature in the {room} to {n}.",
            )
        ),
        {"room": room, "degrees": n},
        {"status": "set"},
    )


def appointment(r, held):
    what, date = drawn(r, EVENTS, held), iso(r)
    key = r.choice(("title", "event"))
    return (
        definition(
            r.choice(("create_event", "add_event")),
            "Add an event to the calendar.",
            {key: STRING, "date": STRING},
            [key, "date"],
        ),
        r.choice(
            (
                "Add {0} on {1} to my calendar.",
                "Create an event {0} on {1}.",
                "Put {0} in my calendar on {1}.",
                "Plan a {0} for {1}.",
            )
        ).format(what, date),
        {key: what, "date": date},
        {"status": "created", "id": identifier(r)},
    )


def lookup(r, held):
    thing, i = r.choice(("order", "user", "ticket", "invoice", "package", "customer")), identifier(r)
    key = r.choice((f"{thing}_id", "id"))
    return (
        definition(
            r.choice((f"get_{thing}", f"lookup_{thing}", f"find_{thing}")),
            f"Look up {'an' if thing[0] in 'aeiou' else 'a'} {thing} by its id.",
            {key: STRING},
            [key],
        ),
        r.choice(
            (
                f"Look up {thing} {i}.",
                f"Where is {thing} {i}?",
                f"Show me {thing} {i}.",
                f"What is the status of {thing} {i}?",
                f"Find the {thing} {i}.",
            )
        ),
        {key: i},
        {"status": r.choice(("open", "paid", "shipped", "closed", "lost", "active"))},
    )


def music(r, held):
    what = value(r, held).title()
    key = r.choice(("song", "artist", "title"))
    return (
        definition(r.choice(("play_music", "play_song", "play")), "Play music.", {key: STRING}, [key]),
        r.choice(("Play {}.", "Play some {}.", "I want to hear {}.")).format(what),
        {key: what},
        {"status": "playing"},
    )


def todo(r, held):
    what = drawn(r, FOODS, held)
    n = r.randint(1, 20)
    return (
        definition(
            r.choice(("add_to_list", "add_item", "add_to_cart")),
            r.choice(("Add an item to the shopping list.", "Add something to the list")),
            {"item": STRING, "quantity": INTEGER},
            ["item", "quantity"],
        ),
        r.choice(
            (f"Add {n} {what} to the list.", f"Put {n} {what} on my shopping list.", f"Add {n} {what} to my cart.")
        ),
        {"item": what, "quantity": n},
        {"status": "added"},
    )


def anything(r, held):
    """A tool nobody has heard of; its name and its parameters stand in the request."""
    verb, noun = r.choice(VERBS), drawn(r, NOUNS, held)
    keys = r.sample(KEYS, r.choice((1, 1, 2, 2, 3)))
    parameters, arguments = {}, {}
    for key in keys:
        draw = r.random()
        if draw < 0.62:
            parameters[key], arguments[key] = (
                STRING,
                r.choice((value(r, held), value(r, held), identifier(r), name(r, held), place(r, held))),
            )
        elif draw < 0.9:
            parameters[key], arguments[key] = INTEGER, r.randint(0, r.choice((9, 99, 999)))
        else:
            parameters[key], arguments[key] = NUMBER, price(r)
    said = [f"{key.replace('_', ' ')} {v}" for key, v in arguments.items()]
    if r.random() < 0.3:
        r.shuffle(said)
    joined = said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]
    q = r.choice(
        (
            f"{verb.capitalize()} the {noun} with {joined}.",
            f"Please {verb} the {noun} with {joined}.",
            f"{verb.capitalize()} a {noun}: {joined}.",
            f"I want to {verb} a {noun} with {joined}.",
        )
    )
    result = r.choice(
        (
            {"status": r.choice(("ok", "done", "created", "saved"))},
            {r.choice(KEYS): value(r, held)},
            {r.choice(KEYS): r.randint(0, 999), r.choice(KEYS): value(r, held)},
            "Done.",
            {"result": value(r, held)},
        )
    )
    required = keys if r.random() < 0.8 else keys[:1]
    return (
        definition(
            f"{verb}_{noun}",
            r.choice(
                (
                    f"{verb.capitalize()} the {noun}.",
                    f"{verb.capitalize()} a {noun}",
                    f"{verb.capitalize()} the {noun}s.",
                )
            ),
            parameters,
            required,
        ),
        q,
        arguments,
        result,
    )


TOOLS = (
    (weather, 16),
    (calculator, 11),
    (local_time, 5),
    (now, 3),
    (search, 6),
    (mail, 5),
    (message, 4),
    (timer, 5),
    (alarm, 3),
    (exchange, 4),
    (translation, 4),
    (share, 3),
    (booking, 3),
    (light, 4),
    (heating, 3),
    (appointment, 4),
    (lookup, 5),
    (music, 3),
    (todo, 4),
    (anything, 30),
)


def said(result):
    """The sentence a result becomes: every field in its order."""
    if isinstance(result, dict) and "error" in result:
        return f"The tool failed: {result['error']}."
    if isinstance(result, dict):
        return " ".join(f"The {key.replace('_', ' ')} is {v}." for key, v in result.items())
    return result if isinstance(result, str) else f"The result is {result}."


def call_text(calls):
    return "\n".join(
        f"<tool_call>\n{json.dumps({'name': called, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"
        for called, arguments in calls
    )


def call(called, arguments):
    return {"type": "function", "function": {"name": called, "arguments": arguments}}


def tools_conversation(r, held, pick, kind=None):
    """(tools, messages): one or two calls, sometimes their results and the answer."""
    kind = kind or r.choices(("single", "same", "different"), (74, 13, 13))[0]
    tool, q, arguments, result = pick(r, TOOLS)(r, held)
    tools, calls, results = [tool], [call(tool["function"]["name"], arguments)], [result]
    if kind == "same":
        # The same tool twice in one request, where the request has one thing to replace.
        which = r.choice((weather, local_time, lookup, search, share))
        tool, q, arguments, result = which(r, held)
        key = next(iter(arguments))
        first = arguments[key]
        second = first
        while second == first:
            second = {weather: place, local_time: place, search: value}.get(which, lambda *_: None)(r, held) or (
                identifier(r) if which is lookup else drawn(r, COMPANIES, held)
            )
        q = q.replace(
            first,
            r.choice(
                (
                    f"{first} and {second}",
                    f"{first} and {second}",
                    f"{first} and in {second}" if which in (weather, local_time) else f"{first} and {second}",
                )
            ),
            1,
        )
        again = dict(result, city=second) if isinstance(result, dict) and "city" in result else which(r, held)[3]
        tools, results = [tool], [result, again]
        calls = [call(tool["function"]["name"], arguments), call(tool["function"]["name"], {**arguments, key: second})]
    elif kind == "different":
        other, q2, arguments2, result2 = pick(r, TOOLS)(r, held)
        if other["function"]["name"] != tool["function"]["name"]:
            q = r.choice(
                (f"{q} {q2}", f"{q} Then {q2[0].lower()}{q2[1:]}", f"{q.rstrip('.?')} and {q2[0].lower()}{q2[1:]}")
            )
            tools.append(other)
            calls.append(call(other["function"]["name"], arguments2))
            results.append(result2)
    names = {t["function"]["name"] for t in tools}
    for _ in range(r.choice((0, 0, 1, 1, 2))):
        if len(tools) >= MOST_TOOLS:
            break
        other = pick(r, TOOLS)(r, held)[0]
        if other["function"]["name"] not in names:
            tools.append(other)
            names.add(other["function"]["name"])
    r.shuffle(tools)
    messages = [{"role": "user", "content": q}, {"role": "assistant", "content": "", "tool_calls": calls}]
    if r.random() < (0.55 if held is False else 0):
        if r.random() < 0.06:
            results = [
                {"error": r.choice(("not found", "no connection", "unknown city", "out of range", value(r, held)))}
                for _ in results
            ]
        for v in results:
            messages.append({"role": "tool", "content": v if isinstance(v, str) else json.dumps(v)})
        messages.append({"role": "assistant", "content": " ".join(said(v) for v in results)})
    return tools, messages
