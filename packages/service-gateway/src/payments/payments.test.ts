import type { PricedUse } from "@assay/protocol";
import { describe, expect, it } from "vitest";
import { createPayments } from "./payments.ts";
import type { PayableRequest, PaymentModules } from "./payments.ts";

const request: PayableRequest = {
  headers: { host: "gateway.example" },
  path: "/v2/models/a%2Fb/infer",
  fingerprint: () => new Uint8Array(32),
  signal: new AbortController().signal,
  secure: false,
};
const use = { subjects: ["model:a/b"], most: { milliseconds: 1 } } as const satisfies Omit<PricedUse, "resource">;

/** Payments over a desk that asks nothing of anybody, and what it was asked. */
function open(modules: Pick<PaymentModules, "mayCost" | "allFree">) {
  const asked: PricedUse[] = [];
  const desk = {
    quote: (priced: PricedUse) => {
      asked.push(priced);
      return undefined;
    },
  };
  return { asked, payments: createPayments({ desk, ...modules } as unknown as PaymentModules) };
}

describe("a request that may be free", () => {
  it("is quoted where nobody says what has a price", async () => {
    const { asked, payments } = open({});
    expect(await payments.take(use, request, "text/plain")).toBeUndefined();
    expect(asked).toMatchObject([{ subjects: ["model:a/b"], resource: { mimeType: "text/plain" } }]);
  });

  it("is quoted when something of it has a price", async () => {
    const { asked, payments } = open({ mayCost: ({ subjects }) => subjects.includes("model:a/b") });
    await payments.take(use, request, "text/plain");
    expect(asked).toHaveLength(1);
  });

  it.each([
    ["nothing of it has", { mayCost: () => false }],
    ["nothing at all has", { allFree: () => true }],
  ])("is not looked at when %s a price", async (_what, modules) => {
    const { asked, payments } = open(modules);
    expect(await payments.take(use, request, "text/plain")).toBeUndefined();
    expect(asked).toEqual([]);
  });
});
