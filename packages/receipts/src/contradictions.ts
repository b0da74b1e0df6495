import { bytesToHex, equalBytes } from "@assay/core";
import type { Statement } from "./statement.ts";

/** Two signed statements that no honest issuer makes. Together they convict `issuer`, whoever shows them. */
export type Contradiction = {
  /** `same_seq`: two statements at one position. `broken_prev`: a statement denies the one before it. */
  readonly kind: "same_seq" | "broken_prev";
  readonly issuer: string;
  /** The position both claim, or the later one's for `broken_prev`. */
  readonly seq: number;
  readonly statements: readonly [Statement, Statement];
};

/**
 * Every contradiction among `statements`: two different ones of one issuer at one `seq`, or one whose `prev` is not
 * the digest of the statement that the same issuer made at the position before it. Signatures are not checked here,
 * and an unsigned statement convicts nobody: pass only statements that verified under a keyset you trust. Keyset
 * statements are numbered by boot, so they are compared among themselves, and only by position.
 */
export function findContradictions(statements: readonly Statement[]): Contradiction[] {
  const chains = new Map<string, Map<number, Statement[]>>();
  const found: Contradiction[] = [];
  for (const statement of statements) {
    const { issuer, seq, kind } = statement.header;
    const name = `${kind === "keyset" ? "keyset" : "chain"} ${issuer}`;
    const chain = chains.get(name) ?? new Map<number, Statement[]>();
    chains.set(name, chain);
    const there = chain.get(seq) ?? [];
    chain.set(seq, there);
    if (there.some((other) => equalBytes(other.digest, statement.digest))) continue;
    for (const other of there) found.push({ kind: "same_seq", issuer, seq, statements: [other, statement] });
    there.push(statement);
  }
  for (const [name, chain] of chains) {
    if (name.startsWith("chain ")) found.push(...brokenLinks(chain));
  }
  return found;
}

function brokenLinks(chain: ReadonlyMap<number, readonly Statement[]>): Contradiction[] {
  const found: Contradiction[] = [];
  for (const [seq, here] of chain) {
    const before = chain.get(seq - 1);
    const first = before?.[0];
    if (!before || !first) continue;
    const digests = new Set(before.map(({ digest }) => bytesToHex(digest)));
    for (const statement of here) {
      const { prev, issuer } = statement.header;
      // Where two statements stand before it, following either is no second offence.
      if (prev && !digests.has(bytesToHex(prev))) {
        found.push({ kind: "broken_prev", issuer, seq, statements: [first, statement] });
      }
    }
  }
  return found;
}
