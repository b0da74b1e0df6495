import { bytesToHex, canonicalJson, hexToBytes } from "@assay/core";
import type { CryptoSuite, JsonValue } from "@assay/core";
import type { EngineOutcome, LocalFacts, ParsedText, TextUsage, UpstreamFacts } from "@assay/protocol";
import { rememberOpen } from "@assay/receipts";
import type { ExecutionClaims, OpenMap, OpenValue } from "@assay/receipts";

/** Longest JSON of one parameter that a receipt states in full; longer ones stand as their digest. */
const MAX_STATED_CHARS = 2048;
/** Longest text of an upstream's fact; and of a name, which has at most 512 bytes in claims. */
const MAX_FACT_CHARS = 256;
const MAX_NAME_CHARS = 170;
/** Facts of an upstream that a receipt states; the rest is dropped, as nobody asked for them. */
const MAX_FACTS = 16;
const MAX_DEPTH = 4;

type Hash = Pick<CryptoSuite, "sha256">;
type Mutable = { [key: string]: OpenValue };

/**
 * Effective parameters as claims state them: fractions as texts, nulls left out. Tools and schemas are in the request's
 * fields; the claim has their names and the SHA-256 of their canonical JSON, so that it stays small whatever was sent.
 */
export function statedClaims(suite: Hash, outcome: EngineOutcome, parsed: ParsedText): OpenMap {
  const out: Mutable = {};
  const { tools, response_format: format } = parsed.parameters;
  for (const [name, value] of Object.entries(outcome.parameters)) {
    if (value === null) continue;
    if (name === "tools" && tools) {
      const names = tools.map((tool) => tool.function.name);
      const sha256 = digest(suite, tools);
      out["tools"] = JSON.stringify(names).length > MAX_STATED_CHARS ? { sha256 } : { names, sha256 };
    } else if (name === "response_format" && format?.type === "json_schema") {
      const { name: called } = format.json_schema;
      out["response_format"] = {
        type: format.type,
        ...(called === undefined ? {} : { name: called }),
        sha256: digest(suite, format),
      };
    } else out[name] = bounded(suite, value);
  }
  if (parsed.omitted) out["omitted"] = parsed.omitted;
  return out;
}

function bounded(suite: Hash, value: JsonValue): OpenValue {
  const small = typeof value !== "object" && typeof value !== "string";
  if (!small && (JSON.stringify(value).length > MAX_STATED_CHARS || depthOf(value) > MAX_DEPTH))
    return { sha256: digest(suite, value) };
  return openValue(value) ?? "";
}

function digest(suite: Hash, value: unknown): string {
  return bytesToHex(suite.sha256(canonicalJson(value as JsonValue)));
}

function depthOf(value: JsonValue): number {
  if (typeof value !== "object" || value === null) return 0;
  let most = 0;
  for (const item of Object.values(value)) most = Math.max(most, depthOf(item));
  return most + 1;
}

/** JSON as an open map's value: numbers that are no safe integers become texts, nulls go. */
function openValue(value: JsonValue): OpenValue | undefined {
  if (value === null) return undefined;
  if (typeof value === "number") return Number.isSafeInteger(value) && !Object.is(value, -0) ? value : String(value);
  if (typeof value !== "object") return value;
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map((item) => openValue(item) ?? "");
  const out: Mutable = {};
  for (const [key, item] of Object.entries(value)) {
    const open = openValue(item);
    if (open !== undefined) Object.defineProperty(out, key, { value: open, enumerable: true });
  }
  return out;
}

/** Usage under OpenAI's names, as the response has it. */
export function usageClaims(usage: TextUsage): OpenMap {
  return openValue(usage) as OpenMap;
}

/** Facts of local engines change only when a process restarts, so their encoding is kept for each distinct set. */
const MAX_REMEMBERED = 256;
const remembered = new Map<string, OpenMap>();

/** The claims `runtime` and, for upstreams, `upstream`. */
export function runtimeClaims(facts: LocalFacts | UpstreamFacts): Pick<ExecutionClaims, "runtime" | "upstream"> {
  if (facts.profile === "llm") return { runtime: localRuntime(facts) };
  const { provider, modelReported, tlsSpkiSha256: spki, seen } = facts;
  const tlsSpkiSha256 = spki !== undefined && /^[0-9a-f]{64}$/.test(spki) ? hexToBytes(spki) : undefined;
  const named = {
    provider: provider.slice(0, MAX_NAME_CHARS),
    ...(modelReported === undefined ? {} : { modelReported: modelReported.slice(0, MAX_NAME_CHARS) }),
    ...(tlsSpkiSha256 === undefined ? {} : { tlsSpkiSha256 }),
  };
  const kept: Mutable = {};
  for (const [name, value] of Object.entries(seen).slice(0, MAX_FACTS)) {
    Object.defineProperty(kept, name.slice(0, MAX_FACT_CHARS), {
      value: value.slice(0, MAX_FACT_CHARS),
      enumerable: true,
    });
  }
  return {
    runtime: { profile: facts.profile, ...named },
    upstream: { ...named, ...(Object.keys(kept).length === 0 ? {} : { facts: kept }) },
  };
}

function localRuntime(facts: LocalFacts): OpenMap {
  const key = JSON.stringify(facts);
  let map = remembered.get(key);
  if (!map) {
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    const { engineSha256, cpuClass, ...others } = facts;
    map = rememberOpen({ ...others, engineSha256: hexOrText(engineSha256), cpuClass: hexOrText(cpuClass) });
    remembered.set(key, map);
  }
  return map;
}

function hexOrText(text: string): Uint8Array | string {
  return /^(?:[0-9a-f]{2})+$/.test(text) ? hexToBytes(text) : text;
}
