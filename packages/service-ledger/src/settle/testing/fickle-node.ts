import { once } from "node:events";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";

/** A chain's node that can be away: a proxy on loopback that ends connections while it is down. */
export type FickleNode = {
  readonly url: string;
  down: boolean;
  /** Calls that were let through. */
  readonly calls: () => number;
  readonly close: () => Promise<void>;
};

export async function openFickleNode(target: string): Promise<FickleNode> {
  let calls = 0;
  const server = createServer((incoming, outgoing) => {
    if (node.down) {
      incoming.socket.destroy();
      return;
    }
    calls++;
    const onward = request(target, { method: incoming.method, headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => outgoing.destroy());
    incoming.pipe(onward);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const node: FickleNode = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    down: false,
    calls: () => calls,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return node;
}
