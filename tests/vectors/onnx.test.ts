import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseTrust } from "@assay/receipts";
import { createClient } from "@assay/sdk";
import { nodeSuite } from "@assay/driver-crypto";
import { encodeInferRequest, joinBody, parseInferResponse } from "@assay/protocol";
import type { InferResponse, RuntimeProfile, Tensor } from "@assay/protocol";
import { equalBytes, isAssayError } from "@assay/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ask, mintToken, openHome, release } from "../service/running-server.ts";
import type { ServerHome } from "../service/running-server.ts";
import { differenceOf } from "./compare.ts";
import { readCases, unpackCases } from "./onnx-cases.ts";
import type { OnnxCase } from "./onnx-cases.ts";

/** What a case came to: it passed, its answer differs, or the gateway refused it with a code. */
type Result = { readonly outcome: "passed" | "differs" | "refused"; readonly reason: string };
/** Cases that do not pass, by name, with the code of the refusal or `differs`. */
type Expectation = Record<string, string>;
type Expectations = {
  /** Refused at the release, whatever the profile. */
  readonly release: Expectation;
  readonly portable: Expectation;
  readonly native: Expectation;
};

const EXPECTED = fileURLToPath(new URL("onnx-expected.json", import.meta.url));
const CHILD = fileURLToPath(new URL("../../apps/assay/dist/ort-child.js", import.meta.url));
/** Share of the countable cases that the portable profile has to pass. */
const MIN_PORTABLE = 0.94;
const WORKERS = 6;
/** Every so many cases one goes through JSON as well, and one has its receipt verified. */
const JSON_EVERY = 4;
const RECEIPT_EVERY = 25;
/** Refusals that say an answer exists but has no JSON form. */
const NO_JSON = new Set(["value_not_json", "bytes_not_utf8", "datatype_needs_binary"]);

let folder: string | undefined;
let cases: readonly OnnxCase[] = [];
let home: ServerHome;
let url = "";
let token = "";
const released: Expectation = {};
const results: Record<RuntimeProfile, Map<string, Result>> = { portable: new Map(), native: new Map() };
const modelName = (index: number): string => `onnx/case-${index}`;

beforeAll(async () => {
  folder = unpackCases(process.env["ASSAY_VECTORS"]);
  cases = readCases(folder);
  if (!existsSync(CHILD)) throw new Error("apps/assay/dist/ort-child.js is missing: run `npm run build` first.");
  home = await openHome({ childEntry: CHILD });
  url = home.server.url;
  // Tokens are kept in the database, which comes up beside the gateway.
  await home.server.databaseReady;
  token = await mintToken(url, home.operator);
});

