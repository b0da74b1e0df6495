"""Questions whose answer is computed: arithmetic, units and the calendar.

Each function takes a random.Random and gives (key, question, answer, value): the key decides whether the question is
held out, the value is what a JSON answer would hold.
"""

import calendar
import datetime
from decimal import ROUND_HALF_UP, Decimal

from words import DAYS, FOODS, MONTHS, NAMES, PRODUCTS

LARGEST = 999

ADD = (
    "What is {a} + {b}?",
    "What is {a} + {b}?",
    "{a} + {b}",
    "{a}+{b}",
    "{a} + {b} =",
    "{a}+{b}=",
    "{a} + {b} = ?",
    "Calculate {a} + {b}.",
    "Compute {a} + {b}.",
    "What is {a} plus {b}?",
    "What's {a} + {b}?",
    "What's {a} plus {b}?",
    "{a} plus {b}",
    "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
    "Add {a} and {b}.",
    "Add {a} to {b}.",
    "What is the sum of {a} and {b}?",
    "Sum {a} and {b}.",
    "Can you add {a} and {b}?",
    "Please add {a} and {b}.",
    "Tell me what {a} + {b} is.",
    "What do you get if you add {a} and {b}?",
    "Solve {a} + {b}.",
    "What does {a} + {b} equal?",
    "What is {a}+{b}?",
)
ADD_STORIES = (
    "{n} has {a} {t} and gets {b} more. How many {t} does {n} have now?",
    "I have {a} {t}. I buy {b} more. How many do I have?",
    "There are {a} {t} in one box and {b} in another. How many are there in total?",
    "{n} had {a} {t} and found {b}. How many {t} are there now?",
)
SUBTRACT = (
    "What is {a} - {b}?",
    "What is {a} - {b}?",
    "{a} - {b}",
    "{a}-{b}",
    "{a} - {b} =",
    "{a} - {b} = ?",
    "Calculate {a} - {b}.",
    "Compute {a} - {b}.",
    "What is {a} minus {b}?",
    "What's {a} - {b}?",
    "What's {a} minus {b}?",
    "{a} minus {b}",
    "How much is {a} - {b}?",
    "How much is {a} minus {b}?",
    "Subtract {b} from {a}.",
    "Take {b} away from {a}.",
    "What is the difference between {a} and {b}?",
    "Solve {a} - {b}.",
    "What does {a} - {b} equal?",
    "Tell me what {a} - {b} is.",
)
SUBTRACT_STORIES = (
    "{n} has {a} {t} and gives {b} away. How many {t} are left?",
    "I had {a} {t}. I lost {b}. How many are left?",
    "There were {a} {t} in a box. {n} took {b}. How many are left?",
)
MULTIPLY = (
    "What is {a} * {b}?",
    "What is {a} x {b}?",
    "What is {a} times {b}?",
    "{a} * {b}",
    "{a}*{b}",
    "{a} x {b}",
    "{a} × {b}",
    "What is {a} × {b}?",
    "{a} times {b}",
    "Calculate {a} * {b}.",
    "Compute {a} times {b}.",
    "How much is {a} * {b}?",
    "How much is {a} times {b}?",
    "Multiply {a} by {b}.",
    "Multiply {a} and {b}.",
    "What is the product of {a} and {b}?",
    "What's {a} * {b}?",
    "What's {a} times {b}?",
    "{a} * {b} =",
    "Solve {a} * {b}.",
)
MULTIPLY_STORIES = (
    "{n} has {a} boxes with {b} {t} each. How many {t} is that?",
    "One box holds {b} {t}. How many {t} are in {a} boxes?",
)
DIVIDE = (
    "What is {a} / {b}?",
    "What is {a} divided by {b}?",
    "{a} / {b}",
    "{a}/{b}",
    "{a} ÷ {b}",
    "What is {a} ÷ {b}?",
    "{a} divided by {b}",
    "Calculate {a} / {b}.",
    "How much is {a} / {b}?",
    "Divide {a} by {b}.",
    "What's {a} divided by {b}?",
    "What's {a} / {b}?",
    "{a} / {b} =",
)
DIVIDE_STORIES = ("{n} shares {a} {t} between {b} people. How many does each get?",)


def asked(r, plain, stories, a, b):
    if r.random() < 0.15:
        return r.choice(stories).format(
            a=a, b=b, n=r.choice(NAMES), t=r.choice((r.choice(PRODUCTS) + "s", r.choice(FOODS), "coins", "cards"))
        )
    return r.choice(plain).format(a=a, b=b)


def operand(r):
    return r.randint(0, 99) if r.random() < 0.86 else r.randint(100, LARGEST)


