import { utf8ToBytes } from "@assay/core";
import type { ParsedQuote } from "@assay/x402";
import { describe, expect, test } from "vitest";
import { createChallenges } from "./challenges.ts";

const body = utf8ToBytes('{"model":"a/b"}');
const asked = (headers: Readonly<Record<string, string>> = {}) => ({
  method: "POST",
  url: "http://x/v1/chat/completions",
  body,
  init: { headers },
});
const quote = (amount: string): ParsedQuote => ({ required: { accepts: [{ amount }] } }) as unknown as ParsedQuote;

describe("a remembered challenge", () => {
  test("is for requests that have the same kept, because that has a price of its own", () => {
    const challenges = createChallenges();
    const keep = asked({ "assay-retention": "server-encrypted" });
    challenges.keep(asked(), quote("1"), 0);
    expect(challenges.find(asked(), 1)).toEqual(quote("1"));
    expect(challenges.find(asked({ "x-request-id": "7" }), 1)).toEqual(quote("1"));
    expect(challenges.find(keep, 1)).toBeUndefined();
    challenges.keep(keep, quote("2"), 0);
    expect([challenges.find(keep, 1), challenges.find(asked(), 1)]).toEqual([quote("2"), quote("1")]);
    challenges.forget(keep);
    expect([challenges.find(keep, 1), challenges.find(asked(), 1)]).toEqual([undefined, quote("1")]);
    expect(challenges.find(asked({ "assay-keep-days": "2" }), 1)).toBeUndefined();
  });
});