afterAll(async () => {
  await home?.close();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

async function eachCase(work: (item: OnnxCase, index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < cases.length; index = next++) {
      const item = cases[index];
      if (item) await work(item, index);
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, worker));
}

type Answer =
  | { readonly response: InferResponse; readonly refused?: undefined }
  | { readonly refused: string; readonly status: number; readonly message: string };

async function infer(
  index: number,
  inputs: readonly Tensor[],
  profile: RuntimeProfile,
  binary: boolean,
): Promise<Answer> {
  const request = encodeInferRequest({ inputs, binary });
  const response = await fetch(`${url}/v2/models/${encodeURIComponent(modelName(index))}/infer`, {
    method: "POST",
    headers: {
      "content-type": request.contentType,
      "assay-profile": profile,
      ...(request.headerLength === undefined
        ? {}
        : { "inference-header-content-length": String(request.headerLength) }),
    },
    body: Buffer.from(joinBody(request)),
  });
  const body = new Uint8Array(await response.arrayBuffer());
  if (!response.ok) {
    const problem = JSON.parse(new TextDecoder().decode(body)) as { code: string; error: string; hints: string[] };
    return {
      refused: problem.code,
      status: response.status,
      message: `${problem.error} ${problem.hints.join(" ")}`,
    };
  }
  expect(response.headers.get("assay-receipt-id")).toMatch(/^[0-9a-f]{32}$/);
  const length = response.headers.get("inference-header-content-length");
  return { response: parseInferResponse(body, length === null ? undefined : Number(length)) };
}

async function runCase(item: OnnxCase, index: number, profile: RuntimeProfile): Promise<Result> {
  for (const { inputs, outputs } of item.sets()) {
    const answer = await infer(index, inputs, profile, true);
    if (answer.refused !== undefined) return { outcome: "refused", reason: `${answer.refused}: ${answer.message}` };
    for (const expected of outputs) {
      const actual = answer.response.outputs.find(({ name }) => name === expected.name);
      const difference = actual ? differenceOf(actual, expected) : "the output is missing";
      if (difference !== undefined) return { outcome: "differs", reason: `${expected.name}: ${difference}` };
    }
  }
  return { outcome: "passed", reason: "" };
}

const codeOf = ({ outcome, reason }: Result): string =>
  outcome === "differs" ? "differs" : (reason.split(":", 1)[0] ?? "");

function tally(codes: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const code of codes) counts.set(code, (counts.get(code) ?? 0) + 1);
  const sorted = [...counts].toSorted(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  return sorted.map(([code, count]) => `${code} ${count}`).join(", ") || "none";
}

describe("ONNX node conformance over HTTP", () => {
  test("every model is released, or refused with a code", async () => {
    expect(cases.length).toBeGreaterThan(800);
    await eachCase(async (item, index) => {
      const { status, body } = await release(url, token, modelName(index), [{ path: "model.onnx", bytes: item.model }]);
      if (status === 200) return;
      expect(body["code"], `${item.name} ${JSON.stringify(body)}`).toMatch(/^[a-z][a-z0-9_]+$/);
      expect(status, item.name).toBeLessThan(500);
      released[item.name] = String(body["code"]);
    });
    // What tensors of the protocol cannot carry must be refused before anything runs it.
    const served = cases.filter(
      ({ name, inexpressible }) => inexpressible !== undefined && released[name] === undefined,
    );
    expect(served.map(({ name }) => name)).toEqual([]);
    const narrow = cases.filter(({ name }) => /(?:^|_)U?INT4(?:_|$)/.test(name));
    expect(narrow.length).toBeGreaterThan(0);
    expect(narrow.filter(({ name }) => released[name] === undefined).map(({ name }) => name)).toEqual([]);
  });

  test.each(["portable", "native"] as const)("the %s profile", async (profile) => {
    await eachCase(async (item, index) => {
      if (released[item.name] === undefined) results[profile].set(item.name, await runCase(item, index, profile));
    });
    expect((await ask(url, "/v2/health/ready")).body).toEqual({ ready: true });
  });

  test("a sample through JSON gives the same bytes", async ({ task }) => {
    let same = 0;
    let binaryOnly = 0;
    await eachCase(async (item, index) => {
      if (index % JSON_EVERY !== 0 || results.portable.get(item.name)?.outcome !== "passed") return;
      for (const { inputs } of item.sets()) {
        const binary = await infer(index, inputs, "portable", true);
        let json: Answer;
        try {
          json = await infer(index, inputs, "portable", false);
        } catch (error) {
          if (!isAssayError(error) || !NO_JSON.has(error.code)) throw error;
          binaryOnly++;
          continue;
        }
        if (json.refused !== undefined) {
          expect(NO_JSON.has(json.refused), `${item.name} ${json.refused} ${json.message}`).toBe(true);
          binaryOnly++;
          continue;
        }
        if (binary.refused !== undefined) throw new Error(`${item.name} was refused: ${binary.message}`);
        for (const [i, expected] of binary.response.outputs.entries()) {
          const actual = json.response.outputs[i];
          expect(actual && equalBytes(actual.data, expected.data), `${item.name} ${expected.name}`).toBe(true);
          expect(actual?.shape, item.name).toEqual(expected.shape);
        }
        same++;
      }
    });
    expect(same).toBeGreaterThan(50);
    summarise(task.meta, [`json      ${same} sampled sets gave the same bytes, ${binaryOnly} have no JSON form`]);
  });

  test("a sample of receipts verifies", async ({ task }) => {
    const trust = parseTrust(JSON.stringify((await ask(url, "/v1/trust")).body));
    const client = createClient({ url, trust, suite: nodeSuite });
    let verified = 0;
    await eachCase(async (item, index) => {
      if (index % RECEIPT_EVERY !== 0 || results.portable.get(item.name)?.outcome !== "passed") return;
      const [set] = item.sets();
      if (!set) return;
      const { receipt } = await client.infer({ model: modelName(index), inputs: set.inputs });
      expect(receipt?.verdict.status, `${item.name} ${JSON.stringify(receipt?.verdict.checks)}`).toBe("verified");
      verified++;
    });
    expect(verified).toBeGreaterThan(10);
    summarise(task.meta, [`receipts  ${verified} sampled receipts verified, openings included`]);
  });

  test("what passes is what is expected to pass", async ({ task }) => {
    const actual: Expectations = {
      release: sorted(released),
      portable: failures("portable"),
      native: failures("native"),
    };
    const countable = cases.filter(({ counted, inexpressible }) => counted && inexpressible === undefined);
    const lines = [
      `cases     ${cases.length}, of which ${countable.length} are countable: tensors the protocol can carry, opset 7 to 26, no preview or training domain`,
      `release   refused ${Object.keys(released).length}: ${unsupported()}`,
    ];
    const shares = { portable: 0, native: 0 };
    for (const profile of ["portable", "native"] as const) {
      const all = [...results[profile].values()];
      const passed = all.filter(({ outcome }) => outcome === "passed").length;
      const differing = all.filter(({ outcome }) => outcome === "differs").length;
      const refused = all.filter(({ outcome }) => outcome === "refused").map(codeOf);
      const good = countable.filter(({ name }) => results[profile].get(name)?.outcome === "passed").length;
      shares[profile] = good / countable.length;
      lines.push(
        `${profile.padEnd(9)} passed ${passed}, failed ${differing}, refused when run ${refused.length} (${tally(refused)}); ${good} of ${countable.length} countable cases pass: ${(100 * shares[profile]).toFixed(2)} %`,
      );
    }
    const { restarts } = home.server.runtime.stats();
    lines.push(`children  replaced ${restarts} times`);
    summarise(task.meta, lines);
    if (process.env["ASSAY_VECTORS_DETAILS"] === "1") {
      for (const profile of ["portable", "native"] as const)
        for (const [name, { outcome, reason }] of results[profile])
          if (outcome !== "passed") lines.push(`${profile} ${name} ${reason.slice(0, 300)}`);
    }
    if (process.env["UPDATE"] === "1") writeFileSync(EXPECTED, `${JSON.stringify(actual, null, 2)}\n`);
    const hint = "run with UPDATE=1 to write tests/vectors/onnx-expected.json again once the change is understood";
    expect(actual, hint).toEqual(JSON.parse(readFileSync(EXPECTED, "utf8")));
    expect(shares.portable).toBeGreaterThanOrEqual(MIN_PORTABLE);
  });
});

/** Cases that were refused at the release, by why and by code. */
function unsupported(): string {
  const codes = (chosen: readonly OnnxCase[]): string => tally(chosen.flatMap(({ name }) => released[name] ?? []));
  const refused = cases.filter(({ name }) => released[name] !== undefined);
  const untold = refused.filter(({ inexpressible }) => inexpressible !== undefined);
  const rest = refused.filter(({ inexpressible }) => inexpressible === undefined);
  const foreign = rest.filter(({ counted }) => !counted);
  const others = rest.filter(({ counted }) => counted);
  return [
    `${untold.length} not expressible (${codes(untold)})`,
    `${foreign.length} of a newer opset or a preview or training domain (${codes(foreign)})`,
    `${others.length} others (${codes(others)})`,
  ].join("; ");
}

function failures(profile: RuntimeProfile): Expectation {
  const bad = [...results[profile]].filter(([, { outcome }]) => outcome !== "passed");
  return sorted(Object.fromEntries(bad.map(([name, result]) => [name, codeOf(result)])));
}

function sorted(expectation: Expectation): Expectation {
  return Object.fromEntries(Object.entries(expectation).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** Lines that the reporter of vitest.vectors.config.ts prints at the end of the run. */
function summarise(meta: object, lines: readonly string[]): void {
  (meta as { summary?: readonly string[] }).summary = lines;
}
