"""Sentences that mean the same in other words, written by rules.

A meaning is a tuple; `surface` says it in one of several ways. Three kinds of meaning: an action on a thing (each with
synonyms), a fact about somebody or something (asked or told), and a topic. About one meaning in ten is held out, by
CRC-32 of the tuple: no training pair has it, although its words and its forms do occur in others.
"""

import zlib

ACTIONS = (
    ("cancel", "call off", "stop"),
    ("change", "update", "edit", "modify"),
    ("delete", "remove", "erase", "get rid of"),
    ("find", "locate", "look for"),
    ("buy", "purchase", "order"),
    ("repair", "fix", "mend"),
    ("pay for", "settle"),
    ("return", "send back", "give back"),
    ("clean", "wash"),
    ("sell", "get money for"),
    ("rent", "hire", "lease"),
    ("share", "show to others"),
    ("copy", "duplicate"),
    ("save", "store", "keep"),
    ("open", "unlock"),
    ("close", "shut"),
    ("compare", "choose between"),
    ("insure", "protect"),
    ("borrow", "lend"),
    ("start", "begin", "launch"),
    ("track", "follow", "monitor"),
    ("print", "put on paper"),
    ("build", "construct", "assemble"),
    ("paint", "color"),
    ("move", "transport", "carry"),
    ("review", "check", "inspect"),
    ("download", "load"),
    ("throw away", "dispose of", "discard"),
    ("improve", "make better", "upgrade"),
    ("explain", "describe"),
)
THINGS = (
    ("password", "passcode", "login"),
    ("bike", "bicycle"),
    ("car", "automobile", "vehicle"),
    ("phone", "smartphone", "mobile", "cell phone"),
    ("computer", "laptop", "pc"),
    ("apartment", "flat"),
    ("holiday", "vacation"),
    ("movie", "film"),
    ("photo", "picture", "image"),
    ("bill", "invoice"),
    ("package", "parcel", "shipment"),
    ("house", "home"),
    ("sofa", "couch"),
    ("trash", "garbage", "rubbish"),
    ("ticket", "pass"),
    ("garden", "yard"),
    ("book", "novel"),
    ("shirt", "blouse"),
    ("shoes", "boots"),
    ("table", "desk"),
    ("document", "file", "paper"),
    ("website", "web page", "site"),
    ("subscription", "membership"),
    ("appointment", "meeting"),
    ("recipe", "dish"),
    ("lamp", "light"),
    ("window", "pane"),
    ("coat", "jacket"),
    ("printer", "printing device"),
    ("camera", "photo camera"),
    ("account", "profile"),
    ("contract", "agreement"),
    ("song", "music track"),
    ("boat", "ship"),
    ("road", "street"),
    ("gift", "present"),
    ("medicine", "drug"),
    ("key", "door key"),
    ("watch", "wristwatch"),
    ("email", "mail", "message"),
    ("plane", "aircraft"),
    ("suitcase", "luggage", "bag"),
    ("kitchen", "cooking area"),
    ("heating", "heater"),
    ("bed", "mattress"),
    ("television", "tv"),
)
ACTION_FORMS = (
    "How do I {a} my {t}?",
    "How can I {a} the {t}?",
    "I want to {a} my {t}.",
    "I would like to {a} a {t}.",
    "Help me {a} my {t}.",
    "What is the best way to {a} a {t}?",
    "Steps to {a} the {t}",
    "Is it possible to {a} my {t}?",
    "Where can I {a} a {t}?",
    "I need to {a} the {t} today.",
    "Guide: {a} your {t}",
    "Can somebody {a} my {t}?",
    "{a} {t}",
    "This page tells you how to {a} the {t}.",
    "To {a} your {t}, follow these steps.",
    "She had to {a} her {t}.",
    "We will {a} the {t} tomorrow.",
    "They wanted to {a} their {t} last week.",
)

