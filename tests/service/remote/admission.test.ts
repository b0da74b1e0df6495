import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesToBase64, bytesToHex } from "@assay/core";
import { ed25519Signer, randomSeed } from "@assay/driver-crypto";
import { joinMessage } from "@assay/protocol";
import type { Advertisement, JoinWire } from "@assay/protocol";
import { openNodeRegistry } from "@assay/service-gateway";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeIssuer, startTestGateway, startTestNode, suite } from "./world.ts";
import type { TestGateway } from "./world.ts";

const operator = ed25519Signer(randomSeed());
let directory = "";
let gateway: TestGateway;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "assay-admission-"));
  gateway = await startTestGateway({ directory, operator });
});
afterEach(async () => {
  await gateway.close();
  rmSync(directory, { recursive: true, force: true });
});

const ADVERTISEMENT: Advertisement = { offers: [], securityModes: ["vanilla"] };
type Answer = { readonly status: number; readonly body: Record<string, unknown> };

async function post(path: string, body: unknown, token?: string): Promise<Answer> {
  const response = await fetch(`${gateway.url}${path}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

/** A whole request to join, with changes before and after it is signed. */
async function joinRequest(
  changes: {
    readonly identity?: ReturnType<typeof ed25519Signer>;
    readonly issuer?: Awaited<ReturnType<typeof makeIssuer>>;
    readonly before?: (wire: Omit<JoinWire, "signature">) => Omit<JoinWire, "signature">;
    readonly after?: (wire: JoinWire) => JoinWire;
    readonly countersign?: boolean;
  } = {},
): Promise<JoinWire> {
  const identity = changes.identity ?? ed25519Signer(randomSeed());
  const issuer = changes.issuer ?? (await makeIssuer("node", identity, undefined, undefined));
  const publicKey = bytesToBase64(identity.publicKey);
  const { body } = await post("/v1/nodes/challenge", { publicKey });
  const plain: Omit<JoinWire, "signature"> = {
    publicKey,
    role: "node",
    challenge: String(body["challenge"]),
    keyset: {
      envelope: bytesToBase64(issuer.keysetStatement.envelope),
      document: bytesToBase64(issuer.keysetBytes),
    },
    url: "http://127.0.0.1:9",
    secret: bytesToBase64(new Uint8Array(randomBytes(32))),
    advertisement: ADVERTISEMENT,
  };
  const wire = changes.before?.(plain) ?? plain;
  const signed: JoinWire = {
    ...wire,
    signature: bytesToBase64(await identity.sign(joinMessage(suite, "node", wire))),
    ...(changes.countersign
      ? { countersignature: bytesToBase64(await operator.sign(joinMessage(suite, "operator", wire))) }
      : {}),
  };
  return changes.after?.(signed) ?? signed;
}
const keyOf = ({ publicKey }: JoinWire): string => Buffer.from(publicKey, "base64").toString("hex");

describe("a request to join", () => {
  test("waits for the operator, whose word logs the keyset and makes it a node", async () => {
    const wire = await joinRequest();
    const { body } = await post("/v1/nodes/join", wire);
    expect(body).toMatchObject({ state: "pending" });
    expect(gateway.registry.candidates()).toEqual([]);
    expect(gateway.registry.identities()).toEqual([]);
    expect(gateway.state.lastKeyset(String(body["subject"]))).toBeUndefined();
    const key = keyOf(wire);
    expect(await post(`/v1/nodes/${key}/statements`, { statements: [] }, String(body["session"]))).toMatchObject({
      body: { code: "node_pending" },
    });
    expect((await post(`/v1/nodes/${key}/admit`, {})).body["code"]).toBe("operator_required");
    const token = await gateway.operatorToken();
    expect((await post(`/v1/nodes/${key}/admit`, { country: "FR" }, token)).body).toMatchObject({ state: "active" });
    expect(gateway.state.lastKeyset(String(body["subject"]))?.bootSeq).toBe(0);
    expect(gateway.registry.candidates()).toMatchObject([{ jurisdiction: { country: "FR", evidence: "registry" } }]);
    const beat = { running: 0, queued: 0, healthy: true };
    expect((await post(`/v1/nodes/${key}/heartbeat`, beat, String(body["session"]))).body).toMatchObject({
      state: "active",
    });
  });

  test("an invite admits one node, once, before it expires", async () => {
    const token = await gateway.operatorToken();
    const minted = await post("/v1/nodes/invites", {}, token);
    const invite = String(minted.body["invite"]);
    expect((await post("/v1/nodes/invites", {})).body["code"]).toBe("operator_required");
    const withInvite = (code: string) => ({ after: (wire: JoinWire) => ({ ...wire, invite: code }) });
    expect((await post("/v1/nodes/join", await joinRequest(withInvite("wrong")))).body["code"]).toBe("invite_invalid");
    expect((await post("/v1/nodes/join", await joinRequest(withInvite(invite)))).body["state"]).toBe("active");
    expect((await post("/v1/nodes/join", await joinRequest(withInvite(invite)))).body["code"]).toBe("invite_invalid");
  });

  test.each<[string, string, Parameters<typeof joinRequest>[0]]>([
    [
      "another advertisement than was signed",
      "challenge_invalid",
      {
        after: (wire) => ({ ...wire, advertisement: { ...ADVERTISEMENT, slots: 64 } }),
      },
    ],
    [
      "another address than was signed",
      "challenge_invalid",
      {
        after: (wire) => ({ ...wire, url: "http://127.0.0.1:10" }),
      },
    ],
    [
      "a challenge of its own making",
      "challenge_invalid",
      {
        before: (wire) => ({ ...wire, challenge: `${wire.publicKey}.9999999999999.x.y` }),
      },
    ],
    [
      "the node's signature in the operator's place",
      "challenge_invalid",
      {
        after: (wire) => ({ ...wire, countersignature: wire.signature }),
      },
    ],
    [
      "an attested jurisdiction without evidence",
      "node_claim_unproven",
      {
        before: (wire) => ({
          ...wire,
          advertisement: { ...ADVERTISEMENT, jurisdiction: { country: "DE", evidence: "attested" } },
        }),
      },
    ],
    [
      "a registered jurisdiction, which is the operator's to state",
      "node_claim_unproven",
      {
        before: (wire) => ({
          ...wire,
          advertisement: { ...ADVERTISEMENT, jurisdiction: { country: "DE", evidence: "registry" } },
        }),
      },
    ],
    [
      "hardware that it shows no evidence of",
      "node_claim_unproven",
      {
        before: (wire) => ({ ...wire, advertisement: { ...ADVERTISEMENT, securityModes: ["tee"] } }),
      },
    ],
    [
      "plain http across the network",
      "node_url_invalid",
      {
        before: (wire) => ({ ...wire, url: "http://node.example:8000" }),
      },
    ],
    [
      "an address with a user in it",
      "node_url_invalid",
      {
        before: (wire) => ({ ...wire, url: "https://a:b@node.example" }),
      },
    ],
    [
      "no address",
      "node_url_invalid",
      {
        before: ({ url: _url, ...wire }) => wire,
      },
    ],
    [
      "a country that is none",
      "node_message_invalid",
      {
        before: (wire) => ({
          ...wire,
          advertisement: { ...ADVERTISEMENT, jurisdiction: { country: "de", evidence: "declared" } },
        }),
      },
    ],
    [
      "a member that nobody knows",
      "node_message_invalid",
      {
        after: (wire) => ({ ...wire, trusted: true }) as JoinWire,
      },
    ],
    [
      "the role of a gateway with a node's keyset",
      "node_keyset_invalid",
      {
        before: (wire) => ({ ...wire, role: "gateway" }),
      },
    ],
  ])("with %s is refused", async (_what, code, changes) => {
    expect((await post("/v1/nodes/join", await joinRequest(changes))).body["code"]).toBe(code);
    expect(gateway.registry.list()).toEqual([]);
  });

  test("with another's keyset, or one that was tampered with, is refused", async () => {
    const other = ed25519Signer(randomSeed());
    const issuer = await makeIssuer("node", other, undefined, undefined);
    expect((await post("/v1/nodes/join", await joinRequest({ issuer }))).body["code"]).toBe("node_keyset_invalid");
    const tampered = await joinRequest({
      before(wire) {
        const document = Buffer.from(wire.keyset.document, "base64");
        document[document.length - 1] = (document[document.length - 1] ?? 0) ^ 1;
        return { ...wire, keyset: { ...wire.keyset, document: document.toString("base64") } };
      },
    });
    expect((await post("/v1/nodes/join", tampered)).body["code"]).toBe("node_keyset_invalid");
  });

  test("answered twice is refused the second time", async () => {
    const wire = await joinRequest();
    expect((await post("/v1/nodes/join", wire)).status).toBe(200);
    expect((await post("/v1/nodes/join", wire)).body["code"]).toBe("challenge_invalid");
  });

  test("with a keyset that does not follow the logged one is refused, and the log's place is told", async () => {
    const identity = ed25519Signer(randomSeed());
    await post("/v1/nodes/join", await joinRequest({ identity, countersign: true }));
    // As if its disk were lost: boot 0 again, with other keys.
    const again = await post("/v1/nodes/join", await joinRequest({ identity }));
    expect(again.body["code"]).toBe("node_keyset_stale");
    const { body } = await post("/v1/nodes/challenge", { publicKey: bytesToBase64(identity.publicKey) });
    expect(body["known"]).toMatchObject({ keyset: { bootSeq: 0 } });
  });

  test("too large a body is refused unread", async () => {
    const answer = await post("/v1/nodes/join", { fill: "x".repeat(2 * 1024 * 1024) });
    expect(answer.body["code"]).toBe("request_too_large");
  });

  test("no more than so many may wait", async () => {
    const registry = await openNodeRegistry({
      load: () => Promise.resolve(undefined),
      store: () => Promise.resolve(),
      now: () => 0,
    });
    const waiting = (i: number) => ({
      key: i.toString(16).padStart(64, "0"),
      publicKey: new Uint8Array(32),
      subject: `urn:assay:node:${i}`,
      role: "node" as const,
      state: "pending" as const,
      advertisement: ADVERTISEMENT,
      keyset: { envelope: new Uint8Array(), document: new Uint8Array() },
      joinedAtMs: 0,
      lastSeenMs: 0,
      audits: { agreed: 0, disagreed: 0, impossible: 0 },
      vouched: new Set<string>(),
    });
    for (let i = 0; i < 256; i++) registry.put(waiting(i));
    expect(() => registry.put(waiting(256))).toThrow(expect.objectContaining({ code: "nodes_full" }));
  });
});

describe("a node that is in", () => {
  test("stays in when the gateway starts again, and speaks with the same session", async () => {
    const folder = mkdtempSync(join(tmpdir(), "assay-admission-node-"));
    const node = await startTestNode({ directory: folder, gatewayUrl: gateway.url, operator });
    const { port } = gateway;
    await gateway.close();
    gateway = await startTestGateway({ directory, operator, port });
    await node.link.beat();
    expect(node.link.state()).toBe("active");
    expect(gateway.registry.candidates()).toMatchObject([{ subject: node.subject }]);
    await node.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("that falls silent is suspect and then gone", async () => {
    await post("/v1/nodes/join", await joinRequest({ countersign: true }));
    const [party] = gateway.registry.list();
    if (!party) throw new Error("no party");
    expect(gateway.registry.liveness(party)).toBe("alive");
    party.lastSeenMs = Date.now() - 500;
    expect(gateway.registry.liveness(party)).toBe("suspect");
    expect(gateway.registry.candidates()).toMatchObject([{ draining: true }]);
    party.lastSeenMs = Date.now() - 1500;
    expect(gateway.registry.liveness(party)).toBe("gone");
    expect(gateway.registry.candidates()).toEqual([]);
  });

  test("speaks for itself alone", async () => {
    const one = await joinRequest({ countersign: true });
    const two = await joinRequest({ countersign: true });
    const session = String((await post("/v1/nodes/join", one)).body["session"]);
    await post("/v1/nodes/join", two);
    const beat = { running: 0, queued: 0, healthy: true };
    for (const action of ["heartbeat", "leave", "drain", "keyset", "statements"]) {
      const answer = await post(`/v1/nodes/${keyOf(two)}/${action}`, beat, session);
      expect([answer.status, answer.body["code"]]).toEqual([401, "node_session_unknown"]);
      expect((await post(`/v1/nodes/${keyOf(one)}/${action}`, beat, `${session}x`)).body["code"]).toBe(
        "node_session_unknown",
      );
    }
  });

  test("ejected cannot join again, is revoked in trust, and the operator may take it back", async () => {
    const identity = ed25519Signer(randomSeed());
    const issuer = await makeIssuer("node", identity, undefined, undefined);
    const wire = await joinRequest({ identity, issuer, countersign: true });
    await post("/v1/nodes/join", wire);
    const token = await gateway.operatorToken();
    const key = bytesToHex(identity.publicKey);
    await post(`/v1/nodes/${key}/eject`, { reason: "slow" }, token);
    expect(gateway.registry.revoked()).toMatchObject([{ key, reason: "slow" }]);
    const again = await post("/v1/nodes/join", await joinRequest({ identity, issuer, countersign: true }));
    expect(again.body["code"]).toBe("node_ejected");
    expect((await post(`/v1/nodes/${key}/admit`, {}, token)).body["state"]).toBe("active");
    expect(gateway.registry.revoked()).toEqual([]);
  });

  test("a damaged document of nodes is an error, not an empty one", async () => {
    const open = (text: string) =>
      openNodeRegistry({ load: () => Promise.resolve(text), store: () => Promise.resolve(), now: () => 0 });
    for (const text of ["", "{", '{"version":2}', '{"version":1,"parties":[{}],"invites":{}}']) {
      await expect(open(text)).rejects.toMatchObject({ code: "nodes_file_invalid" });
    }
  });
});
