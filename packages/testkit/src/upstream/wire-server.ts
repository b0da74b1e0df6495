import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";

/** One request as it arrived. */
export type WireRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: JsonValue;
};

export type WireHandler = (request: WireRequest, response: ServerResponse) => Promise<void> | void;

export type WireServer = {
  readonly url: string;
  /** Every request so far, oldest first. */
  readonly requests: readonly WireRequest[];
  /** Requests that are being answered. */
  readonly open: () => number;
  /** Resolves once nothing is being answered. */
  readonly idle: () => Promise<void>;
  /** What answers from now on. */
  readonly use: (handler: WireHandler) => void;
  readonly close: () => Promise<void>;
};

/** Images come as base64 inside a body. */
const MAX_BODY_BYTES = 32 * 1024 * 1024;

/** An HTTP server on a loopback port of its own that plays an upstream. A handler that throws answers 500. */
export async function serveWire(first: WireHandler): Promise<WireServer> {
  const requests: WireRequest[] = [];
  const sockets = new Set<Socket>();
  const waiting = new Set<() => void>();
  let handler = first;
  let open = 0;

  const server = createServer((request, response) => {
    open++;
    response.once("close", () => {
      open--;
      if (open === 0) for (const wake of waiting) wake();
    });
    answer(request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { message: String(error), type: "server_error" } }));
    });
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Uint8Array[] = [];
    for await (const part of request) parts.push(part as Uint8Array);
    const bytes = Buffer.concat(parts);
    const seen: WireRequest = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers,
      body: bytes.length === 0 ? null : parseJson(bytes, { maxBytes: MAX_BODY_BYTES }),
    };
    requests.push(seen);
    await handler(seen, response);
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    open: () => open,
    idle: () =>
      new Promise((resolve) => {
        if (open === 0) return resolve();
        const wake = (): void => {
          waiting.delete(wake);
          resolve();
        };
        waiting.add(wake);
      }),
    use: (next) => {
      handler = next;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** Writes one piece and waits while the reader is behind. False once the reader is gone. */
export async function writeOn(response: ServerResponse, text: string): Promise<boolean> {
  if (response.destroyed || response.writableEnded) return false;
  if (!response.write(text)) {
    await drained(response);
  } else {
    // A turn of the event loop, so that an endless answer lets its reader leave.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return !response.destroyed;
}

/** Resolves once the reader caught up or went away; leaves no listener behind. */
export function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
    if (response.destroyed) done();
  });
}

/** A JSON answer. */
export function sendJson(
  response: ServerResponse,
  status: number,
  body: JsonValue,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}