NAMES = "Ada Alan Alice Amir Ana Anna Ben Boris Carla Chen Clara Daniel Diego Dora Elena Emil Emma Erik Eva Fatima Felix Finn Grace Hana Hugo Ida Igor Ines Jack Jana Jonas Julia Kai Karl Laura Lea Leo Lina Lucas Marta Max Maya Mia Mila Nadia Nils Nina Noah Nora Olga Omar Oscar Paul Pedro Priya Rosa Ruth Sam Sara Sven Tara Theo Tim Vera Victor Walter Wei Yara Yuki Zoe".split()
CITIES = "Accra Athens Bangkok Berlin Boston Cairo Chicago Dublin Geneva Hamburg Helsinki Istanbul Kyoto Lagos Lima Lisbon London Lyon Madrid Milan Moscow Mumbai Nairobi Osaka Oslo Paris Porto Prague Riga Rome Seoul Sydney Tallinn Tokyo Toronto Vienna Warsaw Zagreb Zurich".split()
FACTS = {
    # name of the relation: (values of the second place, ways to ask, ways to tell)
    "lives": (
        CITIES,
        ("Where does {x} live?", "Which city does {x} live in?", "What is the home town of {x}?"),
        (
            "{x} lives in {y}.",
            "The home of {x} is {y}.",
            "{y} is where {x} lives.",
            "{x} has a house in {y}.",
            "{x} is a resident of {y}.",
        ),
    ),
    "job": (
        "actor baker barber builder carpenter cook dentist doctor driver engineer farmer gardener judge lawyer nurse painter pilot poet sailor singer student tailor teacher waiter writer".split(),
        ("What is the job of {x}?", "What does {x} do for a living?", "What is the profession of {x}?"),
        ("{x} is a {y}.", "{x} works as a {y}.", "The profession of {x} is {y}.", "{x} earns money as a {y}."),
    ),
    "food": (
        "apples bananas beans bread butter carrots cheese coffee eggs fish grapes honey lemons milk nuts onions oranges pasta pears potatoes rice salad soup tea tomatoes".split(),
        ("What does {x} like to eat?", "What is the favorite food of {x}?"),
        ("{x} likes {y}.", "{x} enjoys eating {y}.", "The favorite food of {x} is {y}.", "{x} loves {y}."),
    ),
    "animal": (
        "bird camel cat cow dog duck fish fox frog goat goose hen horse mouse owl pig rabbit sheep snake turtle".split(),
        ("Which animal does {x} own?", "What pet does {x} have?"),
        ("{x} has a {y}.", "{x} owns a {y}.", "The pet of {x} is a {y}.", "A {y} belongs to {x}."),
    ),
    "speaks": (
        "Arabic Chinese Danish Dutch English Finnish French German Greek Hindi Italian Japanese Korean Polish Portuguese Russian Spanish Swedish Turkish".split(),
        ("Which language does {x} speak?", "What languages does {x} know?"),
        ("{x} speaks {y}.", "{x} knows the {y} language.", "{x} can talk in {y}.", "{y} is spoken by {x}."),
    ),
    "plays": (
        "chess drums football golf guitar hockey piano tennis violin volleyball".split(),
        ("What does {x} play?", "Which hobby does {x} have?"),
        ("{x} plays {y}.", "{x} is good at {y}.", "In free time {x} plays {y}.", "The hobby of {x} is {y}."),
    ),
    "travels": (
        CITIES,
        ("Where does {x} travel to?", "What is the destination of {x}?"),
        (
            "{x} travels to {y}.",
            "{x} takes a trip to {y}.",
            "The destination of {x} is {y}.",
            "{x} flies to {y} next week.",
            "{x} is going to visit {y}.",
        ),
    ),
    "fears": (
        "dogs darkness fire heights ghosts snakes spiders storms water wolves".split(),
        ("What is {x} afraid of?", "What frightens {x}?"),
        ("{x} is afraid of {y}.", "{x} fears {y}.", "{y} frighten {x}.", "{x} is scared of {y}."),
    ),
}
CITY_FACTS = {
    "weather": (
        "cloudy cold dry foggy hot icy rainy snowy stormy sunny warm windy".split(),
        ("What is the weather in {x}?", "How is the weather in {x} today?", "Weather forecast for {x}"),
        ("It is {y} in {x}.", "The weather in {x} is {y}.", "{x} has {y} weather today.", "Today {x} will be {y}."),
    ),
    "known": (
        "bridges canals castles cheese coffee fashion gardens markets museums music parks ships theaters towers wine".split(),
        ("What is {x} known for?", "Why is {x} famous?"),
        (
            "{x} is known for its {y}.",
            "{x} is famous for {y}.",
            "People visit {x} because of the {y}.",
            "The {y} of {x} are well known.",
        ),
    ),
}
TOPICS = {
    "cooking": "oven pan recipe flour butter bake boil fry kitchen spoon salt pepper soup bread dough cake sauce chef taste meal".split(),
    "astronomy": "planet star moon orbit telescope galaxy comet sun sky rocket gravity mars light space crater eclipse satellite universe".split(),
    "medicine": "doctor nurse hospital patient fever pain pill illness blood heart bone surgery cough virus health treatment vaccine symptom".split(),
    "finance": "bank money loan interest credit debt budget stock market tax salary invest account payment currency profit cost insurance".split(),
    "sport": "team goal ball match player coach race score win stadium run jump league swim trainer medal tennis champion".split(),
    "music": "guitar piano song singer band melody rhythm concert violin drum note orchestra choir tune sing album stage sound".split(),
    "computers": "software program code keyboard screen memory server network data file bug browser processor disk update password user internet".split(),
    "gardening": "plant soil seed water flower tree leaf rose grow garden root grass weed harvest vegetable spade bush compost".split(),
    "travel": "airport flight hotel passport luggage train tourist map beach journey visa ticket guide tour station cruise booking holiday".split(),
    "school": "teacher student lesson exam homework class book pencil grade school university learn study library course essay subject pupil".split(),
    "weather": "rain snow wind storm cloud thunder sunny temperature fog ice forecast lightning cold heat humid frost degree breeze".split(),
    "law": "judge court lawyer crime law police witness trial jury prison contract guilty evidence verdict rights sentence appeal thief".split(),
    "animals": "dog cat horse bird lion wolf bear fish nest fur tail paw wild zoo feed herd hunt rabbit".split(),
    "building": "brick wall roof floor concrete architect house window door beam wood tower crane cement stairs foundation worker drill".split(),
    "art": "painting artist museum canvas brush color sculpture portrait drawing gallery sketch frame exhibition style ink paint statue design".split(),
    "transport": "car bus truck road bridge traffic driver wheel engine fuel bicycle tram highway brake garage parking speed motor".split(),
    "sea": "ship wave sailor harbor island ocean fish anchor sail captain coast whale tide boat port deck shark water".split(),
    "farming": "farmer field cow wheat tractor barn milk corn sheep pig harvest hay egg plow crop cattle goat farm".split(),
    "clothes": "shirt dress coat shoe hat wool cotton tailor fashion button sleeve fabric jacket scarf glove skirt wear sew".split(),
    "politics": "president vote election party parliament minister government law citizen campaign debate mayor policy tax reform senate state power".split(),
}
TOPIC_FORMS = (
    "The {0} and the {1}.",
    "We talked about the {0}, the {1} and the {2}.",
    "A text about {0} and {1}.",
    "There was a {0} near the {1}.",
    "The {0} needs a {1}.",
    "Everything about {0}, {1}, {2}.",
    "I read about a {0} and a new {1}.",
    "Without a {0} there is no {1}.",
    "Which {0} is the best for the {1}?",
    "{0} {1} {2}",
    "They looked at the {0}, then at the {1}.",
    "The {0} was more important than the {1} and the {2}.",
)
KINDS = ("action", "fact", "topic")


