import { AssayError } from "@assay/core";
import type { CryptoSuite, Signer } from "@assay/core";
import type { Advertisement, Heartbeat, Joined, PartyState } from "@assay/protocol";
import type { ChainHead, Issuer } from "@assay/receipts";
import type { Fetch } from "./gateway-client.ts";
import { createNodeLink } from "./link.ts";
import type { LinkOptions, NodeLink } from "./link.ts";
import type { KeysetPlace } from "./outbox-file.ts";
import { openOutbox } from "./outbox.ts";
import type { Outbox, OutboxOptions } from "./outbox.ts";
import { createNodeServer } from "./server.ts";
import type { NodeServer, NodeServerModules, NodeServerOptions } from "./server.ts";
import { createNodeSigner } from "./signer.ts";
import type { NodeSigner, NodeSignerOptions } from "./signer.ts";

export type RemoteNodeOptions = Omit<LinkOptions, "role" | "url" | "secret"> & {
  readonly outbox: OutboxOptions;
  readonly server: NodeServerOptions;
  /** Where the gateway reaches this node, when that is not where it listens: behind a proxy that ends TLS, for example. */
  readonly publicUrl?: string;
  readonly signer?: NodeSignerOptions;
};

export type RemoteNodeModules = Omit<NodeServerModules, "secret" | "signer"> & {
  readonly identity: Signer;
  readonly operator?: Signer;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly fetch: Fetch;
  readonly now: () => number;
  readonly random: (bytes: number) => Uint8Array;
  /** Makes an issuer with fresh keys that follows `previous` and goes on at `head`. */
  readonly issuer: (previous: KeysetPlace | undefined, head: ChainHead) => Promise<Issuer>;
  readonly advertisement: () => Advertisement;
  /** What runs besides what came over HTTP, and which models are loaded; for the heartbeat. */
  readonly load?: () => Partial<Pick<Heartbeat, "queued" | "warm" | "healthy">>;
  readonly onState?: (state: PartyState | "unreachable") => void;
};

/** A node of a gateway elsewhere, running. */
export type RemoteNode = {
  readonly url: string;
  readonly joined: Joined;
  readonly link: NodeLink;
  readonly server: NodeServer;
  readonly signer: NodeSigner;
  readonly outbox: Outbox;
  /** Takes no new work, finishes what runs, brings what it owes to the log if the gateway is there, leaves, closes. */
  readonly close: (options?: { readonly leave?: boolean }) => Promise<void>;
};

/**
 * Starts a node: opens its outbox, asks the gateway where the log has its chain, makes a keyset that follows, listens,
 * joins. The chain goes on at whichever is further, so that a node whose disk was lost or restored from a copy never
 * signs two statements at one place. Throws what those steps throw, with everything closed again.
 */
export async function startRemoteNode(options: RemoteNodeOptions, modules: RemoteNodeModules): Promise<RemoteNode> {
  const secret = modules.random(32);
  const outbox = await openOutbox(options.outbox);
  let server: NodeServer | undefined;
  let link: NodeLink | undefined;
  try {
    const linkModules = {
      identity: modules.identity,
      ...(modules.operator ? { operator: modules.operator } : {}),
      suite: modules.suite,
      fetch: modules.fetch,
      now: modules.now,
      advertisement: modules.advertisement,
      load: () => ({
        queued: 0,
        healthy: !outbox.full(),
        ...modules.load?.(),
        running: server?.running() ?? 0,
      }),
      outbox,
      ...(modules.onState ? { onState: modules.onState } : {}),
      ...(modules.onError ? { onError: modules.onError } : {}),
    };
    const linkOptions = { ...options, role: "node" as const, secret };
    const known = await createNodeLink(linkOptions, linkModules).known();
    if (known.head && known.head.seq > outbox.head().seq) await outbox.mark({ head: known.head });
    const mine = outbox.keyset();
    const previous = mine && mine.bootSeq >= (known.keyset?.bootSeq ?? -1) ? mine : known.keyset;
    const issuer = await modules.issuer(previous, outbox.head());
    await outbox.mark({ keyset: placeOf(issuer) });
    const signer = createNodeSigner(
      {
        issuer,
        outbox,
        rotate: (head) => modules.issuer(outbox.keyset(), head),
        announce: (next) => {
          if (!link) throw new AssayError("node_not_joined", "This node has not joined its gateway yet.");
          return link.announce(next);
        },
        now: modules.now,
        ...(modules.onError ? { onError: modules.onError } : {}),
      },
      options.signer,
    );
    const listening = await createNodeServer(options.server, { ...modules, secret, signer });
    server = listening;
    const url = options.publicUrl ?? listening.url;
    const joining = createNodeLink({ ...linkOptions, url }, linkModules);
    link = joining;
    const joined = await joining.start(issuer);
    return {
      url,
      joined,
      link: joining,
      server: listening,
      signer,
      outbox,
      async close({ leave = false } = {}) {
        listening.drain();
        if (joining.state() === "active") await joining.drain().catch(() => undefined);
        await listening.close();
        await signer.drain();
        // One last beat tells what is logged; what is not stays in the outbox for the next start.
        await joining.beat().catch(() => undefined);
        if (leave) await joining.leave().catch((error: unknown) => modules.onError?.(error));
        await joining.close();
        await outbox.close();
      },
    };
  } catch (error) {
    await link?.close();
    await server?.close();
    await outbox.close();
    throw error;
  }
}

function placeOf({ document, keysetDigest, keysetStatement }: Issuer): KeysetPlace {
  return { bootSeq: document.bootSeq, keyset: keysetDigest, statement: keysetStatement.digest };
}
