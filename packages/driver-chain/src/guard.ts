import { AssayError } from "@assay/core";
import { lineageOf } from "./embedded/lineage.ts";
import type { Chain } from "./rpc/chain.ts";

/** Chains whose real instances are public: a signature made on their embedded likeness is valid there as well. */
const PUBLIC_CHAINS: ReadonlyMap<number, string> = new Map([
  [8453, "Base"],
  [84532, "Base Sepolia"],
]);

/** What is about to use a development key, or to be a development chain. */
export type DevelopmentUse = {
  readonly chainId: number;
  readonly rpcUrl: string;
};

/**
 * Refuses development keys and embedded chains anywhere but on this machine: throws `development_key_refused` unless
 * `rpcUrl` is a loopback address. A development key lies readable on disk and is not meant to hold anything of worth.
 */
export function refuseDevelopment(use: DevelopmentUse): void {
  if (isLoopbackUrl(use.rpcUrl)) return;
  const name = PUBLIC_CHAINS.get(use.chainId) ?? `chain ${use.chainId}`;
  throw new AssayError(
    "development_key_refused",
    `A development key may not be used on ${name} through a remote node.`,
    {
      hints: [
        "Development keys work with the embedded chain on this machine alone.",
        "Give key files of your own for every other chain.",
      ],
    },
  );
}

/**
 * The same, and more: a node on this machine may be one of the public chain. Under the id of one, only an embedded chain of
 * ours will do, which shows its lineage. Throws `development_key_refused` and what the chain's methods throw.
 */
export async function refuseForeignDevelopment(
  chain: Pick<Chain, "chainId" | "request">,
  rpcUrl: string,
): Promise<void> {
  refuseDevelopment({ chainId: chain.chainId, rpcUrl });
  const name = PUBLIC_CHAINS.get(chain.chainId);
  if (name === undefined || (await lineageOf(chain)) !== undefined) return;
  throw new AssayError("development_key_refused", `A development key may not be used on ${name}.`, {
    hints: ["The node is on this machine, but its chain is not an embedded one.", "Give key files of your own."],
  });
}

/** Whether an http(s) URL names this machine: `localhost`, 127.0.0.0/8 or ::1. */
export function isLoopbackUrl(text: string): boolean {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return false;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return false;
  return isLoopbackHost(url.hostname);
}

/** Whether a host names this machine. `URL` has brought IPv4 addresses into their dotted form by then. */
export function isLoopbackHost(host: string): boolean {
  return host === "localhost" || host === "[::1]" || host === "::1" || /^127(?:\.\d{1,3}){3}$/.test(host);
}
