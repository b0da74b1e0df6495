import { bytesToHex } from "@assay/core";
import type { Mode } from "./claims.ts";
import { timeText } from "./time.ts";
import type { Answers, CheckRow, Verdict } from "./verdict.ts";
import type { ReceiptView } from "./view.ts";

const short = (bytes: Uint8Array): string => bytesToHex(bytes).slice(0, 16);

/** The four questions, answered from the claims and from what the checks found of them. */
export function answersOf(
  view: ReceiptView | undefined,
  checks: readonly CheckRow[],
  status: Verdict["status"],
  logTimeMs: number | undefined,
): Answers {
  if (!view) {
    const unread = "Unknown: the bytes are not a receipt that can be read.";
    return {
      whoActed: unread,
      whichModel: unread,
      howToVerify: unread,
      couldBeAltered: "Yes: nothing here can be checked.",
    };
  }
  const { claims, statement } = view.execution;
  const row = (name: CheckRow["check"]): CheckRow | undefined => checks.find(({ check }) => check === name);
  const said = status === "verified" ? "" : "It says, unverified: ";
  const principal = claims.principal;
  const acted = principal
    ? `${principal.caller}${principal.delegator ? ` for ${principal.delegator}` : ""} (known by ${principal.authentication}) asked; `
    : "an anonymous caller asked; ";
  const gateway = view.service ? `, through ${view.service.statement.header.issuer}` : "";
  const vouched = row("keyset")?.status === "pass" ? "" : ", whose keys nothing you trust vouches for";
  const model =
    claims.upstream && !claims.modelDigest
      ? `a model that ${claims.upstream.provider} reports as ${claims.upstream.modelReported ?? "unnamed"}, whose weights nobody here saw`
      : claims.modelName === undefined
        ? `no model: this is a ${claims.kind}`
        : `${claims.modelName}${claims.modelVersion ? ` version ${claims.modelVersion}` : ""}${
            claims.modelDigest
              ? `, manifest ${short(claims.modelDigest)}… (${claims.modelDigestCheck})`
              : ", without a digest"
          }`;
  return {
    whoActed: `${said}${acted}${statement.header.issuer} executed${gateway}${vouched}.`,
    whichModel: `${said}${model}.`,
    howToVerify: howToVerify(claims.mode, claims.modelDigest !== undefined, runtimeProfile(view)),
    couldBeAltered: couldBeAltered(checks, status, logTimeMs),
  };
}

function runtimeProfile(view: ReceiptView): string {
  const profile = view.execution.claims.runtime?.["profile"];
  return typeof profile === "string" ? profile : "stated";
}

function howToVerify(mode: Mode, hasModel: boolean, profile: string): string {
  switch (mode) {
    case "vanilla":
      return hasModel
        ? `Hold the model and the opened request, run the ${profile} profile again and compare the outputs: assay verify --reexecute.`
        : "It cannot be re-executed: no model digest is stated, so only signatures and log can be checked.";
    case "tee":
      return "Check the attestation evidence in the bundle: it binds the signing key to measured code.";
    case "zkml":
      return "Check the proof in the bundle against the statement it names; no re-execution is needed.";
  }
}

function couldBeAltered(checks: readonly CheckRow[], status: Verdict["status"], logTimeMs: number | undefined): string {
  const failed = checks.find((row) => row.status === "fail");
  if (failed) return `It was altered, or never genuine: ${failed.message}`;
  const log = checks.find(({ check }) => check === "log");
  if (log?.status === "pass") {
    const when = logTimeMs === undefined ? "" : ` since ${timeText(logTimeMs)}`;
    const witnesses = Number(log.facts["witnesses"] ?? "0");
    const seen =
      witnesses === 0
        ? "which no witness has confirmed"
        : witnesses === 1
          ? "as one witness confirms"
          : `as ${witnesses} witnesses confirm`;
    return `No byte of it without breaking a signature; the log holds it${when}, ${seen}.`;
  }
  return status === "inconclusive"
    ? "Not by others than the signer, but the signer could still replace it: nothing you trust shows that a log holds it."
    : "Not without breaking a signature.";
}

/** What a receipt of this mode proves, as architecture and README state it. */
export function proves(mode: Mode | undefined): string {
  switch (mode) {
    case "vanilla":
      return "Which key answered, for which model digest, in which order; contradictory receipts convict the signer, and anyone holding the model can re-execute and compare.";
    case "tee":
      return "Measured code in genuine hardware held the signing key and hashed the weights at load.";
    case "zkml":
      return "This exact integer graph with these committed weights gives this output.";
    default:
      return "Nothing.";
  }
}

/** What a receipt of this mode does not prove. */
export function doesNotProve(mode: Mode | undefined): string {
  switch (mode) {
    case "vanilla":
      return "That the signer ran the model, until someone re-executes.";
    case "tee":
      return "That the hardware vendor and the platform's physical owner are honest.";
    case "zkml":
      return "Anything about a float model that the graph was quantised from; and it hides nothing: it is a validity proof.";
    default:
      return "Anything.";
  }
}

/** Whom a reader of this verdict still trusts, and for what. */
export function residualTrust(view: ReceiptView | undefined, checks: readonly CheckRow[]): string[] {
  if (!view) return [];
  const out: string[] = [];
  const { claims, statement } = view.execution;
  const status = (name: CheckRow["check"]): string | undefined => checks.find(({ check }) => check === name)?.status;
  if (claims.mode === "vanilla")
    out.push(`${statement.header.issuer}, that it ran what it says, unless somebody re-executes.`);
  if (claims.mode === "tee") out.push("The hardware vendor and whoever owns the machine.");
  if (claims.upstream) out.push(`${claims.upstream.provider}, for everything about the model behind its interface.`);
  if (claims.modelDigestCheck === "declared")
    out.push(`${statement.header.issuer}, that the model it names is the one it loaded.`);
  if (view.service) out.push(`${view.service.statement.header.issuer}, for route, price and what it promised.`);
  out.push(`The clock of ${statement.header.issuer}, for the time of issue.`);
  if (status("log") === "pass") {
    const witnesses = checks.find(({ check }) => check === "log")?.facts["witnesses"] ?? "0";
    if (witnesses === "0") out.push("The log's operator, that everybody is shown the same log: no witness cosigned.");
  }
  return [...out, ...chainTrust(checks)];
}

/** Whom the rows of payment and anchor rest on: a node of a chain proves nothing of what it answers. */
function chainTrust(checks: readonly CheckRow[]): string[] {
  const row = (name: CheckRow["check"]): CheckRow | undefined => checks.find(({ check }) => check === name);
  const [payment, anchor] = [row("payment"), row("anchor")];
  const out: string[] = [];
  if (payment?.code === "payment_unchecked")
    out.push("The gateway, that the payment it names was made: no chain was asked.");
  else if (payment?.status === "inconclusive")
    out.push("The gateway, that the payment it names was made: the chain that was asked did not show it.");
  if (payment?.code === "payment_claimed" && payment.facts["voucher"] !== "this payment's")
    out.push("The gateway, that this charge is in the sum that was claimed from the channel.");
  const isPaid = payment?.status === "pass" && payment.code !== "payment_of_nothing";
  if (isPaid || anchor?.status === "pass")
    out.push("The node of the chain that was asked, for what it said is there: its answers carry no proof.");
  return out;
}
