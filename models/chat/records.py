"""Texts with facts in them, the JSON schema that asks for some of them, and the JSON that answers.

A record is a text and its facts: (key, schema of the value, value), the key drawn among names people give such a field.
"""

import json

from sums import addition, conversion, multiplication, subtraction
from words import (
    CAPITALS,
    COLORS,
    COMPANIES,
    CURRENCIES,
    EVENTS,
    FOODS,
    JOBS,
    KEYS,
    PRODUCTS,
    ANIMALS,
    CITIES,
    article,
    clock,
    drawn,
    email,
    held_out,
    identifier,
    iso,
    joined,
    name,
    place,
    value,
)

STRING, INTEGER, NUMBER, BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}


def price(r):
    return r.choice(
        (r.randint(1, 99), r.randint(100, 2000), round(r.randint(100, 9999) / 100, 2), r.randint(1, 99) + 0.5)
    )


def person(r, held):
    n, age, city, job, mail = name(r, held), r.randint(1, 99), place(r, held), drawn(r, JOBS, held), email(r, held)
    text = r.choice(
        (
            f"{n} is {age} years old and lives in {city}. {n.split()[0]} works as {article(job)} and has the address {mail}.",
            f"My name is {n}. I am {age} and I live in {city}. I am {article(job)}. My email is {mail}.",
            f"{n}, {age}, is {article(job)} from {city}. Contact: {mail}",
            f"{n} ({age}) is {article(job)} in {city}. Email: {mail}.",
            f"Meet {n}, {article(job)} from {city}, {age} years old. Write to {mail}.",
        )
    )
    if r.random() < 0.6:
        text = r.choice(
            (
                f"{n} is {age} years old and lives in {city}.",
                f"My name is {n}, I am {age} and I live in {city}.",
                f"{n}, {age}, from {city}.",
                f"I met {n} in {city}. {n.split()[0]} is {age}.",
                f"{n} lives in {city} and is {age} years old.",
            )
        )
        return text, [
            (r.choice(("name", "name", "full_name", "person")), STRING, n),
            (r.choice(("age", "age", "years")), INTEGER, age),
            (r.choice(("city", "city", "town", "place", "location")), STRING, city),
        ]
    return text, [
        (r.choice(("name", "name", "full_name")), STRING, n),
        (r.choice(("age", "age", "years")), INTEGER, age),
        (r.choice(("city", "city", "town", "location")), STRING, city),
        (r.choice(("job", "profession", "occupation")), STRING, job),
        (r.choice(("email", "mail", "contact")), STRING, mail),
    ]


def order(r, held):
    n, product, color, cost, who = (
        r.randint(2, 60),
        drawn(r, PRODUCTS, held),
        drawn(r, COLORS, held),
        price(r),
        name(r, held),
    )
    text = r.choice(
        (
            f"{who} ordered {n} {color} {product}s for {cost} euros.",
            f"Please send {n} {color} {product}s to {who}. The price is {cost} euros.",
            f"I want to buy {n} {color} {product}s at {cost} euros. My name is {who}.",
            f"Order: {n} {product}s, {color}, {cost} euros, for {who}.",
        )
    )
    return text, [
        (r.choice(("product", "product", "item")), STRING, product),
        (r.choice(("quantity", "quantity", "count", "amount")), INTEGER, n),
        (r.choice(("color", "color", "colour")), STRING, color),
        (r.choice(("price", "cost", "total")), NUMBER, cost),
        (r.choice(("customer", "name", "buyer")), STRING, who),
    ]


def event(r, held):
    what, date, time, where = drawn(r, EVENTS, held), iso(r), clock(r), place(r, held)
    text = r.choice(
        (
            f"The {what} is on {date} at {time} in {where}.",
            f"We meet for the {what} in {where} on {date} at {time}.",
            f"{what.capitalize()}: {date}, {time}, {where}.",
            f"On {date} at {time} there is {article(what)} in {where}.",
        )
    )
    title = what.capitalize() if text.startswith(what.capitalize()) else what
    return text, [
        (r.choice(("title", "event", "event")), STRING, title),
        (r.choice(("date", "date", "day")), STRING, date),
        (r.choice(("time", "time", "start")), STRING, time),
        (r.choice(("place", "location", "city")), STRING, where),
    ]


