import { ed25519Signer, randomSeed } from "@assay/driver-crypto";
import { ELEMENT_TYPE, encodeModelFile } from "@assay/onnx";
import { encodeInferRequest, joinBody } from "@assay/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { mintToken, openHome, release } from "./running-server.ts";
import type { Json, ServerHome } from "./running-server.ts";

// Verification and audit on request, over a whole server: what anybody's receipt is worth here, and whether it repeats.

let home: ServerHome;
let url = "";
let name = "";

beforeAll(async () => {
  home = await openHome(sourceChild());
  ({ url } = home.server);
  await home.server.databaseReady;
  const alice = ed25519Signer(randomSeed());
  name = `${Buffer.from(alice.publicKey).toString("hex").slice(0, 16)}/double`;
  const float = (of: string) => ({ name: of, elementType: ELEMENT_TYPE.FLOAT, shape: ["n", 2] });
  const model = encodeModelFile({
    inputs: [float("x")],
    outputs: [float("y")],
    nodes: [{ opType: "Add", inputs: ["x", "x"], outputs: ["y"] }],
  });
  await release(url, await mintToken(url, alice), name, [{ path: "model.onnx", bytes: model }]);
});
afterAll(() => home.close());

type Ran = { readonly id: string; readonly grant: string; readonly bundle: Buffer };

async function run(retention: string): Promise<Ran> {
  const encoded = encodeInferRequest({
    inputs: [{ name: "x", datatype: "FP32", shape: [1, 2], data: new Uint8Array(Float32Array.of(1, 2).buffer) }],
    binary: true,
  });
  const response = await fetch(`${url}/v2/models/${encodeURIComponent(name)}/infer`, {
    method: "POST",
    headers: { "inference-header-content-length": String(encoded.headerLength), "assay-retention": retention },
    body: Buffer.from(joinBody(encoded)),
  });
  expect(response.status).toBe(200);
  const id = response.headers.get("assay-receipt-id") ?? "";
  const grant = response.headers.get("assay-grant") ?? "";
  const bundle = await fetch(`${url}/v1/receipts/${id}/bundle?waitMs=10000`, { headers: { "assay-grant": grant } });
  return { id, grant, bundle: Buffer.from(await bundle.arrayBuffer()) };
}
const post = async (path: string, body: Buffer | undefined, grant?: string): Promise<readonly [number, Json]> => {
  const response = await fetch(url + path, {
    method: "POST",
    ...(body ? { body } : {}),
    headers: grant === undefined ? {} : { "assay-grant": grant },
  });
  return [response.status, (await response.json()) as Json];
};

test("a receipt is verified by what the gateway trusts, and a changed one fails", async () => {
  const { bundle } = await run("none");
  const [status, verdict] = await post("/v1/verify", bundle);
  expect([status, verdict["status"]]).toEqual([200, "verified"]);
  const changed = Buffer.from(bundle);
  const at = Math.floor(changed.length / 2);
  changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
  const [, failed] = await post("/v1/verify", changed);
  expect(failed["status"]).not.toBe("verified");
  expect((await post("/v1/verify", Buffer.from("nothing")))[1]["status"]).toBe("failed");
});

test("an audit runs again what the gateway keeps open, and agrees", async () => {
  const { id, grant } = await run("server-encrypted");
  expect(await post(`/v1/receipts/${id}/audit`, undefined, grant)).toEqual([
    200,
    { result: "agree", rule: "portable-bytes", compared: 2, largestDifference: "0" },
  ]);
});

test("an audit of what is not open, of what does not hold and of what is not the caller's is refused", async () => {
  const { id, grant, bundle } = await run("none");
  const path = `/v1/receipts/${id}/audit`;
  expect((await post(path, undefined, grant))[1]["code"]).toBe("opening_missing");
  expect((await post(path, bundle))[0]).toBe(403);
  const [status, failed] = await post(path, Buffer.from("nothing"), grant);
  expect([status, typeof failed["code"]]).toEqual([400, "string"]);
});
