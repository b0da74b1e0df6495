import { trustView } from "@assay/receipts";
import type { Trust } from "@assay/receipts";
import { readFileIfThere, writeFileAtomic } from "./files.ts";
import type { Home } from "./home.ts";
import type { LogPlace } from "./log-place.ts";
import { followAdmissions, withChain, withParties } from "./nodes.ts";
import type { Records } from "./records.ts";

/** What this server's own verifications start from, which is also the home's trust file. */
export type Trusting = {
  /** Its own keys and log. */
  readonly own: Trust;
  /** The same with parties that were let in, and with the chain once it is open. */
  readonly current: () => Trust;
  /** Writes what it has come to trust since into the file. */
  readonly extend: () => void;
};

/** Writes the trust file if there is none, and extends it from then on. `chain` is undefined until one is open. */
export async function openTrust(
  { at, logger, undo }: Home,
  place: LogPlace,
  { parties, book }: Records,
  chain: () => Trust["chains"][number] | undefined,
): Promise<Trusting> {
  const own: Trust = {
    identities: [...parties.identities, ...place.identities],
    keysets: [],
    logs: [place.trusted],
    revoked: [],
    roots: [],
    chains: [],
  };
  // What a person added to the file stays there: it is written once, for the first verification to start from.
  if ((await readFileIfThere(at("trust.json"))) === undefined)
    await writeFileAtomic(at("trust.json"), `${JSON.stringify(trustView(own), null, 2)}\n`, 0o644);
  const admissions = followAdmissions(book.registry, at("trust.json"), logger, chain);
  undo.push(() => admissions.stop());
  return {
    own,
    current: () => withChain(withParties(own, book.registry), chain()),
    extend: admissions.extend,
  };
}