def review(r, held):
    product = drawn(r, PRODUCTS, held)
    mood = r.choice(("positive", "negative", "neutral"))
    words = {
        "positive": ("great", "wonderful", "excellent", "very good", "fantastic", "lovely", "perfect"),
        "negative": ("terrible", "awful", "broken", "very bad", "horrible", "useless", "ugly"),
        "neutral": ("okay", "average", "acceptable", "not bad, not good", "fine, nothing special", "ordinary"),
    }
    stars = {"positive": (4, 5), "negative": (1, 2), "neutral": (3,)}[mood]
    n = r.choice(stars)
    text = r.choice(
        (
            f"The {product} is {r.choice(words[mood])}.",
            f"This {product} is {r.choice(words[mood])}!",
            {
                "positive": f"I love this {product}.",
                "negative": f"I hate this {product}.",
                "neutral": f"It is just a {product}.",
            }[mood],
        )
    )
    facts = [
        (
            "sentiment",
            {
                "type": "string",
                "enum": r.choice(
                    (
                        ["positive", "negative", "neutral"],
                        ["positive", "neutral", "negative"],
                        ["negative", "neutral", "positive"],
                    )
                ),
            },
            mood,
        ),
        (r.choice(("product", "item")), STRING, product),
    ]
    if r.random() < 0.6:
        text += r.choice((f" {n} stars.", f" I give it {n} stars.", f" {n} out of 5."))
        facts.append((r.choice(("rating", "stars")), INTEGER, n))
    return text, facts


def shopping(r, held):
    things = [drawn(r, FOODS, held) for _ in range(r.randint(1, 4))]
    things = list(dict.fromkeys(things))
    text = r.choice(
        ("Buy {}.", "We need {}.", "Please get {} from the market.", "My list: {}.", "I need to buy {}.")
    ).format(joined(things))
    return text, [
        (
            r.choice(("items", "items", "products", "things", "list")),
            {"type": "array", "items": {"type": "string"}},
            things,
        )
    ]


def invoice(r, held):
    number, company, amount, currency, due = (
        identifier(r),
        drawn(r, COMPANIES, held),
        price(r),
        drawn(r, CURRENCIES, held),
        iso(r),
    )
    text = r.choice(
        (
            f"Invoice {number} from {company}: {amount} {currency}, due {due}.",
            f"{company} sent invoice {number} for {amount} {currency}. It is due on {due}.",
            f"Please pay {amount} {currency} to {company} by {due}. Invoice number {number}.",
        )
    )
    return text, [
        (r.choice(("number", "invoice", "id", "invoice_number")), STRING, number),
        (r.choice(("company", "vendor", "supplier")), STRING, company),
        (r.choice(("amount", "total")), NUMBER, amount),
        ("currency", STRING, currency),
        (r.choice(("due", "due_date", "date")), STRING, due),
    ]


def journey(r, held):
    a, b, date = place(r, held), place(r, held), iso(r)
    text = r.choice(
        (
            f"A flight from {a} to {b} on {date}.",
            f"I travel from {a} to {b} on {date}.",
            f"On {date} we drive from {a} to {b}.",
            f"Train {a} to {b}, {date}.",
        )
    )
    first, second = r.choice((("from", "to"), ("origin", "destination"), ("start", "end")))
    return text, [(first, STRING, a), (second, STRING, b), ("date", STRING, date)]


def stock(r, held):
    product, there, n = drawn(r, PRODUCTS, held), r.random() < 0.5, r.randint(1, 200)
    if there:
        text = r.choice(
            (
                f"The {product} is in stock: {n} pieces.",
                f"Yes, we have {n} {product}s.",
                f"There are {n} {product}s available.",
            )
        )
    else:
        text, n = (
            r.choice(
                (f"The {product} is sold out.", f"Sorry, we have no {product}s.", f"There are no {product}s available.")
            ),
            0,
        )
    return text, [
        (r.choice(("product", "item")), STRING, product),
        (r.choice(("in_stock", "available")), BOOLEAN, there),
        (r.choice(("quantity", "count")), INTEGER, n),
    ]


