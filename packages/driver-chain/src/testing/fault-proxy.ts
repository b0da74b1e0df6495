import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { parseJson } from "@assay/core";

/** What a call is answered with instead of the node's answer. */
export type Fault =
  /** The connection ends before an answer; with `after`, once the node has done what was asked. */
  | { readonly kind: "cut"; readonly after?: boolean }
  /** There never is an answer. */
  | { readonly kind: "silence" }
  | { readonly kind: "body"; readonly status?: number; readonly body: string }
  | { readonly kind: "result"; readonly result: unknown }
  | { readonly kind: "error"; readonly code: number; readonly message: string };

type Call = { readonly id: number; readonly method: string; readonly params: readonly unknown[] };

export type FaultProxy = {
  readonly url: string;
  /** Every call that came, in order. */
  readonly calls: readonly Call[];
  /** Judges each call; undefined lets it through. */
  fault: (call: Call) => Fault | undefined;
  readonly close: () => Promise<void>;
};

/** A node that lies, is slow or goes away, as a test wishes: everything else goes to the real one at `target`. */
export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const calls: Call[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await text(request);
    const call = parseJson(body) as unknown as Call;
    calls.push(call);
    const fault = proxy.fault(call);
    const send = (status: number, content: string): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(content);
    };
    if (fault?.kind === "silence") return;
    if (fault?.kind === "body") return send(fault.status ?? 200, fault.body);
    if (fault?.kind === "result")
      return send(200, JSON.stringify({ jsonrpc: "2.0", id: call.id, result: fault.result }));
    if (fault?.kind === "error") {
      const { code, message } = fault;
      return send(200, JSON.stringify({ jsonrpc: "2.0", id: call.id, error: { code, message } }));
    }
    if (fault?.kind === "cut" && fault.after !== true) return void response.destroy();
    const real = await fetch(target, { method: "POST", headers: { "content-type": "application/json" }, body });
    const content = await real.text();
    if (fault?.kind === "cut") return void response.destroy();
    send(real.status, content);
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const proxy: FaultProxy = {
    url: `http://127.0.0.1:${port}`,
    calls,
    fault: () => undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return proxy;
}
