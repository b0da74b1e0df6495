import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { expect, test } from "vitest";
import { isAssayError } from "@assay/core";
import { envExample, parseConfig } from "./config.ts";

test("nothing set: everything has a default, and only this machine is served", () => {
  expect(parseConfig({})).toEqual({
    home: undefined,
    url: undefined,
    host: "127.0.0.1",
    port: 8402,
    databaseUrl: undefined,
    logLevel: undefined,
    witnesses: [],
  });
  expect(parseConfig({ ASSAY_PORT: "", DATABASE_URL: "" }).port).toBe(8402);
});

test("every wrong variable is named at once, and none of their values", () => {
  const wrong = {
    ASSAY_URL: "gateway",
    ASSAY_PORT: "99999",
    DATABASE_URL: "mysql://root:hunter2@db/assay",
    ASSAY_LOG_LEVEL: "loud",
    ASSAY_HOME: "/tmp\0",
  };
  let error: unknown;
  try {
    parseConfig(wrong);
  } catch (thrown) {
    error = thrown;
  }
  if (!isAssayError(error)) throw new Error("it was accepted");
  expect(error.code).toBe("config_invalid");
  for (const name of Object.keys(wrong))
    expect(error.hints.some((hint) => hint.startsWith(`${name} must be`))).toBe(true);
  const shown = `${error.message} ${error.hints.join(" ")}`;
  for (const value of ["hunter2", "99999", "loud"]) expect(shown).not.toContain(value);
});

test.each([["-1"], ["80.5"], ["0x50"], ["port"], ["65536"]])("port %s is refused", (ASSAY_PORT) => {
  expect(() => parseConfig({ ASSAY_PORT })).toThrow(/wrong/);
});

test("a database's password shows nowhere but where it is asked for", () => {
  const { databaseUrl } = parseConfig({ DATABASE_URL: "postgres://assay:hunter2@db/assay" });
  expect(databaseUrl?.reveal()).toContain("hunter2");
  for (const shown of [String(databaseUrl), JSON.stringify({ databaseUrl }), inspect({ databaseUrl }, { depth: 5 })])
    expect(shown).not.toContain("hunter2");
});

test(".env.example is the one that the schema makes", () => {
  expect(readFileSync(new URL("../../../.env.example", import.meta.url), "utf8")).toBe(envExample());
});

test("witnesses are keys with addresses, and nothing else", () => {
  const vkey = "witness.example+d1e2f3a4+BBqb8abc=";
  expect(
    parseConfig({ ASSAY_WITNESSES: `${vkey}@http://127.0.0.1:8404/  ${vkey}@https://w.example` }).witnesses,
  ).toEqual([
    { vkey, url: "http://127.0.0.1:8404" },
    { vkey, url: "https://w.example" },
  ]);
  for (const wrong of [
    "https://w.example",
    `${vkey}@`,
    `${vkey}@ftp://w.example`,
    `name@https://w.example`,
    `${vkey} https://w.example`,
  ])
    expect(() => parseConfig({ ASSAY_WITNESSES: wrong }), wrong).toThrow(
      expect.objectContaining({ code: "config_invalid" }),
    );
});
