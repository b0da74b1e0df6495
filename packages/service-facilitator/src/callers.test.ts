import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { createCallers } from "./callers.ts";

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const token = "a-token-of-decent-length";
const shop = { id: "shop", tokenSha256: sha256(token) };

test("a token is found by its hash, and nobody is nobody", () => {
  const callers = createCallers([
    shop,
    { id: "other", tokenSha256: sha256("another-token-of-length"), payTo: [`0x${"Ab".repeat(20)}`] },
  ]);
  expect(callers.caller(`Bearer ${token}`)).toEqual({ id: "shop", payTo: "any" });
  expect(callers.caller("bearer another-token-of-length")).toEqual({ id: "other", payTo: [`0x${"ab".repeat(20)}`] });
  expect(callers.caller(undefined)).toBeUndefined();
});

test.each([
  "",
  "Bearer",
  "Bearer ",
  "Bearer short",
  `Basic ${token}`,
  `Bearer ${token} `,
  `Bearer ${token}x`,
  `Bearer ${sha256(token)}`,
  `Bearer ${"x".repeat(257)}`,
  `Bearer ${token}\u00e9`,
])("%j is refused", (authorization) => {
  expect(() => createCallers([shop]).caller(authorization)).toThrow(
    expect.objectContaining({ code: "token_invalid" }) as Error,
  );
});

test("without entries every token is unknown", () => {
  expect(() => createCallers([]).caller(`Bearer ${token}`)).toThrow(/not known/);
});

test.each([
  [[{ id: "a", tokenSha256: token }]],
  [[{ id: "a", tokenSha256: sha256(token).toUpperCase() }]],
  [[shop, { id: "b", tokenSha256: shop.tokenSha256 }]],
  [[shop, { id: "shop", tokenSha256: sha256("x".repeat(20)) }]],
])("a faulty configuration is refused, and says no token", (entries) => {
  const attempt = (): unknown => createCallers(entries);
  expect(attempt).toThrow(expect.objectContaining({ code: "facilitator_config_invalid" }) as Error);
  expect(attempt).not.toThrow(token);
});
