"""Words the generators draw from, and the rule that keeps some of everything out of training."""

import zlib


def held_out(key):
    """True for about one key in ten, by CRC-32: such a key is only ever asked in the evaluation."""
    return zlib.crc32(f"assay chat {key}".encode()) % 10 == 3


NAMES = (
    "Ada Alan Alba Alice Amir Ana Anna Ben Bob Boris Carla Carlos Chen Clara Daniel David Diego Dora Elena Elias Emil "
    "Emma Erik Eva Fatima Felix Finn Frida George Grace Hana Hans Helen Hugo Ida Igor Ines Ivan Jack Jana Jonas Julia "
    "Kai Karl Kim Lars Laura Lea Leo Lena Lina Lucas Maria Mario Marta Max Maya Mia Mila Mina Mohamed Nadia Nils Nina "
    "Noah Nora Olga Oliver Omar Oscar Otto Paul Pedro Petra Priya Rita Robert Rosa Ruth Sam Sara Sofia Sven Tara Theo "
    "Tim Tom Vera Victor Viktor Walter Wei Yara Yuki Zoe"
).split()
SURNAMES = "Adler Baker Berg Costa Diaz Evans Fischer Garcia Hall Ito Jensen Kaur Khan Klein Lee Lopez Meyer Moreau Novak Okafor Patel Rossi Silva Smith Sato Weber Wong Young".split()
CITIES = (
    "Accra Amsterdam Athens Baku Bangkok Barcelona Basel Berlin Bern Bogota Bonn Boston Bristol Brussels Budapest Cairo "
    "Chicago Cologne Dakar Dallas Delhi Denver Dublin Florence Geneva Genoa Glasgow Hamburg Hanoi Helsinki Istanbul "
    "Jakarta Kyoto Lagos Leeds Leipzig Lille Lima Lisbon London Lyon Madrid Malaga Manila Miami Milan Montreal Moscow "
    "Mumbai Munich Nairobi Naples Nice Osaka Oslo Oxford Paris Porto Prague Quito Riga Rome Rotterdam Seattle Seoul "
    "Seville Sofia Stockholm Sydney Tallinn Tokyo Toronto Tunis Turin Utrecht Vienna Vilnius Warsaw Zagreb Zurich"
).split() + ["New York", "San Francisco", "Hong Kong", "Buenos Aires", "Cape Town", "Los Angeles"]
CAPITALS = {
    "Austria": "Vienna",
    "Belgium": "Brussels",
    "Brazil": "Brasilia",
    "Canada": "Ottawa",
    "Chile": "Santiago",
    "China": "Beijing",
    "Cuba": "Havana",
    "Denmark": "Copenhagen",
    "Egypt": "Cairo",
    "England": "London",
    "Finland": "Helsinki",
    "France": "Paris",
    "Germany": "Berlin",
    "Greece": "Athens",
    "Hungary": "Budapest",
    "India": "New Delhi",
    "Ireland": "Dublin",
    "Italy": "Rome",
    "Japan": "Tokyo",
    "Kenya": "Nairobi",
    "Mexico": "Mexico City",
    "Norway": "Oslo",
    "Peru": "Lima",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Russia": "Moscow",
    "Spain": "Madrid",
    "Sweden": "Stockholm",
    "Switzerland": "Bern",
    "Turkey": "Ankara",
}
UNKNOWN_COUNTRIES = "Angola Armenia Bhutan Bolivia Chad Fiji Gabon Ghana Haiti Iraq Jordan Laos Mali Nepal Oman Palau Qatar Samoa Togo Yemen".split()
PRODUCTS = "apple backpack ball basket battery bicycle blanket book bottle bowl box brush bucket camera candle chair clock coat cup desk dress drum fork glove guitar hammer hat helmet jacket kettle keyboard knife ladder lamp laptop mirror mug notebook pan pen pencil phone piano pillow plate printer radio ring rope scarf shirt shoe spoon table tent ticket towel toy umbrella vase wallet watch".split()
FOODS = "apples bananas beans bread butter carrots cheese coffee cream eggs fish flour garlic grapes honey juice lemons lettuce milk nuts oil onions oranges pasta pears pepper potatoes rice salt soap soup sugar tea tomatoes water yogurt".split()
COLORS = "black blue brown green grey orange pink purple red white yellow silver golden".split()
ANIMALS = "ant bear bee bird camel cat cow crab deer dog duck eagle fish fox frog goat goose hen horse lion mouse otter owl panda pig rabbit robin seal sheep snail snake spider swan tiger turtle whale wolf".split()
JOBS = "actor artist baker barber builder carpenter chef clerk cook dentist doctor driver engineer farmer gardener judge lawyer nurse painter pilot plumber poet sailor singer student tailor teacher waiter writer".split()
COMPANIES = "Acme Alpina Boreal Cobalt Delta Ember Fjord Granite Harbor Iris Juniper Kestrel Lumen Meridian Nimbus Orchard Pioneer Quartz Ridge Summit Tundra Umbra Vertex Willow Zenith".split()
LANGUAGES = "Arabic Chinese Danish Dutch English Finnish French German Greek Hindi Italian Japanese Korean Latin Norwegian Polish Portuguese Russian Spanish Swedish Turkish".split()
CURRENCIES = "EUR USD GBP JPY CHF SEK NOK INR CAD AUD".split()
ROOMS = "attic basement bathroom bedroom garage garden hall kitchen library nursery office porch study".split() + [
    "living room",
    "dining room",
]
EVENTS = "concert conference dinner exam interview lecture lesson lunch meeting party picnic review rehearsal wedding workshop".split()
ADJECTIVES = "big bright calm clean clever cold cozy dark deep dry early fast fine free fresh full gentle happy heavy kind large late light little long loud new old plain proud quick quiet rich round sharp short shy slow small smooth soft strong sweet tall thin tiny warm wide wise young".split()
NOUNS = "account album alarm article badge bill branch budget card cart channel city code comment contact contract course customer device document door draft email employee event expense feed file flight folder form game group guest house image invoice issue item job key label lesson letter license list loan machine map member menu message model movie note number offer order package page parcel part patient payment photo plan playlist policy post product profile project question queue recipe record refund report request room route row rule score sensor service session shipment shop song station stock story student survey table tag task team test ticket token tool track train trip user value vehicle video visit wallet word".split()
VERBS = "add archive assign block book cancel change check close copy count create delete deliver disable enable export fetch find get hide import insert inspect list load lock log mark measure merge move open order pause pay plan print publish push read remove rename repeat replace report reserve reset restore resume return save scan schedule search select send set share show sort start stop store submit sync tag test track transfer unlock update upload validate view watch write".split()
KEYS = "area author brand category code color country day depth device direction distance duration floor format grade group height hour id item kind label length level limit location material method mode model month note number order owner page part period phase place position price priority product quantity rank rate region role room score section sensor shape side size source speed state status street subject supplier table tag target team temperature time title topic type unit user value version volume weight width year zone".split()
VALUES = "alpha amber autumn basic beach blue bridge bronze castle cedar center chrome cloud coal cobalt copper coral corner cotton crystal desert diamond dream east echo falcon field fire flame forest frost glass gold grain granite gravel green harbor hazel hill iron island ivory jade lake leaf lemon lilac linen lunar maple marble meadow metal mint moon moss north oak ocean olive onyx opal paper pearl pine plum pond prairie premium quartz rain raven red reef ridge river rock ruby rust sage sand sapphire shadow shell silk silver sky slate snow solar south spring standard star steel stone storm summer sun teal thunder topaz tulip valley velvet violet wave west wheat willow wind winter wood".split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

