// A server with one upstream or more of testkit's, each of which can be told to fail.
import type { ServerResponse } from "node:http";
import { serveWire } from "@assay/testkit/upstream";
import type { WireHandler, WireServer } from "@assay/testkit/upstream";
import { ortChild } from "./fleet-world.ts";
import { ask, mintToken, openHome } from "./running-server.ts";
import type { ServerHome } from "./running-server.ts";

export type UpstreamHome = {
  readonly home: ServerHome;
  readonly url: string;
  readonly token: string;
  readonly upstreams: Readonly<Record<string, WireServer>>;
  readonly close: () => Promise<void>;
};

/** Starts a server and configures upstreams named as given, answered by `first` until told otherwise. */
export async function openUpstreamHome(
  names: readonly string[],
  first: WireHandler,
  config: Partial<Parameters<typeof openHome>[0]> = {},
): Promise<UpstreamHome> {
  const home = await openHome({ ...ortChild(), auditShare: 0, ...config });
  await home.server.databaseReady;
  const { url } = home.server;
  const token = await mintToken(url, home.operator);
  const upstreams: Record<string, WireServer> = {};
  for (const name of names) {
    const wire = await serveWire(first);
    upstreams[name] = wire;
    const json = { name, kind: "openai-compatible", baseUrl: `${wire.url}/v1`, maxInFlight: 4096 };
    const { status, body } = await ask(url, "/v1/upstreams", { token, json });
    if (status >= 300) throw new Error(`The upstream was refused: ${JSON.stringify(body)}`);
  }
  return {
    home,
    url,
    token,
    upstreams,
    async close() {
      await home.close();
      for (const wire of Object.values(upstreams)) await wire.close();
    },
  };
}

const BASE = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1_700_000_000, model: "little-chat" };
const USAGE = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };

/** One event of a stream of chat. */
export function piece(content: string): string {
  const choices = [{ index: 0, delta: { content }, finish_reason: null }];
  return `data: ${JSON.stringify({ ...BASE, choices })}\n\n`;
}

/** The end of a stream of chat, with a usage. */
export function ending(usage: object = USAGE): string {
  const last = { ...BASE, choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
  return `data: ${JSON.stringify(last)}\n\ndata: ${JSON.stringify({ ...BASE, choices: [], usage })}\n\ndata: [DONE]\n\n`;
}

/** A whole answer. */
export function whole(content: string, usage: object = USAGE): string {
  const choices = [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }];
  return JSON.stringify({ ...BASE, object: "chat.completion", choices, usage });
}

/** Begins a stream of events. */
export function streaming(response: ServerResponse): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
}
