import { AssayError, bytesToHex, bytesToUtf8 } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { hasControlCharacter } from "./chars.ts";
import { kindFacts, parseVkey, sameKey } from "./note-key.ts";
import type { NoteKey } from "./note-key.ts";
import type { CheckpointTrust, OpenedCheckpoint } from "./signed-checkpoint.ts";

/**
 * A trust policy (C2SP tlog-policy): which logs, which witnesses, and how many of them make a quorum. Names are
 * octet strings, one character per octet, as the specification asks.
 */
export type Policy = {
  readonly logs: readonly PolicyLog[];
  readonly witnesses: readonly PolicyWitness[];
  readonly groups: readonly PolicyGroup[];
  /** Name of a witness or a group, or `none`. */
  readonly quorum: string;
};
export type PolicyLog = { readonly key: NoteKey; readonly url?: string };
export type PolicyWitness = { readonly name: string; readonly key: NoteKey; readonly url?: string };
export type PolicyGroup = { readonly name: string; readonly threshold: number; readonly members: readonly string[] };

/** The specification asks for at least 32 of each; four times that is still small enough to evaluate at once. */
export const MAX_POLICY_ITEMS = 128;
/** Longest policy file, bytes: 256 post-quantum keys of about 2 kB in base64, with room for comments. */
export const MAX_POLICY_BYTES = 1024 * 1024;

const NONE = "none";

/**
 * Reads a policy file. Throws `policy_malformed`, naming the line, for an unknown keyword, a malformed or duplicate
 * key, a name defined twice or used before its definition, a member of two groups, a threshold outside 1 to n, an
 * octet that is not allowed, too many items, and unless there is exactly one quorum line.
 */
export function parsePolicy(file: Uint8Array, suite: CryptoSuite): Policy {
  if (file.length > MAX_POLICY_BYTES) throw malformed(0, `the file has more than ${MAX_POLICY_BYTES} bytes`);
  const text = latin1(file);
  if (text.length > 0 && !text.endsWith("\n")) throw malformed(0, "the last line has no newline");
  const builder = createBuilder(suite);
  for (const [i, line] of text.split("\n").entries()) {
    if (line.includes("\u007f") || hasControlCharacter(line, "\t"))
      throw malformed(i + 1, "a control character is not allowed");
    const items = line.split(/[ \t]+/).filter((item) => item !== "");
    if (items.length > 0 && !items[0]?.startsWith("#")) builder.line(i + 1, items);
  }
  return builder.finish();
}

function createBuilder(suite: CryptoSuite) {
  const logs: PolicyLog[] = [];
  const witnesses: PolicyWitness[] = [];
  const groups: PolicyGroup[] = [];
  const defined = new Set<string>();
  const member = new Set<string>();
  const logKeys = new Set<string>();
  const witnessKeys = new Set<string>();
  let quorum: string | undefined;

  const define = (at: number, name: string): void => {
    if (name === NONE || defined.has(name)) throw malformed(at, `the name ${printable(name)} is taken`);
    defined.add(name);
  };
  const addLog = (at: number, items: readonly string[]): void => {
    if (items.length < 1 || items.length > 2) throw malformed(at, "a log line is: log <vkey> [<url>]");
    room(at, logs);
    const key = readKey(at, items[0] ?? "", suite);
    once(at, logKeys, key);
    logs.push({ key, ...(items[1] === undefined ? {} : { url: items[1] }) });
  };
  const addWitness = (at: number, items: readonly string[]): void => {
    if (items.length < 2 || items.length > 3) throw malformed(at, "a witness line is: witness <name> <vkey> [<url>]");
    room(at, witnesses);
    const [name = "", vkey = "", url] = items;
    const key = readKey(at, vkey, suite);
    if (!kindFacts(key.kind).timestamped) throw malformed(at, "a witness key must be a cosignature key");
    once(at, witnessKeys, key);
    define(at, name);
    witnesses.push({ name, key, ...(url === undefined ? {} : { url }) });
  };
  const addGroup = (at: number, items: readonly string[]): void => {
    const [name = "", rule = "", ...members] = items;
    if (members.length === 0) throw malformed(at, "a group line is: group <name> all|any|<k> <name>...");
    room(at, groups);
    for (const one of members) {
      if (!defined.has(one)) throw malformed(at, `the name ${printable(one)} is not defined above`);
      if (member.has(one)) throw malformed(at, `the name ${printable(one)} is already a member of a group`);
      member.add(one);
    }
    const digits = /^[1-9][0-9]{0,3}$/.test(rule) ? Number(rule) : 0;
    const threshold = rule === "all" ? members.length : rule === "any" ? 1 : digits;
    if (threshold < 1 || threshold > members.length) throw malformed(at, `the threshold is not 1 to ${members.length}`);
    define(at, name);
    groups.push({ name, threshold, members });
  };
  const setQuorum = (at: number, items: readonly string[]): void => {
    const [name = ""] = items;
    if (items.length !== 1) throw malformed(at, "a quorum line is: quorum <name>");
    if (quorum !== undefined) throw malformed(at, "there is a second quorum line");
    if (name !== NONE && !defined.has(name)) throw malformed(at, `the name ${printable(name)} is not defined above`);
    quorum = name;
  };
  return {
    line(at: number, [keyword, ...items]: readonly string[]): void {
      if (keyword === "log") addLog(at, items);
      else if (keyword === "witness") addWitness(at, items);
      else if (keyword === "group") addGroup(at, items);
      else if (keyword === "quorum") setQuorum(at, items);
      else throw malformed(at, "it begins with none of log, witness, group and quorum");
    },
    finish(): Policy {
      if (quorum === undefined) throw malformed(0, "there is no quorum line");
      return { logs, witnesses, groups, quorum };
    },
  };
}

