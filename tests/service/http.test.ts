import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { Agent, request as httpRequest } from "node:http";
import type { IncomingMessage, RequestOptions } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { bytesToBase64, bytesToHex, bytesToUtf8, equalBytes, hexToBytes, utf8ToBytes } from "@assay/core";
import { ed25519Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import { ELEMENT_TYPE, encodeModelFile, floatTensor } from "@assay/onnx";
import { encodeInferRequest, joinBody, packBytesElements, parseInferResponse } from "@assay/protocol";
import type { InferRequestParts, Tensor } from "@assay/protocol";
import { decodeBundle, decodeClaims, parseStatement, parseTrust } from "@assay/receipts";
import { createClient, openBundle } from "@assay/sdk";
import { leafHash, parseCheckpoint, parseNote, parseVkey, verifyCoseReceipt, verifyTlogProof } from "@assay/tlog";
import { createVerifier } from "@assay/verifier";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { ask, manifestOf, mintToken, openHome, putBlob, release } from "./running-server.ts";
import type { Json, ServerHome } from "./running-server.ts";

const MAX_BODY = 1024 * 1024;
const HEX32 = /^[0-9a-f]{64}$/;

const float = (name: string, shape: (number | string)[]) => ({ name, elementType: ELEMENT_TYPE.FLOAT, shape });
/** y = x + x over rows of two. */
const doubling = encodeModelFile({
  inputs: [float("x", ["n", 2])],
  outputs: [float("y", ["n", 2])],
  nodes: [{ opType: "Add", inputs: ["x", "x"], outputs: ["y"] }],
});
/** Sum and difference of two inputs. */
const pair = encodeModelFile({
  inputs: [float("a", ["n", 2]), float("b", ["n", 2])],
  outputs: [float("sum", ["n", 2]), float("difference", ["n", 2])],
  nodes: [
    { opType: "Add", inputs: ["a", "b"], outputs: ["sum"] },
    { opType: "Sub", inputs: ["a", "b"], outputs: ["difference"] },
  ],
});
const echo = encodeModelFile({
  inputs: [{ name: "text", elementType: ELEMENT_TYPE.STRING, shape: ["n"] }],
  outputs: [{ name: "again", elementType: ELEMENT_TYPE.STRING, shape: ["n"] }],
  nodes: [{ opType: "Identity", inputs: ["text"], outputs: ["again"] }],
});
/** y = x + w, with w in a file beside the model. */
const external = encodeModelFile({
  inputs: [float("x", [2])],
  outputs: [float("y", [2])],
  initializers: [
    {
      name: "w",
      elementType: ELEMENT_TYPE.FLOAT,
      dims: [2],
      external: { location: "weights/w.bin", offset: "0", length: "8" },
    },
  ],
  nodes: [{ opType: "Add", inputs: ["x", "w"], outputs: ["y"] }],
});
const scaled = (by: number): Uint8Array =>
  encodeModelFile({
    inputs: [float("x", ["n", 2])],
    outputs: [float("y", ["n", 2])],
    initializers: [floatTensor("by", [], [by])],
    nodes: [{ opType: "Mul", inputs: ["x", "by"], outputs: ["y"] }],
  });

const x = (values: readonly number[], name = "x"): Tensor => ({
  name,
  datatype: "FP32",
  shape: [values.length / 2, 2],
  data: new Uint8Array(Float32Array.from(values).buffer),
});
const numbersOf = (tensor: Tensor | undefined): number[] => [
  ...new Float32Array((tensor?.data ?? new Uint8Array()).slice().buffer),
];

let home: ServerHome;
let url = "";
let operator = "";
const alice = ed25519Signer(randomSeed());
const bob = ed25519Signer(randomSeed());
const spaceOf = (signer: { readonly publicKey: Uint8Array }): string => bytesToHex(signer.publicKey).slice(0, 16);
let aliceToken = "";
let bobToken = "";
const path = (model: string): string => encodeURIComponent(model);
const modelFile = (bytes: Uint8Array) => [{ path: "model.onnx", bytes }];

beforeAll(async () => {
  home = await openHome({ ...sourceChild(), maxBodyBytes: MAX_BODY });
  url = home.server.url;
  await home.server.databaseReady;
  operator = await mintToken(url, home.operator);
  aliceToken = await mintToken(url, alice);
  bobToken = await mintToken(url, bob);
  for (const [name, bytes] of [
    ["demo/double", doubling],
    ["demo/pair", pair],
    ["demo/echo", echo],
  ] as const) {
    const { status, body } = await release(url, operator, name, modelFile(bytes));
    if (status !== 200) throw new Error(`${name} was not released: ${JSON.stringify(body)}`);
  }
});

afterAll(async () => {
  await home?.close();
});

type Inferred = {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Uint8Array;
  readonly problem: Json;
};

async function post(
  at: string,
  body: Uint8Array | string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Inferred> {
  const response = await fetch(url + at, {
    method: "POST",
    headers,
    body: typeof body === "string" ? body : Buffer.from(body),
  });
  const bytes = new Uint8Array(await response.arrayBuffer());
  const problem = response.ok ? {} : (JSON.parse(bytesToUtf8(bytes)) as Json);
  return { status: response.status, headers: response.headers, bytes, problem };
}

async function infer(
  model: string,
  request: InferRequestParts,
  headers: Readonly<Record<string, string>> = {},
  version?: number,
): Promise<Inferred> {
  const body = encodeInferRequest(request);
  return post(`/v2/models/${path(model)}${version === undefined ? "" : `/versions/${version}`}/infer`, joinBody(body), {
    "content-type": body.contentType,
    ...(body.headerLength === undefined ? {} : { "inference-header-content-length": String(body.headerLength) }),
    ...headers,
  });
}

function outputsOf({ headers, bytes }: Inferred) {
  const length = headers.get("inference-header-content-length");
  return parseInferResponse(bytes, length === null ? undefined : Number(length));
}

/** What every refusal must look like. */
function expectProblem(body: Json, code: string): void {
  expect(body).toEqual({
    error: expect.stringMatching(/^\S.*\.$/s),
    code,
    hints: expect.any(Array),
    docs: `/errors/${code}.md`,
  });
}

/** A request on a raw connection of `agent`, so that framing and connections are seen. */
async function raw(
  agent: Agent,
  options: RequestOptions,
  write: (send: ReturnType<typeof httpRequest>) => void,
): Promise<{ readonly status: number; readonly text: string; readonly localPort: number; readonly reused: boolean }> {
  const { hostname, port } = new URL(url);
  const send = httpRequest({ hostname, port, agent, ...options });
  send.on("error", () => undefined);
  write(send);
  const [response] = (await once(send, "response")) as [IncomingMessage];
  const localPort = response.socket.localPort ?? 0;
  let text = "";
  for await (const chunk of response.setEncoding("utf8")) text += String(chunk);
  return { status: response.statusCode ?? 0, text, localPort, reused: send.reusedSocket };
}

describe("health, metadata and documents", () => {
  test("the server describes itself", async () => {
    expect((await ask(url, "/v2")).body).toMatchObject({ name: "assay", extensions: ["binary_tensor_data"] });
    expect((await ask(url, "/v2/health/live")).body).toEqual({ live: true });
    expect((await ask(url, "/v2/health/ready")).body).toEqual({ ready: true });
    expect(await (await fetch(`${url}/livez`)).text()).toBe("ok\n");
    expect((await ask(url, "/readyz")).body).toEqual({ ready: true, reasons: [] });
  });

  test("a model's inputs and outputs", async () => {
    const { body } = await ask(url, `/v2/models/${path("demo/pair")}`);
    expect(body).toEqual({
      name: "demo/pair",
      versions: ["1"],
      platform: "onnx_onnxv1",
      inputs: [
        { name: "a", datatype: "FP32", shape: [-1, 2] },
        { name: "b", datatype: "FP32", shape: [-1, 2] },
      ],
      outputs: [
        { name: "sum", datatype: "FP32", shape: [-1, 2] },
        { name: "difference", datatype: "FP32", shape: [-1, 2] },
      ],
    });
    expect((await ask(url, `/v2/models/${path("demo/pair")}/versions/1`)).body).toEqual(body);
    expect((await ask(url, `/v2/models/${path("demo/pair")}/ready`)).body).toEqual({ name: "demo/pair", ready: true });
    expect((await ask(url, `/v2/models/${path("demo/pair")}/versions/1/ready`)).status).toBe(200);
  });

  test.each([
    ["/v2/models/demo%2Fnothing", 404, "model_not_found"],
    ["/v2/models/demo%2Fpair/versions/2", 404, "version_not_found"],
    ["/v2/models/demo%2Fpair/versions/0", 400, "request_invalid"],
    ["/v2/models/demo%2Fpair/versions/x", 400, "request_invalid"],
    ["/v2/models/demo%2Fpair@1/versions/1", 400, "model_name_invalid"],
    ["/v2/models/pair", 400, "model_name_invalid"],
    ["/v2/models/demo%2FPair", 400, "model_name_invalid"],
    ["/v2/models/..%2Fpair", 400, "model_name_invalid"],
    ["/v2/models/demo/pair/more", 404, "route_not_found"],
    ["/v2/models/demo%2Fpair/infer", 404, "route_not_found"],
    ["/v3", 404, "route_not_found"],
    ["/", 404, "route_not_found"],
    ["/v1/models/demo%2Fnothing", 404, "model_not_found"],
    ["/v1/models/demo%2Fpair/files/other.bin", 404, "file_not_found"],
    ["/v1/models/demo%2Fpair/files/..%2F..%2Fkeys%2Fowner.key", 404, "file_not_found"],
    ["/log/tile/0/999", 404, "file_not_found"],
    ["/log/..%2Fkeys%2Fowner.key", 404, "file_not_found"],
  ])("GET %s is refused with %i %s", async (at, status, code) => {
    const { status: actual, body } = await ask(url, at);
    expectProblem(body, code);
    expect(actual).toBe(status);
  });

  test("a suggestion for a name that is nearly right", async () => {
    const { body } = await ask(url, `/v2/models/${path("other/pair")}`);
    expect(body["hints"]).toEqual(["Did you mean demo/pair?"]);
  });

  test("every answer carries a request id, the caller's when it can be one", async () => {
    const given = await ask(url, "/v2", { headers: { "x-request-id": "job-7:step.2" } });
    expect(given.headers.get("x-request-id")).toBe("job-7:step.2");
    for (const bad of ["has space", "x".repeat(129), "a/b"])
      expect((await ask(url, "/v2", { headers: { "x-request-id": bad } })).headers.get("x-request-id")).toMatch(
        /^[0-9a-f-]{36}$/,
      );
    const refused = await infer("demo/none", { inputs: [x([1, 2])] }, { "x-request-id": "mine" });
    expect(refused.headers.get("x-request-id")).toBe("mine");
    const answered = await infer("demo/double", { inputs: [x([1, 2])] }, { "x-request-id": "mine-2" });
    expect(answered.headers.get("x-request-id")).toBe("mine-2");
  });
});

describe("tokens", () => {
  const challengeFor = async (publicKey: string): Promise<string> =>
    String((await ask(url, "/v1/auth/challenge", { json: { publicKey } })).body["challenge"]);
  const signed = async (challenge: string, signer = alice, prefix = "assay/auth/1\n"): Promise<string> =>
    bytesToBase64(await signer.sign(utf8ToBytes(prefix + challenge)));
  const key = bytesToBase64(alice.publicKey);

  test("a signed challenge gives a token that names its owner", async () => {
    const challenge = await challengeFor(key);
    const { status, body } = await ask(url, "/v1/auth/token", {
      json: { publicKey: key, challenge, signature: await signed(challenge) },
    });
    expect(status).toBe(200);
    expect(body).toEqual({
      token: expect.stringMatching(/^assay_[\w-]{43}$/),
      expiresAt: expect.stringMatching(/^\d{4}-.*Z$/),
      owner: `ed25519:${bytesToHex(alice.publicKey)}`,
    });
  });

  test("a challenge is answered once, also when two answers come together", async () => {
    const challenge = await challengeFor(key);
    const json = { publicKey: key, challenge, signature: await signed(challenge) };
    const both = await Promise.all([ask(url, "/v1/auth/token", { json }), ask(url, "/v1/auth/token", { json })]);
    expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 401]);
    const again = await ask(url, "/v1/auth/token", { json });
    expect(again.status).toBe(401);
    expectProblem(again.body, "challenge_invalid");
  });

  test.each<[string, (challenge: string) => Promise<Json>]>([
    ["a signature by another key", async (c) => ({ publicKey: key, challenge: c, signature: await signed(c, bob) })],
    [
      "a challenge given to another key",
      async (c) => ({ publicKey: bytesToBase64(bob.publicKey), challenge: c, signature: await signed(c, bob) }),
    ],
    [
      "a signature without the domain prefix",
      async (c) => ({ publicKey: key, challenge: c, signature: await signed(c, alice, "") }),
    ],
    [
      "a changed expiry",
      async (c) => {
        const [of, expires, ...rest] = c.split(".");
        const longer = [of, String(Number(expires) + 60_000), ...rest].join(".");
        return { publicKey: key, challenge: longer, signature: await signed(longer) };
      },
    ],
    [
      "a changed seal",
      async (c) => {
        const changed = `${c.slice(0, -1)}${c.endsWith("A") ? "B" : "A"}`;
        return { publicKey: key, challenge: changed, signature: await signed(changed) };
      },
    ],
    ["a challenge without a seal", async () => ({ publicKey: key, challenge: "x", signature: await signed("x") })],
    ["an empty challenge", async () => ({ publicKey: key, challenge: "", signature: await signed("") })],
    ["a signature that is not base64", async (c) => ({ publicKey: key, challenge: c, signature: "!" })],
    ["an empty signature", async (c) => ({ publicKey: key, challenge: c, signature: "" })],
    ["a key that is not base64", async (c) => ({ publicKey: "!", challenge: c, signature: await signed(c) })],
    [
      "a key of 31 bytes",
      async (c) => ({ publicKey: bytesToBase64(alice.publicKey.slice(1)), challenge: c, signature: "" }),
    ],
  ])("%s gives no token", async (_, body) => {
    const { status, body: problem } = await ask(url, "/v1/auth/token", { json: await body(await challengeFor(key)) });
    expectProblem(problem, "challenge_invalid");
    expect(status).toBe(401);
  });

  test.each<[string, string, string, number]>([
    ["not JSON", "{", "request_malformed", 400],
    ["a list", "[]", "request_invalid", 400],
    ["nothing", "", "request_malformed", 400],
    ["another type", '{"publicKey":7}', "request_invalid", 400],
    ["more than a challenge needs", JSON.stringify({ publicKey: "A".repeat(70_000) }), "request_too_large", 413],
    ["a key that is too long", JSON.stringify({ publicKey: "A".repeat(5000) }), "request_invalid", 400],
  ])("a body with %s is refused", async (_, body, code, status) => {
    const refused = await post("/v1/auth/challenge", body, { "content-type": "application/json" });
    expectProblem(refused.problem, code);
    expect(refused.status).toBe(status);
  });

  test.each(["assay_unknown", `assay_${"A".repeat(43)}`])("the token %s is refused", async (token) => {
    const listed = await ask(url, "/v1/receipts", { token });
    expect(listed.status).toBe(401);
    expectProblem(listed.body, "token_invalid");
    const ran = await infer("demo/double", { inputs: [x([1, 2])] }, { authorization: `Bearer ${token}` });
    expectProblem(ran.problem, "token_invalid");
  });

  test("a key of another service is nobody's, and no token at all is not an owner", async () => {
    const ran = await infer("demo/double", { inputs: [x([1, 2])] }, { authorization: "Bearer sk-other" });
    expect(ran.status).toBe(200);
    for (const headers of [{}, { authorization: "Bearer sk-other" }, { authorization: "Basic YTpi" }]) {
      const { status, body } = await ask(url, "/v1/receipts", { headers });
      expect(status).toBe(401);
      expectProblem(body, "token_required");
    }
  });
});

