// A wire between gateway and node that can be cut.
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

export type Wire = {
  readonly url: string;
  /** The port that the node shall listen at. */
  readonly port: number;
  /** Breaks what goes over it, and lets nothing through until it is mended. */
  readonly cut: () => void;
  readonly mend: () => void;
  readonly close: () => Promise<void>;
};

export async function stretchWire(): Promise<Wire> {
  const sockets = new Set<Socket>();
  const port = await freePort();
  let whole = true;
  const server = createServer((socket) => {
    if (!whole) return void socket.destroy();
    const other = connect(port, "127.0.0.1");
    for (const [one, to] of [
      [socket, other],
      [other, socket],
    ] as const) {
      sockets.add(one);
      one.pipe(to);
      one.on("error", () => undefined);
      one.once("close", () => {
        sockets.delete(one);
        to.destroy();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = (): void => {
    whole = false;
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    port,
    cut,
    mend: () => {
      whole = true;
    },
    async close() {
      cut();
      server.close();
      await once(server, "close");
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