def places(a):
    """156 as [100, 50, 6]; noughts are left out."""
    digits = str(a)
    return [int(d) * 10 ** (len(digits) - i - 1) for i, d in enumerate(digits) if d != "0"]


def worked(a, operator, b):
    """The sum as it is done by hand, place by place: a step needs two digits, and so small a model can do that.

    17 + 25 = 30 + 12 = 42; 65 - 27 = 45 - 7 = 38; 34 * 8 = 240 + 32 = 272. What needs no step has none.
    """
    steps = [f"{a} {operator} {b}"]
    if operator == "+" and max(a, b) > 9:
        length = len(str(max(a, b)))
        sums = [
            (int(str(a).zfill(length)[i]) + int(str(b).zfill(length)[i])) * 10 ** (length - i - 1)
            for i in range(length)
        ]
        sums = [x for x in sums if x]
        if len(sums) > 1:
            steps.append(" + ".join(map(str, sums)))
        found = a + b
    elif operator == "-":
        rest = places(b)
        left = a
        while len(rest) > 1 and a >= b:
            left -= rest.pop(0)
            steps.append(f"{left} - {sum(rest)}")
        found = a - b
    elif operator == "*":
        if max(a, b) > 12 and len(places(max(a, b))) > 1:
            steps.append(" + ".join(str(part * min(a, b)) for part in places(max(a, b))))
        found = a * b
    else:
        found = a + b
    return " = ".join([*steps, str(found)])


def addition(r):
    a, b = (operand(r), operand(r)) if r.random() < 0.85 else (r.randint(0, 20), r.randint(0, 20))
    return f"{min(a, b)} + {max(a, b)}", asked(r, ADD, ADD_STORIES, a, b), worked(a, "+", b), a + b


def subtraction(r):
    a, b = (operand(r), operand(r)) if r.random() < 0.8 else (r.randint(0, 20), r.randint(0, 20))
    a, b = max(a, b), min(a, b)
    return f"{a} - {b}", asked(r, SUBTRACT, SUBTRACT_STORIES, a, b), worked(a, "-", b), a - b


def multiplication(r, table=None):
    """Up to 12 by 12 all is taught, as at school; beyond, two digits by one, and some of that is held out."""
    table = r.random() < 0.5 if table is None else table
    a, b = (r.randint(0, 12), r.randint(0, 12)) if table else (r.randint(13, 99), r.randint(2, 9))
    key = "table" if table else f"{a} * {b}"
    if r.random() < 0.4:
        a, b = b, a
    return key, asked(r, MULTIPLY, MULTIPLY_STORIES, a, b), worked(a, "*", b), a * b


def division(r):
    b, c = r.randint(1, 12), r.randint(0, 12)
    return "table", asked(r, DIVIDE, DIVIDE_STORIES, b * c, b), f"{b * c} / {b} = {c}", c


def compared(r):
    a, b = operand(r), operand(r)
    if a == b:
        b = a + 1
    larger = r.random() < 0.5
    q = r.choice(("Which is {}, {} or {}?", "Which number is {}: {} or {}?", "What is {}, {} or {}?")).format(
        r.choice(("larger", "bigger", "greater")) if larger else "smaller", a, b
    )
    found = max(a, b) if larger else min(a, b)
    return f"{a} or {b}", q, f"{found} is {'larger' if larger else 'smaller'}.", found


def counting(r):
    a = r.choice((1, 1, 1, r.randint(0, 90)))
    b = a + r.choice((2, 4, 9, r.randint(2, 30)))
    if a == 1 and r.random() < 0.12:
        b = r.choice((50, 60, 100))
    q = (
        f"Count to {b}."
        if a == 1 and r.random() < 0.6
        else r.choice(
            ("Count from {} to {}.", "Please count from {} to {}.", "List the numbers from {} to {}.")
        ).format(a, b)
    )
    numbers = list(range(a, b + 1))
    return f"count {a} {b}", q, ", ".join(map(str, numbers)), numbers