def kind(r, held):
    groups = {"animal": ANIMALS, "color": COLORS, "job": JOBS, "food": FOODS, "city": CITIES, "product": PRODUCTS}
    names = r.sample(list(groups), r.randint(2, 4))
    chosen = r.choice(names)
    word = drawn(r, groups[chosen], held)
    return r.choice((word, f"What is {word}?", f"Classify: {word}", f"Classify the word {word}.")), [
        (r.choice(("category", "class", "type", "label")), {"type": "string", "enum": names}, chosen)
    ]


def anything(r, held):
    """Keys and values that fit together only because the text says so."""
    keys = r.sample(KEYS, r.randint(1, 4))
    facts = []
    for key in keys:
        draw = r.random()
        if draw < 0.6:
            facts.append(
                (key, STRING, r.choice((value(r, held), value(r, held), identifier(r), place(r, held), name(r, held))))
            )
        elif draw < 0.85:
            facts.append((key, INTEGER, r.randint(0, r.choice((9, 99, 9999)))))
        else:
            facts.append((key, NUMBER, price(r)))
    told = facts + [
        (key, STRING, value(r, held)) for key in r.sample([k for k in KEYS if k not in keys], r.choice((0, 0, 1)))
    ]
    r.shuffle(told)
    form = r.choice((" The {} is {}.", "\n{}: {}", ", {} {}", "\n{} = {}", "; {}={}"))
    text = "".join(form.format(key, v) for key, _, v in told).lstrip(" \n,;")
    return text, facts


def sum_answer(r, held):
    while True:
        key, q, _, v = r.choice((addition, addition, subtraction, multiplication, conversion))(r)
        if held_out(key) == held:
            return q, [
                (
                    r.choice(("answer", "answer", "result", "value")),
                    r.choice((INTEGER, NUMBER)) if isinstance(v, int) else NUMBER,
                    v,
                )
            ]


def capital_answer(r, held):
    country = r.choice(list(CAPITALS))
    q = r.choice(("What is the capital of {}?", "Capital of {}?", "Tell me about {}.")).format(country)
    return q, [(r.choice(("country", "country", "nation")), STRING, country), ("capital", STRING, CAPITALS[country])]


RECORDS = (
    (person, 24),
    (order, 12),
    (event, 10),
    (review, 9),
    (shopping, 8),
    (invoice, 5),
    (journey, 7),
    (stock, 3),
    (kind, 3),
    (anything, 22),
    (sum_answer, 10),
    (capital_answer, 3),
)


def schema_of(r, facts):
    """A schema asking for some of the facts in some order, and the object that answers it."""
    chosen = r.sample(facts, r.randint(min(len(facts), r.choice((1, 2, 3, len(facts)))), len(facts)))
    if r.random() < 0.5:
        chosen = [fact for fact in facts if fact in chosen]
    properties, answer = {}, {}
    for key, kind_of, v in chosen:
        if key in properties:
            continue
        properties[key] = dict(kind_of, description=f"The {key.replace('_', ' ')}") if r.random() < 0.08 else kind_of
        answer[key] = v
    schema = {"type": "object", "properties": properties}
    if r.random() < 0.75:
        schema["required"] = list(properties)
    if r.random() < 0.4:
        schema["additionalProperties"] = False
    return schema, answer


def pick(r, weighted):
    functions, weights = zip(*weighted)
    return r.choices(functions, weights)[0]


LEADS = ("Extract the {}: ", "Extract the {} from this text: ", "Extract: ", "Read this: ", "Text: ", "")
TITLES = {
    "person": "person",
    "order": "order",
    "event": "event",
    "review": "review",
    "shopping": "list",
    "invoice": "invoice",
    "journey": "trip",
    "stock": "product",
    "kind": "category",
    "anything": "data",
}


def extraction(r, held, record=None):
    """(schema, user text, JSON text)."""
    record = record or pick(r, RECORDS)
    text, facts = record(r, held)
    schema, answer = schema_of(r, facts)
    title = TITLES.get(record.__name__)
    if title and not (record is kind):
        text = r.choice(LEADS + ("", "", "")).format(title) + text
    return schema, text, json.dumps(answer, ensure_ascii=False)