def held_out(meaning):
    return zlib.crc32(("assay embed " + " ".join(map(str, meaning))).encode()) % 10 == 3


def drawn(r, kind):
    """One meaning of a kind."""
    if kind == "action":
        return ("action", r.randrange(len(ACTIONS)), r.randrange(len(THINGS)))
    if kind == "fact":
        if r.random() < 0.25:
            relation = r.choice(list(CITY_FACTS))
            return ("fact", relation, r.choice(CITIES), r.choice(CITY_FACTS[relation][0]))
        relation = r.choice(list(FACTS))
        return ("fact", relation, r.choice(NAMES), r.choice(FACTS[relation][0]))
    # A topic's meaning is the topic; what is held out are choices of three of its words.
    topic = r.choice(list(TOPICS))
    return ("topic", topic, *sorted(r.sample(TOPICS[topic], 3)))


def meaning(r, kind, held):
    while True:
        found = drawn(r, kind)
        if held_out(found) == held:
            return found


def surface(r, meant, asked=None):
    """The meaning in words. A fact can be asked: the question leaves out what the statement tells."""
    if meant[0] == "action":
        text = r.choice(ACTION_FORMS).format(a=r.choice(ACTIONS[meant[1]]), t=r.choice(THINGS[meant[2]]))
    elif meant[0] == "fact":
        _, ask, tell = FACTS.get(meant[1]) or CITY_FACTS[meant[1]]
        asked = r.random() < 0.3 if asked is None else asked
        text = r.choice(ask if asked else tell).format(x=meant[2], y=meant[3])
    else:
        words = list(meant[2:])
        r.shuffle(words)
        text = r.choice(TOPIC_FORMS).format(*words)
    return text[:1].upper() + text[1:] if r.random() < 0.8 else text.lower().rstrip("?.")


def pair(r, kind, held):
    """(meaning, one text, another text). For a topic the second text has other words of the topic."""
    meant = meaning(r, kind, held)
    if kind == "topic":
        other = meaning(r, "topic", held)
        while other[1] != meant[1] or other == meant:
            other = meaning(r, "topic", held)
        first, second = surface(r, meant), surface(r, other)
        if r.random() < 0.1 and not held:
            # Long texts: many sentences of one topic.
            more = [surface(r, ("topic", meant[1], *r.sample(TOPICS[meant[1]], 3))) for _ in range(r.randint(2, 12))]
            second = " ".join([second, *more])
        return meant, first, second
    first = surface(r, meant)
    second = surface(r, meant, False if kind == "fact" else None)
    while second == first:
        second = surface(r, meant, False if kind == "fact" else None)
    return meant, first, second
