import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findChainBinary } from "../embedded/binary.ts";
import { freePort, nodeTransport, startNode, stopNode } from "../embedded/node.ts";
import type { Transport } from "../rpc/transport.ts";

/** A bare node for tests, without contracts, in a directory that goes with it. */
export type BareNode = {
  readonly url: string;
  readonly rpc: Transport;
  readonly close: () => Promise<void>;
};

export async function startBareNode(chainId = 31337): Promise<BareNode> {
  const directory = mkdtempSync(join(tmpdir(), "assay-node-"));
  const node = await startNode({
    binary: findChainBinary(),
    directory,
    chainId,
    port: await freePort(),
    load: undefined,
    dump: join(directory, "state.json"),
    timeoutMs: 20_000,
    signal: new AbortController().signal,
  });
  return {
    url: `http://127.0.0.1:${node.port}`,
    rpc: nodeTransport(node.port),
    async close() {
      await stopNode(node, 5_000);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
