import { createHash } from "node:crypto";
import { AssayError, bytesToBase64, utf8ToBytes } from "@assay/core";
import { ed25519Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import type { SecretStore } from "@assay/protocol";
import { beforeEach, describe, expect, test } from "vitest";
import { createAuth, ownerOf } from "./auth.ts";
import type { Auth } from "./auth.ts";

const START = 1_795_255_200_000;
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const operator = ed25519Signer(randomSeed());
const alice = ed25519Signer(randomSeed());
const key = bytesToBase64(alice.publicKey);

type Stored = Parameters<SecretStore["putToken"]>[0];
let clock = START;
let stored: Map<string, Stored>;
let asked = 0;
let away = false;
const store: SecretStore = {
  putToken: (token) => {
    stored.set(token.sha256, token);
    return Promise.resolve();
  },
  token: (sha256) => {
    asked++;
    if (away) return Promise.reject(new AssayError("database_unavailable", "The database is away."));
    return Promise.resolve(stored.get(sha256));
  },
  revokeToken: (sha256) => {
    stored.delete(sha256);
    return Promise.resolve();
  },
};
const authority = (secret = 1): Auth =>
  createAuth({
    secrets: store,
    suite: nodeSuite,
    challengeSecret: new Uint8Array(32).fill(secret),
    operatorKey: operator.publicKey,
    now: () => clock,
  });
let auth: Auth;

beforeEach(() => {
  clock = START;
  stored = new Map();
  asked = 0;
  away = false;
  auth = authority();
});

const sign = async (challenge: string): Promise<string> =>
  bytesToBase64(await alice.sign(utf8ToBytes(`assay/auth/1\n${challenge}`)));
const tokenFrom = async (challenge: string, from = auth) =>
  from.token({ publicKey: key, challenge, signature: await sign(challenge) });

describe("challenges", () => {
  test("one is good for two minutes", async () => {
    const { challenge, expiresAt } = auth.challenge(key);
    expect(Date.parse(expiresAt)).toBe(START + 2 * MINUTE);
    clock = START + 2 * MINUTE;
    expect((await tokenFrom(challenge)).owner).toBe(ownerOf(alice.publicKey));
    const late = auth.challenge(key).challenge;
    clock += 2 * MINUTE + 1;
    await expect(tokenFrom(late)).rejects.toMatchObject({
      code: "challenge_invalid",
      message: expect.stringContaining("expired"),
    });
  });

  test("one is given out by this gateway alone, and no two are alike", async () => {
    const { challenge } = authority(2).challenge(key);
    await expect(tokenFrom(challenge)).rejects.toMatchObject({ code: "challenge_invalid" });
    // A gateway started again over the same home knows its own.
    const { challenge: own } = authority().challenge(key);
    await expect(tokenFrom(own)).resolves.toMatchObject({ owner: ownerOf(alice.publicKey) });
    expect(auth.challenge(key).challenge).not.toBe(auth.challenge(key).challenge);
  });

  test("one answered twice at the same time gives one token", async () => {
    const { challenge } = auth.challenge(key);
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => tokenFrom(challenge)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(stored.size).toBe(1);
  });

  test.each(["", "A", "!", bytesToBase64(new Uint8Array(31)), bytesToBase64(new Uint8Array(33))])(
    "%j is no key",
    (text) => {
      expect(() => auth.challenge(text)).toThrow(expect.objectContaining({ code: "challenge_invalid" }));
    },
  );

  test("of ten thousand spent at once the next is turned away, until they lapse", async () => {
    for (let i = 0; i < 10_000; i++) await tokenFrom(auth.challenge(key).challenge);
    await expect(tokenFrom(auth.challenge(key).challenge)).rejects.toMatchObject({ code: "receipts_overloaded" });
    clock += 3 * MINUTE;
    await expect(tokenFrom(auth.challenge(key).challenge)).resolves.toBeDefined();
  });
});

describe("tokens", () => {
  test("only the hash of one is stored", async () => {
    const { token } = await tokenFrom(auth.challenge(key).challenge);
    expect(JSON.stringify([...stored])).not.toContain(token);
    expect([...stored.keys()]).toEqual([createHash("sha256").update(token).digest("hex")]);
  });

  test("one tells the owner for thirty days", async () => {
    const { token, expiresAt } = await tokenFrom(auth.challenge(key).challenge);
    expect(Date.parse(expiresAt)).toBe(START + 30 * DAY);
    expect(await auth.caller(`Bearer ${token}`)).toMatchObject({ owner: ownerOf(alice.publicKey) });
    clock = START + 30 * DAY - 1;
    expect(await auth.caller(`bearer ${token}`)).toMatchObject({ owner: ownerOf(alice.publicKey) });
    clock = START + 30 * DAY;
    await expect(auth.caller(`Bearer ${token}`)).rejects.toMatchObject({ code: "token_invalid" });
  });

  test("the database is asked once a minute, and a revoked token ends within it", async () => {
    const { token } = await tokenFrom(auth.challenge(key).challenge);
    for (let i = 0; i < 5; i++) await auth.caller(`Bearer ${token}`);
    expect(asked).toBe(1);
    await store.revokeToken(createHash("sha256").update(token).digest("hex"));
    clock += MINUTE;
    await expect(auth.caller(`Bearer ${token}`)).rejects.toMatchObject({ code: "token_invalid" });
    expect(asked).toBe(2);
  });

  test("without the database a token it was never asked for is not decided about", async () => {
    const { token } = await tokenFrom(auth.challenge(key).challenge);
    away = true;
    await expect(auth.caller(`Bearer ${token}`)).rejects.toMatchObject({ code: "database_unavailable" });
    expect(await auth.caller(undefined)).toBeUndefined();
    expect(await auth.caller("Bearer sk-somebody-else")).toBeUndefined();
    expect(asked).toBe(1);
  });

  test.each(["", "Bearer", "Bearer ", "Basic YTpi", "Bearer sk-x", "assay_x", "Bearer x assay_x"])(
    "%j names nobody",
    async (header) => {
      expect(await auth.caller(header)).toBeUndefined();
    },
  );

  test("the operator is who holds the operator's key", () => {
    expect(auth.isOperator(ownerOf(operator.publicKey))).toBe(true);
    expect(auth.isOperator(ownerOf(alice.publicKey))).toBe(false);
    expect(auth.isOperator("")).toBe(false);
  });
});