describe("models", () => {
  test("a stored file is named by its digest, and storing needs a token", async () => {
    const stored = await putBlob(url, aliceToken, doubling);
    expect(stored).toEqual({ sha256: bytesToHex(nodeSuite.sha256(doubling)), sizeBytes: doubling.length });
    const refused = await post("/v1/blobs", doubling);
    expect(refused.status).toBe(401);
    expectProblem(refused.problem, "token_required");
    const chunked = await fetch(`${url}/v1/blobs`, {
      method: "POST",
      headers: { authorization: `Bearer ${aliceToken}` },
      body: new Blob([doubling]).stream(),
      duplex: "half",
    } as RequestInit);
    expect(await chunked.json()).toEqual(stored);
    const empty = await post("/v1/blobs", "", { authorization: `Bearer ${aliceToken}` });
    expect(JSON.parse(bytesToUtf8(empty.bytes))).toEqual({
      sha256: bytesToHex(nodeSuite.sha256(new Uint8Array())),
      sizeBytes: 0,
    });
  });

  test("an owner releases into the namespace of the key, the operator into any", async () => {
    const own = await release(url, aliceToken, `${spaceOf(alice)}/net`, modelFile(doubling));
    expect(own.status).toBe(200);
    expect(own.body).toMatchObject({
      name: `${spaceOf(alice)}/net`,
      version: 1,
      status: "released",
      visibility: "public",
      owner: `ed25519:${bytesToHex(alice.publicKey)}`,
    });
    for (const name of ["demo/mine", `${spaceOf(bob)}/net`, `${spaceOf(alice).slice(0, 15)}/net`]) {
      const refused = await release(url, aliceToken, name, modelFile(doubling));
      expect(refused.status).toBe(403);
      expectProblem(refused.body, "namespace_not_yours");
    }
    const anonymous = await ask(url, `/v1/models/${path(`${spaceOf(alice)}/net`)}/releases`, {
      json: { manifest: manifestOf(modelFile(doubling)) },
    });
    expectProblem(anonymous.body, "token_required");
    expect((await release(url, operator, `${spaceOf(bob)}/by-operator`, modelFile(doubling))).status).toBe(200);
    // What somebody released stays theirs, also against the operator.
    const taken = await release(url, operator, `${spaceOf(alice)}/net`, modelFile(scaled(3)));
    expect(taken.status).toBe(403);
    expectProblem(taken.body, "model_not_owned");
  });

  test.each([
    "demo",
    "/net",
    "demo/",
    "demo/net/more",
    "Demo/net",
    "demo/n et",
    "demo/net@1",
    "demo/net@",
    ".demo/net",
    `demo/${"x".repeat(97)}`,
    `${"x".repeat(65)}/net`,
    "dëmo/net",
  ])("%j is no name to release under", async (name) => {
    const { status, body } = await release(url, operator, name, modelFile(doubling));
    expectProblem(body, "model_name_invalid");
    expect(status).toBe(400);
  });

  test("a manifest is refused unless it is whole, canonical and its files are there", async () => {
    const good = manifestOf(modelFile(scaled(9)));
    const refuse = async (manifest: unknown, code: string, status = 400): Promise<void> => {
      const answer = await ask(url, "/v1/models/demo%2Fmanifest/releases", { token: operator, json: { manifest } });
      expectProblem(answer.body, code);
      expect(answer.status).toBe(status);
    };
    await refuse(good, "blob_missing", 404);
    await putBlob(url, operator, scaled(9));
    await refuse(`${good} `, "manifest_invalid");
    await refuse(good.replace('"schemaVersion":2', '"schemaVersion":3'), "manifest_invalid");
    await refuse("{}", "manifest_invalid");
    await refuse("", "manifest_invalid");
    await refuse(good.replaceAll("model.onnx", "../model.onnx"), "manifest_invalid");
    await refuse(7, "request_invalid");
    await refuse("x".repeat(4 * 1024 * 1024 + 1), "request_invalid");
    // A size that is not the stored file's, in a manifest that is canonical otherwise.
    const lying = manifestOf([{ path: "model.onnx", bytes: scaled(9) }]).replace(
      `"size":${scaled(9).length}}`,
      `"size":${scaled(9).length + 1}}`,
    );
    await refuse(lying, "manifest_invalid");
    expect((await ask(url, "/v1/models/demo%2Fmanifest")).status).toBe(404);
  });

  test("a model that the checker refuses is not released", async () => {
    const narrow = encodeModelFile(
      {
        inputs: [float("x", [2])],
        outputs: [{ name: "y", elementType: ELEMENT_TYPE.INT4, shape: [2] }],
        nodes: [
          { opType: "Cast", inputs: ["x"], outputs: ["y"], attributes: [{ name: "to", int: ELEMENT_TYPE.INT4 }] },
        ],
      },
      21,
      10,
    );
    expectProblem((await release(url, operator, "demo/narrow", modelFile(narrow))).body, "low_bit_type");
    expectProblem(
      (await release(url, operator, "demo/noise", modelFile(utf8ToBytes("not a model")))).body,
      "onnx_malformed",
    );
    expectProblem(
      (await release(url, operator, "demo/lost-weights", modelFile(external))).body,
      "external_data_missing",
    );
    for (const name of ["demo/narrow", "demo/noise", "demo/lost-weights"])
      expect((await ask(url, `/v1/models/${path(name)}`)).status).toBe(404);
  });

  test("weights in a file of their own are checked, served and run", async () => {
    const weights = new Uint8Array(Float32Array.of(10, 20).buffer);
    const files = [...modelFile(external), { path: "weights/w.bin", bytes: weights }];
    expect((await release(url, operator, "demo/external", files)).status).toBe(200);
    for (const at of ["weights/w.bin", "weights%2Fw.bin"]) {
      const file = await fetch(`${url}/v1/models/demo%2Fexternal/files/${at}`);
      expect(file.headers.get("content-length")).toBe("8");
      expect(file.headers.get("etag")).toBe(`"${bytesToHex(nodeSuite.sha256(weights))}"`);
      expect(equalBytes(new Uint8Array(await file.arrayBuffer()), weights)).toBe(true);
    }

    const flat: Tensor = {
      name: "x",
      datatype: "FP32",
      shape: [2],
      data: new Uint8Array(Float32Array.of(1, 2).buffer),
    };
    for (const profile of ["portable", "native"]) {
      const answer = await infer("demo/external", { inputs: [flat] }, { "assay-profile": profile });
      expect(answer.problem).toEqual({});
      expect(numbersOf(outputsOf(answer).outputs[0])).toEqual([11, 22]);
    }
  });

  test("a version shows its files, card and preprocessing", async () => {
    const files = [
      ...modelFile(scaled(5)),
      { path: "README.md", bytes: utf8ToBytes("# Five\n") },
      { path: "preprocessing.json", bytes: utf8ToBytes('{"steps":[]}') },
    ];
    expect((await release(url, operator, "demo/card", files)).status).toBe(200);
    const { body } = await ask(url, "/v1/models/demo%2Fcard");
    expect(body).toMatchObject({
      name: "demo/card",
      version: 1,
      card: "# Five\n",
      preprocessing: { steps: [] },
      signature: {
        inputs: [{ name: "x", datatype: "FP32", shape: [-1, 2], optional: false }],
        outputs: [{ name: "y", datatype: "FP32", shape: [-1, 2] }],
      },
      versions: [{ version: 1 }],
    });
    expect(JSON.stringify(body["manifest"])).toContain("README.md");
    const listed = (await ask(url, "/v1/models?prefix=demo%2Fcar")).body["models"];
    expect(listed).toMatchObject([{ name: "demo/card", manifestDigest: body["manifestDigest"] }]);
    expect((await ask(url, "/v1/models?prefix=zzz")).body).toEqual({ object: "list", data: [], models: [] });
  });

  test("versions: released, rolled back, deprecated, in an order that is kept", async () => {
    const name = `${spaceOf(alice)}/history`;
    const at = `/v1/models/${path(name)}`;
    const runs = async (asked: string, version?: number): Promise<number | string> => {
      const answer = await infer(asked, { inputs: [x([1, 0])] }, {}, version);
      return answer.status === 200
        ? (numbersOf(outputsOf(answer).outputs[0])[0] ?? "")
        : String(answer.problem["code"]);
    };
    for (const [by, version] of [
      [2, 1],
      [3, 2],
      [4, 3],
    ] as const)
      expect((await release(url, aliceToken, name, modelFile(scaled(by)))).body["version"]).toBe(version);
    // The same content again is the current version, not a new one.
    expect((await release(url, aliceToken, name, modelFile(scaled(4)))).body["version"]).toBe(3);
    expect(await runs(name)).toBe(4);
    expect(await runs(`${name}@2`)).toBe(3);
    expect(await runs(name, 1)).toBe(2);

    expect((await ask(url, `${at}/rollback`, { token: aliceToken, json: { version: 1 } })).body).toMatchObject({
      version: 1,
      status: "released",
    });
    expect(await runs(name)).toBe(2);
    // Older than the newest, but no longer what the name means: the same content again is a version of its own.
    expect((await release(url, aliceToken, name, modelFile(scaled(4)))).body["version"]).toBe(4);
    expect((await ask(url, `${at}/deprecate`, { token: aliceToken, json: { version: 4 } })).body).toMatchObject({
      version: 4,
      status: "deprecated",
    });
    expect(await runs(name)).toBe("model_deprecated");
    expect(await runs(name, 4)).toBe(4);
    expect(await runs(`${name}@3`)).toBe(4);
    const shown = await ask(url, at);
    expect(shown.status).toBe(409);
    expectProblem(shown.body, "model_deprecated");
    const one = await ask(url, `/v1/models/${path(`${name}@3`)}`);
    expect(one.body["versions"]).toMatchObject([
      { version: 4, status: "deprecated" },
      { version: 3, status: "released" },
      { version: 2, status: "released" },
      { version: 1, status: "released" },
    ]);
    expect((await ask(url, `${at}/rollback`, { token: aliceToken, json: { version: 2 } })).status).toBe(200);
    expect(await runs(name)).toBe(3);

    for (const [action, token, version, code, status] of [
      ["rollback", bobToken, 1, "model_not_owned", 403],
      ["deprecate", operator, 1, "model_not_owned", 403],
      ["rollback", aliceToken, 9, "version_not_found", 404],
      ["deprecate", aliceToken, 0, "request_invalid", 400],
      ["deprecate", aliceToken, 1.5, "request_invalid", 400],
    ] as const) {
      const refused = await ask(url, `${at}/${action}`, { token, json: { version } });
      expectProblem(refused.body, code);
      expect(refused.status).toBe(status);
    }
    expectProblem((await ask(url, `${at}/rollback`, { json: { version: 1 } })).body, "token_required");
    expect(await runs(name)).toBe(3);
  });

  test("a private model is there for its owner alone", async () => {
    const name = `${spaceOf(alice)}/secret-net`;
    const at = path(name);
    expect((await release(url, aliceToken, name, modelFile(scaled(7)), "private")).body["visibility"]).toBe("private");
    const mine = await infer(name, { inputs: [x([1, 2])] }, { authorization: `Bearer ${aliceToken}` });
    expect(numbersOf(outputsOf(mine).outputs[0])).toEqual([7, 14]);
    expect((await ask(url, `/v2/models/${at}`, { token: aliceToken })).status).toBe(200);

    const listOf = async (token?: string): Promise<string> =>
      JSON.stringify((await ask(url, "/v1/models", token === undefined ? {} : { token })).body);
    expect(await listOf(aliceToken)).toContain("secret-net");
    const gone = { error: `There is no model named ${name}.`, code: "model_not_found" };
    for (const token of [undefined, bobToken, operator]) {
      expect(await listOf(token)).not.toContain("secret-net");
      const as = token === undefined ? {} : { token };
      const routes = [
        `/v2/models/${at}`,
        `/v2/models/${at}/ready`,
        `/v2/models/${at}/versions/1`,
        `/v2/models/${at}/versions/5`,
      ];
      for (const route of [...routes, `/v1/models/${at}`, `/v1/models/${at}/files/model.onnx`])
        expect((await ask(url, route, as)).body, route).toMatchObject(gone);
      for (const action of ["rollback", "deprecate"])
        if (token !== undefined)
          expect((await ask(url, `/v1/models/${at}/${action}`, { token, json: { version: 1 } })).body).toMatchObject(
            gone,
          );
      const ran = await infer(
        name,
        { inputs: [x([1, 2])] },
        token === undefined ? {} : { authorization: `Bearer ${token}` },
      );
      expect(ran.problem).toMatchObject(gone);
      // Nor does a hint for a name that is nearly right tell of it.
      const near = await ask(url, `/v2/models/${path("other/secret-net")}`, as);
      expect(JSON.stringify(near.body["hints"])).not.toContain("secret-net");
    }
    // A deprecated private version says no more than one that was never there.
    await ask(url, `/v1/models/${at}/deprecate`, { token: aliceToken, json: { version: 1 } });
    expect((await ask(url, `/v2/models/${at}`)).body).toMatchObject(gone);
    expect((await ask(url, `/v2/models/${at}`, { token: aliceToken })).body["code"]).toBe("model_deprecated");
    // A public version beside a private one shows itself and not the other.
    expect((await release(url, aliceToken, name, modelFile(scaled(8)))).body).toMatchObject({ version: 2 });
    expect((await ask(url, `/v2/models/${at}`)).body["versions"]).toEqual(["2"]);
    expect((await ask(url, `/v1/models/${at}`)).body["versions"]).toMatchObject([{ version: 2 }]);
    expect((await ask(url, `/v1/models/${path(`${name}@1`)}`)).body).toMatchObject({
      code: "version_not_found",
      hints: ["It has: 2."],
    });
    expect((await ask(url, `/v1/models/${at}`, { token: aliceToken })).body["versions"]).toHaveLength(2);
  });
});