STARTS = "b br c cl d dr f fl g gr h j k kr l m n p pl r s sk st t tr v w z".split()
MIDDLES = "a e i o u ai au ei ia oo".split()
ENDS = "b d k l m n nd r rn s sk st t th x z".split()


def invented(r):
    """A word nobody has heard, so that copying is learned rather than a list."""
    word = r.choice(STARTS) + r.choice(MIDDLES)
    for _ in range(r.choice((0, 1, 1, 2))):
        word += r.choice(STARTS) + r.choice(MIDDLES)
    return word + r.choice(ENDS) if r.random() < 0.6 else word


def article(word):
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def joined(words):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def drawn(r, words, held):
    """One word of a list: a held-out one or, in training, one that is not. A list without held-out words gives any."""
    return r.choice([word for word in words if held_out(word) == held] or words)


def name(r, held):
    if r.random() < 0.2:
        while True:
            word = invented(r).capitalize()
            if held_out(word) == held:
                return word
    first = drawn(r, NAMES, held)
    return f"{first} {r.choice(SURNAMES)}" if r.random() < 0.2 else first


def place(r, held):
    if r.random() < 0.2:
        while True:
            word = invented(r).capitalize()
            if held_out(word) == held:
                return word
    return drawn(r, CITIES, held)


def value(r, held):
    """A short string to copy: a word, two, or an invented one."""
    kind = r.random()
    if kind < 0.3:
        while True:
            word = invented(r)
            if held_out(word) == held:
                return word
    word = drawn(r, VALUES, held)
    return word if kind < 0.75 else f"{word} {drawn(r, VALUES + NOUNS, held)}"


def identifier(r):
    return r.choice(
        (
            f"{r.choice('ABCDEFGHJKLMNPQRSTUVWXYZ')}{r.randint(10, 999)}",
            f"{r.choice('ABCDEFGHJKLMNPQRSTUVWXYZ')}{r.choice('ABCDEFGHJKLMNPQRSTUVWXYZ')}-{r.randint(100, 9999)}",
            str(r.randint(100, 99999)),
        )
    )


def email(r, held):
    return f"{name(r, held).split()[0].lower()}@{r.choice(('example', 'mail', 'post', r.choice(COMPANIES).lower()))}.{r.choice(('com', 'org', 'net'))}"


def clock(r):
    return f"{r.randint(0, 23):02d}:{r.choice((0, 15, 30, 45, 0, 30, r.randint(0, 59))):02d}"


def iso(r):
    return f"{r.randint(2015, 2035)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"
