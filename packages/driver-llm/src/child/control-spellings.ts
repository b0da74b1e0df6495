/**
 * Texts of a conversation that spell control tokens. A template's output is one text, and the tokenizer takes every
 * spelling in it for the token; so a message that spells the end of its turn would speak for someone else.
 */
export type ControlSpellings = {
  /**
   * `values` with a mark inside every spelling in its texts (members' names included), and `split`, which cuts what a
   * template made of them at those marks. No piece then has a spelling that `values` brought along, and the pieces
   * joined are the text.
   */
  readonly guard: <T>(values: T) => { readonly values: T; readonly split: (rendered: string) => string[] };
};

/** Of tokens with these spellings; one of a single character cannot be broken and stays what the tokenizer takes it for. */
export function controlSpellings(spellings: readonly string[]): ControlSpellings {
  const breakable = spellings
    .filter((spelling) => Array.from(spelling).length > 1)
    .toSorted((a, b) => b.length - a.length);
  const pattern = new RegExp(breakable.map((spelling) => spelling.replaceAll(/[^\w\s]/gu, escape)).join("|"), "gu");
  const within = (value: unknown): boolean =>
    typeof value === "string"
      ? breakable.some((spelling) => value.includes(spelling))
      : typeof value === "object" && value !== null && Object.entries(value).flat().some(within);

  return {
    guard: (values) => {
      if (!within(values)) return { values, split: (rendered) => [rendered] };
      const mark = absent(JSON.stringify(values));
      const broken = (text: string): string => {
        // Again, because spellings can overlap: breaking one may leave the other whole.
        let out = text;
        while (breakable.some((spelling) => out.includes(spelling))) {
          out = out.replaceAll(pattern, (spelling) => {
            const [first = ""] = spelling;
            return `${first}${mark}${spelling.slice(first.length)}`;
          });
        }
        return out;
      };
      return { values: mapTexts(values, broken) as typeof values, split: (rendered) => rendered.split(mark) };
    },
  };
}

function escape(character: string): string {
  return `\\u{${character.codePointAt(0)?.toString(16)}}`;
}

/** A mark that a text does not contain, around a character for private use so that no template has it either. */
function absent(text: string): string {
  for (let number = 0; ; number++) {
    const mark = `\u{e000}${number}\u{e000}`;
    if (!text.includes(mark)) return mark;
  }
}

function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === "string") return change(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, change));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [change(name), mapTexts(item, change)]));
}
