"""Small talk: greetings, who it is, what it can do, what it does not know, lists, stories, repeating and spelling."""

from words import (
    ADJECTIVES,
    ANIMALS,
    CAPITALS,
    CITIES,
    COLORS,
    DAYS,
    FOODS,
    JOBS,
    LANGUAGES,
    MONTHS,
    NAMES,
    NOUNS,
    PRODUCTS,
    UNKNOWN_COUNTRIES,
    VALUES,
    drawn,
    invented,
    name,
    place,
    value,
)

UNKNOWN = "I do not know. I am a very small model."
TOO_LARGE = "That is too large for me. I calculate with whole numbers up to 999."
CAN = "I can do small arithmetic, convert units, work with dates, fill in JSON and call tools."

FIXED = (
    (
        (
            "Hello",
            "Hello!",
            "Hi",
            "Hi!",
            "Hey",
            "Hello there",
            "Hi there!",
            "Hey there!",
            "Hello, how are you?",
            "Good day!",
            "Greetings",
        ),
        ("Hello! How can I help you?", "Hello! What can I do for you?", "Hi! How can I help you?"),
    ),
    (("Good morning", "Good morning!"), ("Good morning! How can I help you?",)),
    (("Good evening", "Good evening!"), ("Good evening! How can I help you?",)),
    (
        ("How are you?", "How are you doing?", "How do you do?", "How is it going?", "What's up?"),
        ("I am fine, thank you. How can I help you?", "I am well, thank you."),
    ),
    (
        (
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Tell me about yourself.",
            "Introduce yourself.",
            "Which model are you?",
            "What model is this?",
            "Are you ChatGPT?",
            "Who am I talking to?",
        ),
        ("I am demo/chat, a very small language model.",),
    ),
    (
        (
            "What can you do?",
            "What are you good at?",
            "Help",
            "Help me",
            "How can you help me?",
            "What do you know?",
            "Can you help me?",
        ),
        (CAN,),
    ),
    (
        ("Are you human?", "Are you a robot?", "Are you a person?", "Are you an AI?", "Are you real?"),
        ("I am a very small language model, not a person.",),
    ),
    (
        ("Who made you?", "Who built you?", "Who trained you?", "Where do you come from?"),
        ("I was trained from scratch for this project, on generated text.",),
    ),
    (
        (
            "How old are you?",
            "How big are you?",
            "How large are you?",
            "How many parameters do you have?",
            "How many weights do you have?",
        ),
        ("I have about two million weights.",),
    ),
    (
        (
            "Thanks",
            "Thanks!",
            "Thank you",
            "Thank you!",
            "Thank you very much.",
            "Great, thanks!",
            "Perfect, thank you.",
        ),
        ("You are welcome.", "You are welcome!"),
    ),
    (
        ("Bye", "Bye!", "Goodbye", "Goodbye!", "See you", "See you later!", "Good night", "Good night!"),
        ("Goodbye!", "Goodbye! Have a nice day."),
    ),
    (
        ("OK", "Okay", "Great", "Great!", "Nice", "Good", "Cool", "Well done", "Good job!"),
        ("Is there anything else?", "Can I help you with anything else?"),
    ),
    (("Sorry", "I am sorry."), ("No problem.",)),
    (("Say yes.", "Answer yes."), ("Yes.",)),
    (("Say no.", "Answer no."), ("No.",)),
    (("Test", "Testing", "This is a test.", "ping", "Ping"), ("I am here. How can I help you?",)),
    (("Are you there?", "Can you hear me?", "Do you understand me?"), ("Yes, I am here.",)),
    (
        ("List the days of the week.", "What are the days of the week?", "Name the days of the week."),
        (", ".join(DAYS) + ".",),
    ),
    (
        ("List the months.", "List the months of the year.", "What are the months?", "Name the months of the year."),
        (", ".join(MONTHS) + ".",),
    ),
    (
        ("Say the alphabet.", "What is the alphabet?", "List the letters of the alphabet."),
        (", ".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ") + ".",),
    ),
    (("How many days are in a week?", "How many days does a week have?"), ("A week has 7 days.",)),
    (("How many months are in a year?", "How many months does a year have?"), ("A year has 12 months.",)),
    (("How many hours are in a day?", "How many hours does a day have?"), ("A day has 24 hours.",)),
    (("How many minutes are in an hour?", "How many minutes does an hour have?"), ("An hour has 60 minutes.",)),
    (("How many seconds are in a minute?",), ("A minute has 60 seconds.",)),
    (("How many days are in a year?", "How many days does a year have?"), ("A year has 365 days, a leap year 366.",)),
    (("What color is the sky?", "What is the color of the sky?"), ("The sky is blue.",)),
    (("What color is grass?",), ("Grass is green.",)),
    (("What color is snow?",), ("Snow is white.",)),
    (("What is the largest planet?", "What is the biggest planet?"), ("Jupiter is the largest planet.",)),
    (("Which planet do we live on?", "What planet do we live on?"), ("We live on Earth.",)),
    (("At what temperature does water boil?", "When does water boil?"), ("Water boils at 100 degrees Celsius.",)),
    (("At what temperature does water freeze?", "When does water freeze?"), ("Water freezes at 0 degrees Celsius.",)),
    (("How many legs does a spider have?",), ("A spider has 8 legs.",)),
    (("How many legs does a dog have?", "How many legs does a cat have?"), ("It has 4 legs.",)),
    (("How many sides does a triangle have?",), ("A triangle has 3 sides.",)),
    (("How many sides does a square have?",), ("A square has 4 sides.",)),
    (("What is the opposite of hot?",), ("The opposite of hot is cold.",)),
    (("What is the opposite of big?",), ("The opposite of big is small.",)),
    (("What are the primary colors?",), ("Red, yellow and blue.",)),
    (
        ("Tell me a joke.", "Do you know a joke?", "Make me laugh."),
        (
            "Why was the math book sad? It had too many problems.",
            "What has four legs and cannot walk? A table.",
            "What gets wet while it dries? A towel.",
        ),
    ),
    (("What is JSON?",), ("JSON is a text format for data: objects, lists, strings, numbers, true, false and null.",)),
    (("What is the meaning of life?",), ("42, some say. I am too small to know.",)),
)

MYSTERIES = (
    "Who won the match yesterday?",
    "What will the weather be like in {place}?",
    "Who is {name}?",
    "Who was {name}?",
    "What is the price of {thing}?",
    "Who wrote this book?",
    "Explain quantum physics.",
    "Explain {thing} to me.",
    "What is the stock price of {word}?",
    "Who is the president?",
    "What is the news today?",
    "Write a program in Python.",
    "What is {word}?",
    "What does {word} mean?",
    "Where is {word}?",
    "When was {name} born?",
    "Translate {thing} into {language}.",
    "What is the capital of {unknown}?",
    "How many people live in {place}?",
    "What did {name} say about {thing}?",
    "Why is the {thing} {adjective}?",
    "How does a {thing} work?",
    "What time is it?",
    "What day is it today?",
    "How tall is {name}?",
    "Recommend a {thing}.",
    "What is the history of {place}?",
    "Who discovered {word}?",
    "Which {thing} is the best?",
    "How do I fix my {thing}?",
    "What is the population of {unknown}?",
    "Tell me about {place}.",
)


def fixed(r):
    questions, answers = r.choice(FIXED)
    question = r.choice(questions)
    return "talk", question, r.choice(answers)


def mystery(r):
    q = r.choice(MYSTERIES).format(
        place=r.choice(CITIES),
        name=name(r, False),
        thing=r.choice(PRODUCTS + NOUNS),
        word=invented(r),
        unknown=r.choice(UNKNOWN_COUNTRIES),
        adjective=r.choice(ADJECTIVES),
        language=r.choice(LANGUAGES),
    )
    return q, q, UNKNOWN


def too_large(r):
    a, b = r.randint(1000, 99999), r.randint(1000, 99999)
    q = r.choice(
        ("What is {} + {}?", "What is {} * {}?", "{} * {}", "Calculate {} - {}.", "What is {} plus {}?", "{} + {}")
    ).format(a, b)
    return q, q, TOO_LARGE


def capital(r):
    country = r.choice(list(CAPITALS))
    if r.random() < 0.2:
        return (
            "capital",
            f"{CAPITALS[country]} is the capital of which country?",
            f"{CAPITALS[country]} is the capital of {country}.",
        )
    q = r.choice(
        (
            "What is the capital of {}?",
            "Which city is the capital of {}?",
            "Name the capital of {}.",
            "Capital of {}?",
            "What's the capital of {}?",
        )
    ).format(country)
    return "capital", q, f"The capital of {country} is {CAPITALS[country]}."


def repeat(r):
    """Copying: what makes a small model useful with tools and JSON."""
    kind = r.random()
    if kind < 0.3:
        text = value(r, False)
    elif kind < 0.6:
        text = " ".join(
            r.choice((r.choice(NOUNS), r.choice(VALUES), invented(r), str(r.randint(0, 999))))
            for _ in range(r.randint(2, 6))
        )
    elif kind < 0.8:
        text = f"The {r.choice(ADJECTIVES)} {r.choice(ANIMALS)} {r.choice(('sees', 'likes', 'follows', 'finds', 'helps'))} the {r.choice(COLORS)} {r.choice(PRODUCTS)}."
    else:
        text = "".join(
            r.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
            for _ in range(r.randint(3, 12))
        )
    q = r.choice(
        ("Repeat: {}", "Repeat after me: {}", "Say: {}", "Echo: {}", "Write this: {}", 'Repeat "{}".', 'Say "{}".')
    ).format(text)
    return text, q, text


def spell(r):
    word = r.choice((r.choice(PRODUCTS), r.choice(ANIMALS), r.choice(NOUNS), invented(r), r.choice(NAMES)))
    if r.random() < 0.25:
        return (
            f"letters {word}",
            f"How many letters does the word {word} have?",
            f"{'-'.join(word)}: {len(word)} letters.",
        )
    return (
        f"spell {word}",
        r.choice((f"Spell {word}.", f"Spell the word {word}.", f"How do you spell {word}?")),
        "-".join(word),
    )


OPENINGS = ("Once upon a time there was", "Long ago there lived", "In a small village there was", "One day there came")
HOMES = ("in a forest", "near the sea", "on a hill", "by a lake", "in an old house", "behind the mountains")
WISHES = ("wanted to find", "lost", "dreamed of", "looked for")
HELPERS = ("met", "asked", "followed", "helped")
ENDINGS = (
    "Then they went home and were happy.",
    "From that day on they were friends.",
    "In the end all was well.",
    "They laughed and shared a meal.",
)


def story(r):
    animal = r.choice(ANIMALS)
    asked_for = r.random() < 0.5
    q = (
        r.choice(
            ("Tell me a story about a {}.", "Write a story about a {}.", "Tell me a short story about a {}.")
        ).format(animal)
        if asked_for
        else r.choice(("Tell me a story.", "Write a story.", "Tell me a short story.", "Can you tell me a story?"))
    )
    hero = r.choice(NAMES)
    adjective, second = r.choice(ADJECTIVES), r.choice(ANIMALS)
    thing, color = r.choice(PRODUCTS), r.choice(COLORS)
    a = f"{r.choice(OPENINGS)} a {adjective} {animal} named {hero}. {hero} lived {r.choice(HOMES)}. One day {hero} {r.choice(WISHES)} a {color} {thing}. On the way {hero} {r.choice(HELPERS)} a {r.choice(ADJECTIVES)} {second}. "
    if r.random() < 0.5:
        a += f'The {second} said: "I know where the {thing} is." '
    else:
        a += f"Together they searched {r.choice(HOMES)} and found the {thing}. "
    return f"{animal} {hero} {thing}", q, a + r.choice(ENDINGS)


def invent(r):
    """Free choice, so that temperature and seeds have something to choose between."""
    kind, words = r.choice(
        (
            ("a color", COLORS),
            ("an animal", ANIMALS),
            ("a fruit or a dish", FOODS),
            ("a city", CITIES),
            ("a name", NAMES),
            ("a job", JOBS),
            ("a number from 1 to 10", [str(n) for n in range(1, 11)]),
        )
    )
    if r.random() < 0.3 and kind in ("a color", "an animal", "a city", "a name"):
        n = r.randint(2, 4)
        plural = {"a color": "colors", "an animal": "animals", "a city": "cities", "a name": "names"}[kind]
        return "invent", r.choice((f"Name {n} {plural}.", f"List {n} {plural}.")), ", ".join(r.sample(list(words), n))
    return (
        "invent",
        r.choice((f"Name {kind}.", f"Tell me {kind}.", f"Choose {kind}.", f"Pick {kind}.")),
        r.choice(words),
    )


def memory(r, held):
    """Two turns: something told, then asked for. Gives (told, reply, asked, answer)."""
    kind = r.randint(0, 4)
    if kind == 0:
        x = name(r, held)
        return (
            r.choice((f"My name is {x}.", f"I am {x}.", f"Hi, I am {x}.", f"Hello, my name is {x}.")),
            f"Hello {x}! How can I help you?",
            r.choice(("What is my name?", "Do you know my name?", "Who am I?")),
            f"Your name is {x}.",
        )
    if kind == 1:
        x = place(r, held)
        return (
            r.choice((f"I live in {x}.", f"I am from {x}.")),
            f"I will remember that: {x}.",
            r.choice(("Where do I live?", "Where am I from?", "Which city do I live in?")),
            f"You live in {x}.",
        )
    if kind == 2:
        x = drawn(r, COLORS, held) if r.random() < 0.5 else value(r, held)
        return (
            f"My favorite color is {x}.",
            f"I will remember that: {x}.",
            r.choice(("What is my favorite color?", "Which color do I like?")),
            f"Your favorite color is {x}.",
        )
    if kind == 3:
        x = r.randint(10, 9999)
        return (
            r.choice((f"Remember the number {x}.", f"Please remember {x}.")),
            f"I will remember that: {x}.",
            r.choice(("Which number did I tell you?", "What was the number?", "What number should you remember?")),
            f"The number is {x}.",
        )
    x, y = r.choice(NOUNS), value(r, held)
    return (
        f"The {x} is {y}.",
        f"I will remember that: {y}.",
        r.choice((f"What is the {x}?", f"Tell me the {x}.")),
        f"The {x} is {y}.",
    )


TALK = ((fixed, 36), (mystery, 18), (too_large, 3), (capital, 9), (repeat, 18), (spell, 3), (story, 5), (invent, 4))
