import { connect } from "node:net";
import type { Socket } from "node:net";

/** One request as the bytes that go over the wire. */
export function wireRequest(path: string, body: Uint8Array, headers: Readonly<Record<string, string>>): Buffer {
  const lines = [`POST ${path} HTTP/1.1`, "host: bench", `content-length: ${body.length}`];
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), body]);
}

export type LoadResult = {
  readonly answered: number;
  readonly seconds: number;
  readonly latenciesMs: readonly number[];
};

/**
 * Closed-loop load: `connections` sockets, each sending its next request when the answer to the last is complete.
 * Answers are read by their Content-Length or their chunks; anything but 200 ends the run with an error.
 */
export async function closedLoop(
  port: number,
  request: Buffer,
  connections: number,
  total: number,
): Promise<LoadResult> {
  let left = total;
  const latenciesMs: number[] = [];
  const startedMs = performance.now();
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const client = await openClient(port);
      while (left > 0) {
        left--;
        const sentMs = performance.now();
        await client.send(request);
        latenciesMs.push(performance.now() - sentMs);
      }
      client.close();
    }),
  );
  return { answered: latenciesMs.length, seconds: (performance.now() - startedMs) / 1000, latenciesMs };
}

/**
 * Open-loop load: a request is written every `1 / perSecond` seconds whatever becomes of those before it, over as many
 * connections as that takes. Latency counts from the write, and is listed in the order of requests; how late this process
 * itself was is told beside it.
 */
export async function openLoop(
  port: number,
  request: Buffer | ((i: number) => Buffer),
  perSecond: number,
  total: number,
): Promise<LoadResult & { readonly lateMs: readonly number[] }> {
  const idle: Client[] = [];
  const latenciesMs: number[] = [];
  const lateMs: number[] = [];
  const running: Promise<void>[] = [];
  const startedMs = performance.now();
  for (let i = 0; i < total; i++) {
    const dueMs = startedMs + (i * 1000) / perSecond;
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    running.push(
      (async () => {
        let client = idle.pop();
        while (client?.closed()) client = idle.pop();
        client ??= await openClient(port);
        const sentMs = performance.now();
        lateMs.push(sentMs - dueMs);
        await client.send(typeof request === "function" ? request(i) : request);
        latenciesMs[i] = performance.now() - sentMs;
        idle.push(client);
      })(),
    );
  }
  await Promise.all(running);
  for (const client of idle) client.close();
  return { answered: latenciesMs.length, seconds: (performance.now() - startedMs) / 1000, latenciesMs, lateMs };
}

type Client = {
  readonly send: (request: Buffer) => Promise<void>;
  readonly close: () => void;
  /** Whether the server has ended the connection, as servers do with one that is idle. */
  readonly closed: () => boolean;
};

async function openClient(port: number): Promise<Client> {
  const socket: Socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  let waiting: { resolve: () => void; reject: (error: Error) => void } | undefined;
  let held = Buffer.alloc(0);
  let need = -1;
  socket.on("data", (chunk: Buffer) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    if (need < 0) {
      const end = held.indexOf("\r\n\r\n");
      if (end < 0) return;
      const head = held.toString("latin1", 0, end);
      const length = /\r\ncontent-length: ([0-9]+)/i.exec(head)?.[1];
      const chunked = /transfer-encoding: chunked/i.test(head);
      if (!head.startsWith("HTTP/1.1 200") || (length === undefined && !chunked)) {
        waiting?.reject(new Error(`answer: ${head.slice(0, 400)} ${held.toString("latin1", end, end + 400)}`));
        return;
      }
      need = length === undefined ? Number.POSITIVE_INFINITY : end + 4 + Number(length);
    }
    // The last chunk of a chunked answer is empty; the answers here have no line of that form inside them.
    if (need === Number.POSITIVE_INFINITY) {
      if (!held.toString("latin1", Math.max(0, held.length - 7)).endsWith("\r\n0\r\n\r\n")) return;
      need = held.length;
    }
    if (held.length < need) return;
    held = held.subarray(need);
    need = -1;
    const done = waiting;
    waiting = undefined;
    done?.resolve();
  });
  socket.on("error", (error) => waiting?.reject(error));
  socket.on("close", () => waiting?.reject(new Error("connection closed")));
  return {
    send: (request) =>
      new Promise((resolve, reject) => {
        waiting = { resolve, reject };
        socket.write(request);
      }),
    close: () => socket.destroy(),
    closed: () => socket.destroyed || socket.readableEnded,
  };
}

/** The value below which a share `p` of `values` lies. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? Number.NaN;
}
