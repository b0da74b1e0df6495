import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { chatEndpoint } from "./chat-request.ts";
import { completionEndpoint } from "./completion-request.ts";
import { embeddingEndpoint } from "./embedding-request.ts";
import { responsesEndpoint } from "./responses-request.ts";
import { ROUTING_HEADERS, routingOptionsSchema } from "./routing.ts";

const page = readFileSync(new URL("../../../../docs/reference/openai-parameters.md", import.meta.url), "utf8");
const rows = page.split("\n").filter((line) => line.startsWith("| `"));
const columns = {
  chat: chatEndpoint,
  completions: completionEndpoint,
  responses: responsesEndpoint,
  embeddings: embeddingEndpoint,
};

/** What the page says of each parameter, for the endpoint of a column. */
function told(column: number): Map<string, string> {
  const out = new Map<string, string>();
  for (const row of rows.filter((line) => line.split("|").length === 8)) {
    const cells = row.split("|").map((cell) => cell.trim());
    for (const [, name] of cells[1]!.matchAll(/`(\w+)`/g))
      if (cells[column + 2] !== "–") out.set(name!, cells[column + 2]!);
  }
  return out;
}

describe("the page of parameters", () => {
  it.each(Object.keys(columns) as (keyof typeof columns)[])(
    "says of every parameter of %s what happens to it",
    (name) => {
      const { schema, unsupported } = columns[name];
      const said = told(Object.keys(columns).indexOf(name));
      for (const [key, { unless }] of Object.entries(unsupported))
        expect([key, said.get(key)]).toEqual([key, unless ? "empty" : "refused"]);
      for (const key of Object.keys(schema.shape).filter((key) => !(key in unsupported)))
        expect(["applied", "label"]).toContain(said.get(key));
      expect([...said.keys()].filter((key) => !(key in schema.shape) && !(key in unsupported))).toEqual([]);
    },
  );

  it("names every routing option and its header", () => {
    const shown = rows.flatMap((row) => [...(row.match(/^\| `(\w+)` \| `(assay-[a-z-]+)`/) ?? [])].slice(1));
    expect(shown).toEqual(Object.keys(routingOptionsSchema.shape).flatMap((name, i) => [name, ROUTING_HEADERS[i]]));
  });
});