UNITS = {
    # from, to: how many of the second make one of the first.
    ("km", "m"): "1000",
    ("m", "cm"): "100",
    ("cm", "mm"): "10",
    ("kg", "g"): "1000",
    ("l", "ml"): "1000",
    ("hours", "minutes"): "60",
    ("minutes", "seconds"): "60",
    ("days", "hours"): "24",
    ("weeks", "days"): "7",
    ("years", "months"): "12",
    ("miles", "km"): "1.609344",
    ("km", "miles"): "0.621371",
    ("kg", "pounds"): "2.204623",
    ("pounds", "kg"): "0.453592",
    ("inches", "cm"): "2.54",
    ("feet", "m"): "0.3048",
}
BACK = (("m", "km"), ("cm", "m"), ("mm", "cm"), ("g", "kg"), ("ml", "l"))
SPELLED = {
    "km": "kilometers",
    "m": "meters",
    "cm": "centimeters",
    "mm": "millimeters",
    "kg": "kilograms",
    "g": "grams",
    "l": "liters",
    "ml": "milliliters",
}
CONVERT = (
    "How many {t} are {v} {f}?",
    "How many {t} are in {v} {f}?",
    "Convert {v} {f} to {t}.",
    "Convert {v} {f} into {t}.",
    "{v} {f} in {t}",
    "{v} {f} to {t}",
    "What is {v} {f} in {t}?",
    "How many {t} is {v} {f}?",
    "Change {v} {f} to {t}.",
)


def short(number):
    """At most one decimal, rounded half up, without a trailing zero."""
    text = str(Decimal(number).quantize(Decimal("0.1"), ROUND_HALF_UP))
    return text[:-2] if text.endswith(".0") else text


def as_number(text):
    return float(text) if "." in text else int(text)


def conversion(r):
    kind = r.random()
    if kind < 0.16:
        hot = r.random() < 0.5
        if hot:
            v = r.randint(-10, 100)
            found, f, t = short(Decimal(v) * 9 / 5 + 32), "Celsius", "Fahrenheit"
        else:
            v = r.randint(0, 100)
            found, f, t = short(Decimal(v - 32) * 5 / 9), "Fahrenheit", "Celsius"
        f = r.choice((f, f"degrees {f}"))
        q = r.choice(
            ("What is {v} {f} in {t}?", "Convert {v} {f} to {t}.", "{v} {f} in {t}", "How much is {v} {f} in {t}?")
        ).format(v=v, f=f, t=t)
        return f"{v} {f.split()[-1]}", q, f"{v} degrees {f.split()[-1]} is {found} degrees {t}.", as_number(found)
    if kind < 0.3:
        f, t = r.choice(BACK)
        factor = int(UNITS[(t, f)])
        v = r.randint(1, 40) * factor
        found = str(v // factor)
    else:
        f, t = r.choice(list(UNITS))
        v = r.randint(1, 30) if "." in UNITS[(f, t)] or UNITS[(f, t)] in ("60", "24", "7", "12") else r.randint(1, 99)
        found = short(Decimal(UNITS[(f, t)]) * v)
    key = f"{v} {f} {t}"
    spelled = r.random() < 0.35
    names = [SPELLED.get(unit, unit) if spelled else unit for unit in (f, t)]
    one = [
        name.rstrip("s").replace("feet", "foot").replace("inche", "inch") if v == 1 and len(name) > 2 else name
        for name in names[:1]
    ] + names[1:]
    q = r.choice(CONVERT).format(v=v, f=one[0], t=names[1])
    return key, q, f"{v} {one[0]} is {found} {names[1]}.", as_number(found)


def written(day, month, year=None):
    return f"{day} {MONTHS[month - 1]}" + (f" {year}" if year else "")


def month_length(r):
    month = r.randint(1, 12)
    if month == 2 or r.random() < 0.1:
        year = r.randint(1896, 2104)
        days = calendar.monthrange(year, month)[1]
        return (
            f"month {month} {year}",
            r.choice(
                ("How many days does {} {} have?", "How many days are in {} {}?", "How many days are there in {} {}?")
            ).format(MONTHS[month - 1], year),
            f"{MONTHS[month - 1]} {year} has {days} days.",
            days,
        )
    days = calendar.monthrange(2023, month)[1]
    return (
        "month",
        r.choice(
            (
                "How many days does {} have?",
                "How many days are in {}?",
                "How many days are there in {}?",
                "Number of days in {}?",
            )
        ).format(MONTHS[month - 1]),
        f"{MONTHS[month - 1]} has {days} days.",
        days,
    )


def leap_year(r):
    year = r.choice((r.randint(1896, 2104), r.randint(1980, 2050), 1900, 2000, 2100))
    leap = calendar.isleap(year)
    q = r.choice(("Is {} a leap year?", "Was {} a leap year?", "Is the year {} a leap year?", "{} leap year?")).format(
        year
    )
    return (
        ("leap" if year % 100 == 0 else f"leap {year}"),
        q,
        (f"Yes, {year} is a leap year." if leap else f"No, {year} is not a leap year."),
        leap,
    )


def any_date(r):
    start = datetime.date(2000, 1, 1) + datetime.timedelta(days=r.randint(0, 14600))
    if r.random() < 0.35:  # Ends of months are the hard part.
        start = start.replace(day=calendar.monthrange(start.year, start.month)[1])
    return start


def next_date(r):
    after = r.random() < 0.7
    day = any_date(r)
    if not after and r.random() < 0.35:
        day = day.replace(day=1)
    found = day + datetime.timedelta(days=1 if after else -1)
    word = "after" if after else "before"
    if r.random() < 0.5:
        q = r.choice(
            ("What date comes {} {}?", "What is the day {} {}?", "Which day is {} {}?", "What is the date {} {}?")
        ).format(word, day.isoformat())
        return f"{day}", q, f"The day {word} {day} is {found}.", found.isoformat()
    year = (
        day.year
        if (day.month == 2 and day.day >= 28) or (day.month == 3 and day.day == 1) or r.random() < 0.4
        else None
    )
    first, second = written(day.day, day.month, year), written(found.day, found.month, found.year if year else None)
    q = r.choice(
        ("What date comes {} {}?", "What is the day {} {}?", "Which day is {} {}?", "What comes {} {}?")
    ).format(word, first)
    return f"{day}", q, f"The day {word} {first} is {second}.", second


def weekday_later(r):
    start, n = r.randint(0, 6), r.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 21, r.randint(1, 30)))
    ago = r.random() < 0.2
    found = DAYS[(start + (-n if ago else n)) % 7]
    days = "1 day" if n == 1 else f"{n} days"
    if n == 1 and r.random() < 0.6:
        word = "before" if ago else "after"
        return (
            "weekday",
            r.choice((f"What day comes {word} {DAYS[start]}?", f"Which day is {word} {DAYS[start]}?")),
            f"{found} comes {word} {DAYS[start]}.",
            found,
        )
    if ago:
        return (
            f"{start} - {n}" if n > 7 else "weekday",
            f"If today is {DAYS[start]}, what day was it {days} ago?",
            f"{days} before {DAYS[start]} is {found}.",
            found,
        )
    q = r.choice(
        (
            "If today is {}, what day is it in {}?",
            "Today is {}. What day is it in {}?",
            "Today is {}. Which weekday is it in {}?",
        )
    ).format(DAYS[start], days)
    return f"{start} + {n}" if n > 7 else "weekday", q, f"{days} after {DAYS[start]} is {found}.", found