/** The keys of a policy, as {@link openCheckpoint} takes them. */
export function policyTrust(policy: Policy): CheckpointTrust {
  return { logs: policy.logs.map((log) => log.key), witnesses: policy.witnesses.map((witness) => witness.key) };
}

/** Whether the witnesses named in `cosigned` are a quorum of the policy. */
export function quorumReached(policy: Policy, cosigned: ReadonlySet<string>): boolean {
  if (policy.quorum === NONE) return true;
  const reached = new Map<string, boolean>();
  for (const witness of policy.witnesses) reached.set(witness.name, cosigned.has(witness.name));
  // Groups name only what stands above them, so one pass in file order settles all.
  for (const group of policy.groups) {
    reached.set(group.name, group.members.filter((name) => reached.get(name) === true).length >= group.threshold);
  }
  return reached.get(policy.quorum) === true;
}

/** Whether an opened checkpoint carries cosignatures of a quorum, and of whom. */
export function satisfiesQuorum(
  policy: Policy,
  opened: OpenedCheckpoint & { ok: true },
): { readonly reached: boolean; readonly cosigned: readonly string[] } {
  const keys = opened.signatures.map((signature) => signature.key);
  const cosigned = policy.witnesses.filter((one) => keys.some((key) => sameKey(key, one.key))).map((one) => one.name);
  return { reached: quorumReached(policy, new Set(cosigned)), cosigned };
}

function room(at: number, list: readonly unknown[]): void {
  if (list.length >= MAX_POLICY_ITEMS) throw malformed(at, `there are more than ${MAX_POLICY_ITEMS} of a kind`);
}

function once(at: number, seen: Set<string>, key: NoteKey): void {
  const id = bytesToHex(key.publicKey);
  if (seen.has(id)) throw malformed(at, "the same public key stands on an earlier line");
  seen.add(id);
}

function readKey(at: number, octets: string, suite: CryptoSuite): NoteKey {
  try {
    return parseVkey(bytesToUtf8(Uint8Array.from(octets, (octet) => octet.charCodeAt(0))), suite);
  } catch (cause) {
    throw malformed(at, "the verifier key is refused", cause);
  }
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

function printable(name: string): string {
  return name.replace(/[^\u0021-\u007e]/g, "?").slice(0, 64);
}

function malformed(line: number, reason: string, cause?: unknown): AssayError<"policy_malformed"> {
  const place = line === 0 ? "The policy file" : `Line ${line} of the policy file`;
  return new AssayError("policy_malformed", `${place} is refused: ${reason}.`, { cause });
}
