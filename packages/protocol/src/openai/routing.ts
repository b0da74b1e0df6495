import { z } from "zod";
import { JURISDICTION_EVIDENCE, OBJECTIVES, SECURITY_MODES } from "../text/execution.ts";
import type { RoutingOptions } from "../text/execution.ts";
import { parameterInvalid, refusalOf } from "./refuse.ts";

// ISO 3166-1 alpha-2, the officially assigned codes, so that a slip such as UK is told instead of finding no node.
const COUNTRIES = new Set(
  (
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ " +
    "CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO " +
    "FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE " +
    "JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO " +
    "MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW " +
    "PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM " +
    "TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
  ).split(" "),
);
const REGIONS = new Set(["EU", "EEA"]);

/** Places that one request may name: all countries and regions there are. */
const MAX_PLACES = 256;
/** An hour: nobody waits longer for a first byte. */
const MAX_LATENCY_MS = 3_600_000;

const place = z
  .string()
  .max(8)
  .transform((text) => text.trim().toUpperCase())
  .refine((code) => COUNTRIES.has(code) || REGIONS.has(code), {
    error: "a place is a country code of ISO 3166-1 (GB, not UK), EU or EEA",
  });
const decimal = z
  .string({ error: 'an amount is a decimal text such as "0.25"' })
  .regex(/^(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,18})?$/, 'an amount is a decimal text such as "0.25"');
const label = z.string().regex(/^[\w.:/-]{1,128}$/, "a name has 1 to 128 letters, digits, and _ . : / -");

/** The `assay` member of a request, in camelCase. */
export const routingOptionsSchema = z.strictObject({
  objective: z.enum(OBJECTIVES).optional(),
  mode: z.enum(SECURITY_MODES).optional(),
  jurisdiction: z.array(place).min(1).max(MAX_PLACES).optional(),
  jurisdictionEvidence: z.enum(JURISDICTION_EVIDENCE).optional(),
  maxPrice: decimal.optional(),
  maxLatencyMs: z.int().min(1).max(MAX_LATENCY_MS).optional(),
  family: label.optional(),
  cpuClass: label.optional(),
  valueAtRisk: decimal.optional(),
});

const NAMES = Object.keys(routingOptionsSchema.shape) as (keyof RoutingOptions)[];
const bySnake = new Map(NAMES.map((name) => [name.replaceAll(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), name]));
const headerOf = new Map(NAMES.map((name) => [`assay-${dashed(name)}`, name]));

/** The headers that carry routing options, lower case: `assay-objective`, `assay-max-price`, … */
export const ROUTING_HEADERS: readonly string[] = [...headerOf.keys()];

function dashed(name: string): string {
  return name.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);
}

/**
 * Routing options from a body's `assay` member (camelCase or snake_case) and the `assay-…` headers; the body wins,
 * option by option. Throws `parameter_unknown` and `parameter_invalid`, naming `assay.maxPrice` or the header.
 */
export function parseRouting(
  member: unknown,
  headers: Readonly<Record<string, string | undefined>> = {},
): RoutingOptions {
  const asked: Record<string, unknown> = {};
  if (member !== undefined && member !== null) {
    if (typeof member !== "object" || Array.isArray(member)) throw parameterInvalid("assay", "must be an object");
    for (const [key, value] of Object.entries(member)) {
      const name = bySnake.get(key) ?? key;
      if (value === null) continue;
      if (name === "__proto__" || name in asked) throw parameterInvalid(`assay.${key}`, "stands twice");
      asked[name] = name === "jurisdiction" && typeof value === "string" ? value.split(",") : value;
    }
  }
  const options = Object.keys(asked).length === 0 ? {} : checked(asked, (path) => ["assay", ...path]);
  const fromHeaders: Record<string, unknown> = {};
  for (const [header, name] of headerOf) {
    const text = headers[header];
    if (text === undefined || text === "") continue;
    fromHeaders[name] =
      name === "jurisdiction"
        ? text.split(",")
        : name === "maxLatencyMs" && /^[0-9]{1,9}$/.test(text)
          ? Number(text)
          : text;
  }
  if (Object.keys(fromHeaders).length === 0) return options;
  return { ...checked(fromHeaders, (path) => [`assay-${dashed(String(path[0]))}`, ...path.slice(1)]), ...options };
}

function checked(
  asked: Record<string, unknown>,
  place: (path: readonly PropertyKey[]) => readonly PropertyKey[],
): RoutingOptions {
  const result = routingOptionsSchema.safeParse(asked);
  if (result.success) return result.data as RoutingOptions;
  const issues = result.error.issues.map((issue) =>
    issue.code === "unrecognized_keys"
      ? { ...issue, path: place([]).slice(0, 1) }
      : { ...issue, path: place(issue.path) },
  );
  throw refusalOf(issues);
}
