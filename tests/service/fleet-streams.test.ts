import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { openAiHandler } from "@assay/testkit/upstream";
import { findContradictions } from "@assay/receipts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ending, openUpstreamHome, piece, streaming } from "./fleet-upstream.ts";
import type { UpstreamHome } from "./fleet-upstream.ts";
import { chainFaults, statementsOf, until } from "./fleet-world.ts";
import { ask } from "./running-server.ts";

// A thousand streams at once through the whole server, from the client's socket to the log.

const STREAMS = 1000;
let chat: UpstreamHome;
/** Requests that the upstream holds until all of a round are there. */
let held: (() => void)[] = [];
let wanted = STREAMS;
beforeAll(async () => {
  chat = await openUpstreamHome(["little"], async (request, response) => {
    if (request.path.endsWith("/models")) return openAiHandler(request, response);
    streaming(response);
    response.write(piece("One "));
    await new Promise<void>((resolve) => {
      held.push(resolve);
      if (held.length < wanted) return;
      for (const go of held.splice(0)) go();
    });
    for (const word of ["two ", "three ", "four"]) response.write(piece(word));
    response.end(ending());
  });
});
afterAll(() => chat?.close());

type Streamed = { readonly status: number; readonly receiptId: string; readonly text: string };
function stream(onFirst?: (response: IncomingMessage) => void): Promise<Streamed> {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify({
      model: "little/little-chat",
      messages: [{ role: "user", content: "Hi" }],
      stream: true,
    });
    const sent = httpRequest(`${chat.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body) },
      // One connection for each, as that many clients have.
      agent: false,
    });
    sent.on("error", reject);
    sent.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (data: string) => {
        if (text === "") onFirst?.(response);
        text += data;
      });
      response.on("error", reject);
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, receiptId: String(response.headers["assay-receipt-id"]), text }),
      );
    });
    sent.end(body);
  });
}

/** Value of a metric without labels. */
async function metric(name: string): Promise<number> {
  const text = await (
    await fetch(`${chat.url}/metrics`, { headers: { authorization: `Bearer ${chat.token}` } })
  ).text();
  const [, value] = new RegExp(`^${name} (\\S+)$`, "m").exec(text) ?? [];
  return Number(value);
}

async function round(): Promise<readonly Streamed[]> {
  wanted = STREAMS;
  const all = await Promise.all(Array.from({ length: STREAMS }, () => stream()));
  return all;
}

test("all of a thousand are complete, with a receipt each, and nothing is left of them", async () => {
  const warnings: string[] = [];
  const warned = (warning: Error): void => void warnings.push(`${warning.name}: ${warning.message}`);
  process.on("warning", warned);
  try {
    // What the first round loads and warms up belongs to nobody.
    const all = [...(await round())];
    globalThis.gc?.();
    const before = process.memoryUsage.rss();
    all.push(...(await round()));
    for (const { status, text } of all) {
      expect(status).toBe(200);
      expect(text).toMatch(/data: \[DONE\]\n\n$/);
      expect(text.match(/"content":"(One |two |three |four)"/g)).toHaveLength(4);
      expect(text).toContain(": assay {");
    }
    const ids = new Set(all.map(({ receiptId }) => receiptId));
    expect(ids.size).toBe(2 * STREAMS);
    const statements = await statementsOf(chat.home.server.log);
    const logged = statements.filter(({ header }) => header.kind === "execution");
    expect(new Set(logged.map(({ header }) => header.subject.slice("urn:assay:receipt:".length)))).toEqual(ids);
    expect([chainFaults(statements), findContradictions(statements)]).toEqual([[], []]);

    await until("nothing is under way", async () => (await metric("assay_text_streams_open")) === 0);
    expect(chat.upstreams["little"]?.open()).toBe(0);
    const { body } = await ask(chat.url, "/v1/route/explain", {
      token: chat.token,
      json: { model: "little/little-chat", kind: "chat", max_tokens: 4 },
    });
    expect(body["candidates"]).toMatchObject([{ outcome: "chosen", predicted: { depth: 0 } }]);
    expect(warnings.filter((warning) => warning.includes("Listeners"))).toEqual([]);
    // A second round may need a little more than the first; a leak of each stream's parts would need far more.
    expect(process.memoryUsage.rss() - before).toBeLessThan(512 * 1024 * 1024);
  } finally {
    process.off("warning", warned);
  }
});

test("clients that all go away in the middle leave nothing under way, and each a receipt of what there was", async () => {
  const before = (await statementsOf(chat.home.server.log)).length;
  wanted = Number.POSITIVE_INFINITY;
  const gone = await Promise.allSettled(
    Array.from({ length: STREAMS }, () => stream((response) => response.destroy(new Error("gone")))),
  );
  expect(gone.every(({ status }) => status === "rejected")).toBe(true);
  await until("nothing is under way", async () => (await metric("assay_text_streams_open")) === 0);
  await until("the upstream is let go", () => chat.upstreams["little"]?.open() === 0);
  held = [];
  const statements = await until("all receipts are there", async () => {
    const all = await statementsOf(chat.home.server.log);
    return all.slice(before).filter(({ header }) => header.kind === "execution").length === STREAMS && all;
  });
  expect(chainFaults(statements)).toEqual([]);
});