def date_difference(r):
    month = r.randint(1, 12)
    last = calendar.monthrange(2023, month)[1]
    a, b = sorted(r.sample(range(1, last + 1), 2))
    q = r.choice(
        (
            "How many days are there from {} to {}?",
            "How many days are between {} and {}?",
            "How many days from {} to {}?",
        )
    ).format(written(a, month), written(b, month))
    return (
        f"{a} to {b} of {month}",
        q,
        f"From {written(a, month)} to {written(b, month)} it is {b - a} {'day' if b - a == 1 else 'days'}.",
        b - a,
    )


def date_format(r):
    day = any_date(r)
    long = written(day.day, day.month, day.year)
    if r.random() < 0.3:
        q = r.choice(("Write {} in words.", "Which date is {}?")).format(day)
        return f"{day}", q, long, long
    said = r.choice((long, f"{MONTHS[day.month - 1]} {day.day}, {day.year}"))
    q = r.choice(
        ("Write {} as an ISO date.", "What is {} in ISO format?", "Convert {} to ISO format.", "Give {} as YYYY-MM-DD.")
    ).format(said)
    return f"{day}", q, day.isoformat(), day.isoformat()


def month_order(r):
    month = r.randint(0, 11)
    kind = r.random()
    if kind < 0.4:
        after = r.random() < 0.6
        found = MONTHS[(month + (1 if after else -1)) % 12]
        word = "after" if after else "before"
        return "months", f"Which month comes {word} {MONTHS[month]}?", f"{found} comes {word} {MONTHS[month]}.", found
    if kind < 0.7:
        return (
            "months",
            r.choice((f"Which month is number {month + 1}?", f"What is month {month + 1} of the year?")),
            f"Month {month + 1} is {MONTHS[month]}.",
            MONTHS[month],
        )
    return "months", f"What number is the month {MONTHS[month]}?", f"{MONTHS[month]} is month {month + 1}.", month + 1


ARITHMETIC = ((addition, 42), (subtraction, 26), (multiplication, 18), (division, 8), (compared, 2), (counting, 4))
CALENDAR = (
    (month_length, 14),
    (leap_year, 10),
    (next_date, 28),
    (weekday_later, 18),
    (date_difference, 14),
    (date_format, 12),
    (month_order, 8),
)