describe("inference", () => {
  test("a model's name may come with its slash as it is, as clients that others wrote send it", async () => {
    for (const path of ["/v2/models/demo/double", "/v2/models/demo/double/ready", "/v2/models/demo/double/versions/1"])
      expect((await ask(url, path)).body, path).toMatchObject({ name: "demo/double" });
    for (const path of ["/v2/models/demo/double/infer", "/v2/models/demo/double/versions/1/infer"]) {
      const ran = await ask(url, path, {
        json: { inputs: [{ name: "x", shape: [1, 2], datatype: "FP32", data: [1, 2] }] },
      });
      expect(ran.body, path).toMatchObject({ model_name: "demo/double" });
    }
    for (const path of ["/v2/models/demo/ready", "/v2/models/demo/none/ready", "/v2/models/demo/double/none"])
      expect((await ask(url, path)).status, path).toBeGreaterThanOrEqual(400);
  });

  const json = { "content-type": "application/json" };
  const at = "/v2/models/demo%2Fdouble/infer";
  const jsonBody = '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.5,-2]}]}';

  test.each([
    ["JSON", false, false],
    ["binary in, JSON out", true, false],
    ["JSON in, binary out", false, true],
    ["binary", true, true],
  ] as const)("%s", async (_, binary, binaryOutput) => {
    const answer = await infer("demo/double", { id: "call-1", inputs: [x([1.5, -2, 3, 4])], binary, binaryOutput });
    expect(answer.headers.get("content-type")).toBe(binaryOutput ? "application/octet-stream" : "application/json");
    const { modelName, modelVersion, id, outputs } = outputsOf(answer);
    expect({ modelName, modelVersion, id }).toEqual({ modelName: "demo/double", modelVersion: "1", id: "call-1" });
    expect(outputs).toMatchObject([{ name: "y", datatype: "FP32", shape: [2, 2] }]);
    expect(numbersOf(outputs[0])).toEqual([3, -4, 6, 8]);
    expect(answer.headers.get("assay-receipt-id")).toMatch(/^[0-9a-f]{12}7[0-9a-f]{19}$/);
    expect(answer.headers.get("assay-execution-digest")).toMatch(HEX32);
    expect(answer.headers.get("assay-grant")).toMatch(HEX32);
    expect(answer.headers.get("assay-opening")).toMatch(/^[\w-]{43}$/);
    expect(Number(answer.headers.get("assay-log-index"))).toBeGreaterThan(0);
    expect(Number(answer.headers.get("content-length"))).toBe(answer.bytes.length);
  });

  test("an answer without an id has none, and strings stay what they were", async () => {
    const texts = ["", "naïve ☕", 'quo"te'].map(utf8ToBytes);
    const tensor: Tensor = { name: "text", datatype: "BYTES", shape: [3], data: packBytesElements(texts) };
    for (const binary of [true, false]) {
      const { id, outputs } = outputsOf(await infer("demo/echo", { inputs: [tensor], binary }));
      expect(id).toBeUndefined();
      expect(equalBytes(outputs[0]?.data ?? new Uint8Array(), tensor.data)).toBe(true);
    }
  });

  test("outputs are selected, in order and each in its own form", async () => {
    const inputs = [x([5, 7], "a"), x([2, 3], "b")];
    const answer = await infer("demo/pair", {
      inputs,
      outputs: [
        { name: "difference", binary: false },
        { name: "sum", binary: true },
      ],
    });
    const { outputs } = outputsOf(answer);
    expect(outputs.map(({ name }) => name)).toEqual(["difference", "sum"]);
    expect(outputs.map(numbersOf)).toEqual([
      [3, 4],
      [7, 10],
    ]);
    const only = outputsOf(await infer("demo/pair", { inputs, outputs: [{ name: "sum", binary: false }] }));
    expect(only.outputs.map(({ name }) => name)).toEqual(["sum"]);
  });

  test("a raw request is the only input of its model", async () => {
    const body = new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer);
    const answer = await post(at, body, { "inference-header-content-length": "0" });
    expect(answer.status).toBe(200);
    expect(numbersOf(outputsOf(answer).outputs[0])).toEqual([2, 4, 6, 8]);
    const text = await post("/v2/models/demo%2Fecho/infer", utf8ToBytes("hello"), {
      "inference-header-content-length": "0",
    });
    expect(bytesToUtf8(outputsOf(text).outputs[0]?.data.subarray(4) ?? new Uint8Array())).toBe("hello");
    const odd = await post(at, body.subarray(1), { "inference-header-content-length": "0" });
    expectProblem(odd.problem, "tensor_data_size");
    const two = await post("/v2/models/demo%2Fpair/infer", body, { "inference-header-content-length": "0" });
    expectProblem(two.problem, "raw_request_unsupported");
  });

  test.each<[string, number, string, string, Record<string, string>?]>([
    ["no body", 400, "request_malformed", ""],
    ["no JSON", 400, "request_malformed", "{"],
    ["no inputs", 400, "request_malformed", '{"inputs":[]}'],
    ["an unknown field", 400, "request_malformed", `{"extra":1,${jsonBody.slice(1)}`],
    ["an unknown datatype", 400, "datatype_unknown", jsonBody.replace("FP32", "FP99")],
    ["another datatype", 400, "input_datatype", jsonBody.replace("FP32", "FP64")],
    ["another shape", 400, "input_shape", jsonBody.replace("[1,2]", "[2,1]")],
    ["too little data", 400, "tensor_data_size", jsonBody.replace("[1,2]", "[2,2]")],
    ["text for numbers", 400, "tensor_data_invalid", jsonBody.replace("1.5", '"1.5"')],
    ["an unknown input", 400, "input_missing", jsonBody.replace('"x"', '"z"')],
    [
      "an input twice",
      400,
      "tensor_duplicate",
      jsonBody.replace("]}", "").replace("[{", '[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]},{') +
        "]}]}".slice(1),
    ],
    ["an unknown output", 400, "output_unknown", jsonBody.replace(/\}$/, ',"outputs":[{"name":"z"}]}')],
    [
      "an unknown parameter",
      400,
      "parameter_unsupported",
      jsonBody.replace('"data"', '"parameters":{"shared_memory_region":"x"},"data"'),
    ],
    [
      "a header length that is no number",
      400,
      "header_length_invalid",
      jsonBody,
      { "inference-header-content-length": "1e2" },
    ],
    ["a negative header length", 400, "header_length_invalid", jsonBody, { "inference-header-content-length": "-1" }],
    [
      "a header length beyond the body",
      400,
      "header_length_invalid",
      jsonBody,
      { "inference-header-content-length": "9999" },
    ],
    [
      "bytes after the tensors",
      400,
      "trailing_bytes",
      `${jsonBody}more`,
      { "inference-header-content-length": String(jsonBody.length) },
    ],
    ["a nonce of seven bytes", 400, "header_invalid", jsonBody, { "assay-client-nonce": "00".repeat(7) }],
    ["a nonce of 65 bytes", 400, "header_invalid", jsonBody, { "assay-client-nonce": "00".repeat(65) }],
    ["a nonce that is not hexadecimal", 400, "header_invalid", jsonBody, { "assay-client-nonce": "zz".repeat(8) }],
    ["an empty nonce", 400, "header_invalid", jsonBody, { "assay-client-nonce": "" }],
    [
      "a preprocessing digest of 31 bytes",
      400,
      "header_invalid",
      jsonBody,
      { "assay-preprocessing-digest": "00".repeat(31) },
    ],
    ["an unknown retention", 400, "header_invalid", jsonBody, { "assay-retention": "forever" }],
    ["an unknown profile", 400, "header_invalid", jsonBody, { "assay-profile": "gpu" }],
  ])("%s is refused", async (_, status, code, body, headers = {}) => {
    const refused = await post(at, body, { ...json, ...headers });
    expectProblem(refused.problem, code);
    expect(refused.status).toBe(status);
    expect(refused.headers.get("assay-receipt-id")).toBeNull();
  });

  test("an input too many is refused", async () => {
    const refused = await infer("demo/double", { inputs: [x([1, 2]), x([1, 2], "z")] });
    expectProblem(refused.problem, "input_unexpected");
  });

  test("a missing input is named", async () => {
    const refused = await infer("demo/pair", { inputs: [x([1, 2], "a")] });
    expectProblem(refused.problem, "input_missing");
    expect(refused.problem["error"]).toContain('"b"');
  });

  test.each([
    ["demo%2Fdouble@2/infer", 404, "version_not_found"],
    ["demo%2Fdouble/versions/2/infer", 404, "version_not_found"],
    ["demo%2Fdouble@1/versions/1/infer", 400, "model_name_invalid"],
    ["demo%2Fdouble@01/infer", 400, "model_name_invalid"],
    ["demo%2Fdouble@1e0/infer", 400, "model_name_invalid"],
    ["demo%2Fdouble@0x1/infer", 400, "model_name_invalid"],
    ["demo%2Fdouble@/infer", 400, "model_name_invalid"],
    ["demo%2Fdouble@1@1/infer", 400, "model_name_invalid"],
    ["demo%2Fdouble%00/infer", 400, "model_name_invalid"],
    ["demo%2Fdouble/versions/01/infer", 404, "route_not_found"],
    ["demo%2Fnothing/infer", 404, "model_not_found"],
    ["%zz/infer", 404, "route_not_found"],
  ])("POST /v2/models/%s is refused with %i %s", async (model, status, code) => {
    const refused = await post(`/v2/models/${model}`, jsonBody, json);
    expectProblem(refused.problem, code);
    expect(refused.status).toBe(status);
  });

  test("a body past the limit is refused, and the connection answers the next request", async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      const big = Buffer.alloc(MAX_BODY + 1);
      const declared = await raw(
        agent,
        { method: "POST", path: at, headers: { "content-length": big.length } },
        (send) => send.end(big),
      );
      expect(declared.status).toBe(413);
      expectProblem(JSON.parse(declared.text) as Json, "request_too_large");
      const chunked = await raw(
        agent,
        { method: "POST", path: at, headers: { "transfer-encoding": "chunked" } },
        (send) => {
          for (let i = 0; i < 5; i++) send.write(big.subarray(0, MAX_BODY / 4));
          send.end();
        },
      );
      expect(chunked.status).toBe(413);
      expectProblem(JSON.parse(chunked.text) as Json, "request_too_large");
      const next = await raw(agent, { method: "POST", path: at, headers: json }, (send) => send.end(jsonBody));
      expect(next.status).toBe(200);
      expect(next.reused).toBe(true);
      expect(next.localPort).toBe(declared.localPort);
    } finally {
      agent.destroy();
    }
  });

  test("a chunked body within the limit is read whole", async () => {
    const agent = new Agent();
    const answer = await raw(
      agent,
      { method: "POST", path: at, headers: { ...json, "transfer-encoding": "chunked" } },
      (send) => {
        for (const character of jsonBody) send.write(character);
        send.end();
      },
    );
    expect(answer.status).toBe(200);
    agent.destroy();
  });

  test("a body shorter than declared is never run", async () => {
    const before = home.server.log.size();
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    await once(socket, "connect");
    socket.end(`POST ${at} HTTP/1.1\r\nhost: x\r\ncontent-length: ${jsonBody.length + 10}\r\n\r\n${jsonBody}`);
    socket.resume();
    await once(socket, "close");
    expect(home.server.log.size()).toBe(before);
    expect((await infer("demo/double", { inputs: [x([1, 2])] })).status).toBe(200);
  });

  test.each([
    ["what is not HTTP", "hello\r\n\r\n", 400],
    ["two lengths", `POST ${at} HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd`, 400],
    [
      "a length and chunks",
      `POST ${at} HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
      400,
    ],
    ["a length that is no number", `POST ${at} HTTP/1.1\r\nhost: x\r\ncontent-length: 1e2\r\n\r\n`, 400],
    ["headers without end", `GET / HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(40_000)}\r\n\r\n`, 431],
  ])("%s is answered with a refusal and a closed connection", async (_, bytes, status) => {
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    socket.on("error", () => undefined);
    await once(socket, "connect");
    socket.write(bytes);
    let text = "";
    for await (const chunk of socket.setEncoding("utf8")) text += String(chunk);
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expectProblem(JSON.parse(text.slice(text.indexOf("\r\n\r\n"))) as Json, "http_malformed");
  });
});

describe("receipts", () => {
  type Held = {
    readonly id: string;
    readonly grant: string;
    readonly digest: string;
    readonly index: number;
    readonly answer: Inferred;
  };
  const hold = (answer: Inferred): Held => {
    expect(answer.status).toBe(200);
    return {
      id: answer.headers.get("assay-receipt-id") ?? "",
      grant: answer.headers.get("assay-grant") ?? "",
      digest: answer.headers.get("assay-execution-digest") ?? "",
      index: Number(answer.headers.get("assay-log-index")),
      answer,
    };
  };
  const run = async (headers: Record<string, string> = {}, values = [1, 2]): Promise<Held> =>
    hold(await infer("demo/double", { inputs: [x(values)] }, headers));
  const bundleOf = async (id: string, headers: Record<string, string>): Promise<Uint8Array> => {
    const response = await fetch(`${url}/v1/receipts/${id}/bundle`, { headers });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/vnd.assay.receipt.v1+cbor");
    return new Uint8Array(await response.arrayBuffer());
  };
  const trust = async () => parseTrust(JSON.stringify((await ask(url, "/v1/trust")).body));
  const as = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });

  test("the bundle verifies with the trust file, closed and opened", async () => {
    const nonce = "0011223344556677";
    const preprocessing = "ab".repeat(32);
    const held = await run({
      "assay-client-nonce": nonce,
      "assay-preprocessing-digest": preprocessing,
      ...as(aliceToken),
    });
    const bytes = await bundleOf(held.id, { "assay-grant": held.grant });
    const verify = createVerifier({ trust: await trust(), suite: nodeSuite });
    const closed = await verify(bytes, Date.now());
    expect(closed.status, JSON.stringify(closed.checks)).toBe("verified");
    const bundle = decodeBundle(bytes);
    expect(bundle.openings).toBeUndefined();
    expect(bundle.checkpoints).toHaveLength(1);
    const execution = bundle.statements.find(
      ({ envelope }) => parseStatement(nodeSuite, envelope).header.kind === "execution",
    );
    const claims = decodeClaims("execution", execution?.claims ?? new Uint8Array());
    expect(bytesToHex(claims.clientNonce ?? new Uint8Array())).toBe(nonce);
    expect(bytesToHex(claims.preprocessingDigest ?? new Uint8Array())).toBe(preprocessing);
    expect(claims.principal).toEqual({ caller: `ed25519:${bytesToHex(alice.publicKey)}`, authentication: "token" });
    expect(bytesToHex(parseStatement(nodeSuite, execution?.envelope ?? new Uint8Array()).digest)).toBe(held.digest);
    const known = {
      masterSalt: Buffer.from(held.answer.headers.get("assay-opening") ?? "", "base64url"),
      modelAsked: "demo/double",
      inputs: [x([1, 2])],
      outputs: outputsOf(held.answer).outputs,
    };
    const opened = openBundle(bytes, { ...known, masterSalt: new Uint8Array(known.masterSalt) });
    expect((await verify(opened, Date.now())).status).toBe("verified");
    // The same receipt does not vouch for another question.
    const other = openBundle(bytes, { ...known, masterSalt: new Uint8Array(known.masterSalt), inputs: [x([1, 3])] });
    expect((await verify(other, Date.now())).status).toBe("failed");
    const asked = openBundle(bytes, {
      ...known,
      masterSalt: new Uint8Array(known.masterSalt),
      modelAsked: "demo/double@1",
    });
    expect((await verify(asked, Date.now())).status).toBe("failed");
  });

  test("what is committed is the name as it was asked for", async () => {
    const client = createClient({ url, trust: await trust(), suite: nodeSuite });
    for (const [asked, version] of [
      ["demo/double@1", undefined],
      ["demo/double", 1],
    ] as const) {
      const held = hold(await infer(asked, { inputs: [x([1, 2])] }, {}, version));
      const opened = openBundle(await bundleOf(held.id, { "assay-grant": held.grant }), {
        masterSalt: new Uint8Array(Buffer.from(held.answer.headers.get("assay-opening") ?? "", "base64url")),
        modelAsked: "demo/double@1",
        inputs: [x([1, 2])],
        outputs: outputsOf(held.answer).outputs,
      });
      expect((await createVerifier({ trust: await trust(), suite: nodeSuite })(opened, Date.now())).status).toBe(
        "verified",
      );
    }
    const { receipt } = await client.infer({ model: "demo/double@1", inputs: [x([1, 2])] });
    expect(receipt?.verdict.status).toBe("verified");
  });

  test("a receipt is read by its grant, its owner and the operator, and by nobody else", async () => {
    const mine = await run(as(aliceToken));
    const other = await run();
    const routes = [`/v1/receipts/${mine.id}`, `/v1/receipts/${mine.id}/bundle`];
    const wrong = `${mine.grant.slice(0, -1)}${mine.grant.endsWith("0") ? "1" : "0"}`;
    for (const route of routes) {
      for (const headers of [
        { "assay-grant": mine.grant },
        as(aliceToken),
        as(operator),
        { "assay-grant": wrong, ...as(aliceToken) },
      ])
        expect((await fetch(url + route, { headers })).status).toBe(200);
      for (const headers of [
        {},
        as(bobToken),
        { "assay-grant": other.grant },
        { "assay-grant": wrong },
        { "assay-grant": "" },
        { "assay-grant": mine.grant.toUpperCase() },
        { "assay-grant": mine.grant.slice(2) },
        { "assay-grant": mine.id },
      ] as Record<string, string>[]) {
        const { status, body } = await ask(url, route, { headers });
        expectProblem(body, "receipt_not_yours");
        expect(status).toBe(403);
      }
    }
    // Nobody owns what nobody signed in for: its grant is the only way.
    expect((await ask(url, `/v1/receipts/${other.id}`, { token: aliceToken })).body["code"]).toBe("receipt_not_yours");
    for (const action of ["air", "erase-opening"]) {
      const { status, body } = await ask(url, `/v1/receipts/${mine.id}/${action}`, { token: bobToken, json: {} });
      expectProblem(body, "receipt_not_yours");
      expect(status).toBe(403);
    }
    for (const id of ["0".repeat(32), "xyz", mine.id.toUpperCase(), `${mine.id}0`, "..%2Fx"]) {
      const { status, body } = await ask(url, `/v1/receipts/${id}`, { token: operator });
      expectProblem(body, "receipt_not_found");
      expect(status).toBe(404);
    }
  });

  test("what is not an execution is no receipt", async () => {
    const { body } = await ask(url, "/v1/receipts?limit=1000", { token: operator });
    const rows = body["receipts"] as { kind: string; receiptId: string }[];
    for (const kind of ["keyset", "release"]) {
      const row = rows.find((one) => one.kind === kind);
      const refused = await ask(url, `/v1/receipts/${row?.receiptId}`, { token: operator });
      expectProblem(refused.body, "receipt_not_found");
    }
  });

  test("the JSON view says what the bundle says", async () => {
    const held = await run();
    const { body } = await ask(url, `/v1/receipts/${held.id}`, { headers: { "assay-grant": held.grant } });
    const text = JSON.stringify(body);
    expect(text).toContain(held.digest);
    expect(text).toContain("demo/double");
    expect(text).not.toContain(held.grant);
  });

  test("the log's proofs stand without the server", async () => {
    const held = await run();
    const record = await home.server.log.read(held.index);
    const leaf = leafHash(record?.entry ?? new Uint8Array(), nodeSuite);
    const vkeys = (await (await fetch(`${url}/log/vkeys`)).text()).trimEnd().split("\n");
    const keys = vkeys.map((line) => parseVkey(line, nodeSuite));
    const text = await (await fetch(`${url}/v1/receipts/${held.id}/proof`)).text();
    expect(await verifyTlogProof(text, leaf, { logs: keys }, nodeSuite)).toMatchObject({ ok: true, index: held.index });
    expect(await verifyTlogProof(text, nodeSuite.sha256(leaf), { logs: keys }, nodeSuite)).toMatchObject({
      ok: false,
      code: "inclusion_invalid",
    });
    const cose = await fetch(`${url}/v1/receipts/${held.id}/proof?format=cose`);
    expect(cose.headers.get("content-type")).toBe("application/cose");
    const receipt = new Uint8Array(await cose.arrayBuffer());
    const key = keys.find(({ name }) => name === home.server.log.origin);
    const publicKey =
      home.server.log.keys.find(({ publicKey: bytes }) => bytes.length === 32)?.publicKey ?? new Uint8Array();
    expect(key).toBeDefined();
    expect(await verifyCoseReceipt(receipt, leaf, { algorithm: "ed25519", publicKey }, nodeSuite)).toMatchObject({
      ok: true,
    });
    expect(
      await verifyCoseReceipt(receipt, nodeSuite.sha256(leaf), { algorithm: "ed25519", publicKey }, nodeSuite),
    ).toMatchObject({ ok: false });
    const missing = await ask(url, `/v1/receipts/${"0".repeat(32)}/proof`);
    expectProblem(missing.body, "receipt_not_found");
    expectProblem((await ask(url, `/v1/receipts/${held.id}/proof?format=pdf`)).body, "request_invalid");
  });

  test("the log is read as tiles", async () => {
    await run();
    const { note, size } = await home.server.log.checkpoint({ atLeast: home.server.log.size(), timeoutMs: 10_000 });
    const checkpoint = await fetch(`${url}/log/checkpoint`);
    expect(checkpoint.headers.get("cache-control")).toBe("no-cache");
    const served = await checkpoint.text();
    expect(parseCheckpoint(parseNote(served).text).size).toBeGreaterThanOrEqual(size);
    expect(parseCheckpoint(parseNote(note).text).origin).toBe(home.server.log.origin);
    const tile = await fetch(`${url}/log/tile/0/000.p/${Math.min(size, 255)}`);
    expect(tile.status).toBe(200);
    expect(tile.headers.get("cache-control")).toContain("immutable");
    expect((await tile.arrayBuffer()).byteLength).toBe(32 * Math.min(size, 255));
    expect((await fetch(`${url}/log/tile/entries/000.p/${Math.min(size, 255)}`)).status).toBe(200);
    for (const at of [
      "tile/0/000.p/999",
      "tile/64/000",
      "tile/x/000",
      "journal",
      "keys",
      "tile/entries/..%2F..%2Fkeys",
    ])
      expectProblem((await ask(url, `/log/${at}`)).body, "file_not_found");
  });

  test("an export to AIR needs measurements", async () => {
    const held = await run();
    const { status, body } = await ask(url, `/v1/receipts/${held.id}/air`, {
      json: {},
      headers: { "assay-grant": held.grant },
    });
    expectProblem(body, "air_requires_tee");
    expect(status).toBe(409);
  });

  test("the list is the owner's, newest first, in pages", async () => {
    const owner = ed25519Signer(randomSeed());
    const token = await mintToken(url, owner);
    const held: Held[] = [];
    for (let i = 0; i < 5; i++) held.push(await run(as(token), [i, i]));
    held.push(hold(await infer("demo/pair", { inputs: [x([1, 2], "a"), x([3, 4], "b")] }, as(token))));
    await run();
    const newest = held.map(({ id }) => id).toReversed();
    const list = async (query: string) => {
      const { status, body } = await ask(url, `/v1/receipts${query}`, { token });
      expect(status).toBe(200);
      return body as {
        receipts: { receiptId: string; logIndex: number; owner: string; model: string }[];
        next: number | null;
      };
    };
    // The index follows the log in its own time.
    await expect.poll(async () => (await list("")).receipts.map(({ receiptId }) => receiptId)).toEqual(newest);
    const first = await list("?limit=4");
    expect(first.receipts.map(({ receiptId }) => receiptId)).toEqual(newest.slice(0, 4));
    expect(first.next).toBe(first.receipts[3]?.logIndex);
    const second = await list(`?limit=4&before=${first.next}`);
    expect(second.receipts.map(({ receiptId }) => receiptId)).toEqual(newest.slice(4));
    expect(second.next).toBeNull();
    expect((await list("?model=demo%2Fpair")).receipts.map(({ receiptId }) => receiptId)).toEqual([newest[0]]);
    expect((await list("?model=demo%2Fnone")).receipts).toEqual([]);
    expect(first.receipts[0]).toMatchObject({
      kind: "execution",
      mode: "vanilla",
      visibility: "private",
      owner: `ed25519:${bytesToHex(owner.publicKey)}`,
    });
    for (const query of ["?limit=0", "?limit=1001", "?limit=x", "?before=-1", "?limit=1.5"])
      expectProblem((await ask(url, `/v1/receipts${query}`, { token })).body, "request_invalid");
  });

  test("the server keeps an opening only when asked, encrypted, until it is erased", async () => {
    const kept = await run({ "assay-retention": "server-encrypted", ...as(aliceToken) }, [1234.5, 2]);
    const plain = await run({ "assay-retention": "client-encrypted", ...as(aliceToken) }, [1, 2]);
    expect(decodeBundle(await bundleOf(plain.id, as(aliceToken))).openings).toBeUndefined();
    const bytes = await bundleOf(kept.id, as(aliceToken));
    const openings = decodeBundle(bytes).openings;
    expect(openings?.map(({ side }) => side)).toEqual(["request", "response"]);
    const verify = createVerifier({ trust: await trust(), suite: nodeSuite });
    expect((await verify(bytes, Date.now())).status).toBe("verified");
    // On disk neither the tensor nor the salt can be read.
    const record = await home.server.log.read(kept.index);
    const secret = Buffer.from(x([1234.5, 2]).data);
    expect(record?.opening.length).toBeGreaterThan(secret.length);
    expect(Buffer.from(record?.opening ?? []).includes(secret)).toBe(false);
    const salt = Buffer.from(kept.answer.headers.get("assay-opening") ?? "", "base64url");
    const folder = join(home.directory, "log");
    for (const file of readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    )) {
      const content = readFileSync(join(file.parentPath, file.name));
      expect(content.includes(salt), file.name).toBe(false);
      expect(content.includes(secret), file.name).toBe(false);
    }
    const erased = await fetch(`${url}/v1/receipts/${kept.id}/erase-opening`, {
      method: "POST",
      headers: { "assay-grant": kept.grant },
    });
    expect(erased.status).toBe(204);
    const after = await bundleOf(kept.id, as(aliceToken));
    expect(decodeBundle(after).openings).toBeUndefined();
    expect((await verify(after, Date.now())).status).toBe("verified");
    // Erasing twice is no fault.
    expect(
      (await fetch(`${url}/v1/receipts/${kept.id}/erase-opening`, { method: "POST", headers: as(aliceToken) })).status,
    ).toBe(204);
  });
});

describe("what the server tells of itself", () => {
  test("metrics by name, without anything of a request in them", async () => {
    await infer("demo/double", { inputs: [x([1, 2])] });
    await infer("demo/none", { inputs: [x([1, 2])] });
    const response = await fetch(`${url}/metrics`);
    expect(response.headers.get("content-type")).toContain("text/plain");
    const text = await response.text();
    for (const name of [
      "assay_http_requests_total",
      "assay_infer_seconds",
      "assay_engine_seconds",
      "assay_receipts_total",
      "assay_receipt_seconds",
      "assay_refusals_total",
      "assay_log_records",
      "assay_index_lag_records",
      "assay_receipts_pending",
      "assay_runtime_children",
      "assay_runtime_sessions",
      "assay_runtime_session_bytes",
      "assay_runtime_queued_requests",
      "assay_runtime_restarts",
      "assay_process_resident_bytes",
    ])
      expect(text).toMatch(new RegExp(`^# TYPE ${name} `, "m"));
    expect(text).toMatch(/^assay_http_requests_total\{route="infer",status="200"\} [1-9]/m);
    expect(text).toMatch(/^assay_http_requests_total\{route="infer",status="404"\} [1-9]/m);
    expect(text).toMatch(/^assay_refusals_total\{code="model_not_found"\} [1-9]/m);
    expect(text).not.toContain("demo/");
    expect(text).not.toContain(spaceOf(alice));
  });

  test("log lines have request, receipt and code, and nothing of prompts, tensors, tokens or keys", async () => {
    const marker = "the-prompt-nobody-may-log";
    const nonce = "c0ffee".repeat(6);
    const tensor: Tensor = {
      name: "text",
      datatype: "BYTES",
      shape: [1],
      data: packBytesElements([utf8ToBytes(marker)]),
    };
    const held = await infer(
      "demo/echo",
      { inputs: [tensor], binary: false },
      { authorization: `Bearer ${aliceToken}`, "x-request-id": "watched", "assay-client-nonce": nonce },
    );
    expect(bytesToUtf8(held.bytes)).toContain(marker);
    const refused = await post(
      "/v2/models/demo%2Fecho/infer?secret=in-the-query",
      `{"inputs":[{"name":"${marker}"}]}`,
      {
        "x-request-id": "refused",
      },
    );
    expect(refused.status).toBe(400);
    await ask(url, `/v1/receipts/${held.headers.get("assay-receipt-id")}`, {
      headers: { "assay-grant": held.headers.get("assay-grant") ?? "", "x-request-id": "reading" },
    });
    const lineOf = (id: string): Json | undefined =>
      home.lines.map((line) => JSON.parse(line) as Json).find(({ requestId }) => requestId === id);
    await expect.poll(() => lineOf("reading")).toMatchObject({ msg: "request", status: 200, method: "GET" });
    expect(lineOf("watched")).toMatchObject({
      msg: "inference",
      receiptId: held.headers.get("assay-receipt-id"),
      model: "demo/echo",
      status: 200,
      latencyMs: expect.any(Number),
    });
    expect(lineOf("refused")).toMatchObject({ msg: "inference refused", code: expect.any(String), status: 400 });
    const all = home.lines.join("");
    const secrets = [
      marker,
      Buffer.from(marker).toString("base64"),
      nonce,
      "in-the-query",
      operator,
      aliceToken,
      held.headers.get("assay-grant") ?? "",
      held.headers.get("assay-opening") ?? "",
      bytesToHex(hexToBytes(bytesToHex(Buffer.from(held.headers.get("assay-opening") ?? "", "base64url")))),
      ...readdirSync(join(home.directory, "keys")).map((file) =>
        readFileSync(join(home.directory, "keys", file)).toString("hex"),
      ),
      ...readdirSync(join(home.directory, "keys")).map((file) =>
        readFileSync(join(home.directory, "keys", file)).toString("base64"),
      ),
    ];
    for (const secret of secrets) {
      expect(secret.length).toBeGreaterThan(8);
      expect(all.includes(secret)).toBe(false);
    }
  });

  test("no answer has a stack or a cause", async () => {
    for (const [at, body] of [
      ["/v2/models/demo%2Fdouble/infer", "{"],
      ["/v1/auth/token", "{"],
      ["/v1/auth/token", '{"publicKey":"A","challenge":"a.b.c","signature":"x"}'],
    ] as const) {
      const text = bytesToUtf8((await post(at, body, { "content-type": "application/json" })).bytes);
      expect(text).not.toMatch(/\bat \S+ \(|node_modules|cause|\.ts:|\.js:/);
    }
  });

  test("keys and the database lie where only their owner reads", () => {
    expect(readdirSync(join(home.directory, "keys")).toSorted()).toContain("owner.key");
    expect(JSON.parse(readFileSync(join(home.directory, "trust.json"), "utf8"))).toMatchObject({
      logs: [{ origin: home.server.log.origin }],
    });
  });
});
