import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";

/** A chat template: a program in Jinja that writes a conversation as the model was trained to read it. */
export type ChatTemplate = { readonly render: (values: Readonly<Record<string, unknown>>) => string };

/** Longest list that a template may ask for; more is an endless loop in the making. */
const MAX_RANGE = 100_000;

/**
 * A template from its source; throws what the parser finds. It gets Jinja's constants, `range` and `raise_exception`,
 * and no clock: a prompt that named the day would be another one when the answer is checked again.
 */
export function createTemplate(source: string): ChatTemplate {
  const program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  return {
    render: (values) => {
      const environment = new Environment();
      for (const [name, value] of [
        ["true", true],
        ["false", false],
        ["none", null],
      ] as const) {
        environment.set(name, value);
        environment.set(`${name.slice(0, 1).toUpperCase()}${name.slice(1)}`, value);
      }
      environment.set("range", range);
      environment.set("raise_exception", (message: string) => {
        throw new Error(message);
      });
      for (const [name, value] of Object.entries(values)) environment.set(name, value);
      const written: unknown = new Interpreter(environment).run(program).value;
      if (typeof written !== "string") throw new Error("The template writes no text.");
      return written;
    },
  };
}

function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (!Number.isFinite(length) || length > MAX_RANGE) throw new Error(`range() gives at most ${MAX_RANGE} numbers.`);
  return Array.from({ length }, (_, index) => from + index * step);
}
