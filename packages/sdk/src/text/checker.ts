import { parseTrust, viewReceipt } from "@assay/receipts";
import type { Policy, Trust, Verdict } from "@assay/receipts";
import { createVerifier } from "@assay/verifier";
import type { Verifier } from "@assay/verifier";
import type { CallOptions, Connection } from "../connection.ts";
import { ReceiptError } from "../errors.ts";
import { DEFAULT_CHECKPOINT_WAIT_MS, MAX_JSON_BYTES } from "../limits.ts";
import { openTextBundle } from "./exchange.ts";
import type { TextExchange } from "./exchange.ts";
import { judge } from "./verdict.ts";
import type { TextVerdict } from "./verdict.ts";

/** A receipt that was fetched, opened by what its caller knows, and verified. */
export type CheckedReceipt = {
  readonly receiptId: string;
  /** Lets its holder fetch this receipt again, 64 hexadecimal digits. */
  readonly grant: string;
  /** The bundle with request and response opened: the file that verifies anywhere. */
  readonly bytes: Uint8Array;
  readonly verdict: TextVerdict;
};

/**
 * Which verdicts let an answer through. `verified`: only those that are. `signed`: also those where all that is open
 * comes later than the answer, as the log's checkpoint does; signatures by keys that the trust vouches for are wanted
 * in any case.
 */
export type Acceptance = "verified" | "signed";

export type CheckerOptions = {
  /** What verification starts from: a trust, or the text of a trust file. Without one the gateway's own is taken on first use. */
  readonly trust?: Trust | string | Uint8Array;
  /** What is demanded beyond validity. */
  readonly policy?: Policy;
  /** Default `verified`. */
  readonly accept?: Acceptance;
  /** Milliseconds that a receipt waits for a checkpoint of the log that covers it; default 5,000. */
  readonly waitMs?: number;
};

/** Fetches and verifies receipts of one gateway. */
export type Checker = {
  /** The verdict on a bundle, whatever it is about. */
  readonly verify: (bytes: Uint8Array) => Promise<TextVerdict>;
  /** Throws what fetching throws; what is wrong with a receipt is told by the verdict. */
  readonly check: (exchange: TextExchange, options?: CallOptions) => Promise<CheckedReceipt>;
  /** The same, and throws `receipt_failed` or `receipt_inconclusive` for a verdict that does not let the answer through. */
  readonly demand: (exchange: TextExchange, options?: CallOptions) => Promise<CheckedReceipt>;
};

/** The checker of a connection. Throws `trust_invalid` for a trust file that is none. */
export function createChecker(connection: Connection, options: CheckerOptions): Checker {
  const { suite } = connection;
  const verifierFor = (trust: Trust): Verifier =>
    createVerifier({ trust, suite, ...(options.policy ? { policy: options.policy } : {}) });
  const given = options.trust === undefined ? undefined : verifierFor(trustOf(options.trust));

  let first: Promise<Verifier> | undefined;
  const onFirstUse = async (): Promise<Verifier> => {
    // Without a caller's signal: whoever asks next waits for the same trust.
    const asked = first ?? takeTrust(connection).then(verifierFor);
    first = asked;
    try {
      return await asked;
    } catch (error) {
      if (first === asked) first = undefined;
      throw error;
    }
  };
  const verify: Checker["verify"] = async (bytes) => {
    const verifier = given ?? (await onFirstUse());
    return labelled(await verifier(bytes, connection.now()), given !== undefined);
  };

  const check: Checker["check"] = async (exchange, { signal } = {}) => {
    const { receiptId, grant } = exchange;
    const bundle = await connection.bundle(receiptId, {
      grant,
      waitMs: options.waitMs ?? DEFAULT_CHECKPOINT_WAIT_MS,
      ...(signal ? { signal } : {}),
    });
    // What cannot be taken apart cannot be opened either; verification says what is wrong with it.
    const bytes = "fault" in viewReceipt(suite, bundle) ? bundle : openTextBundle(bundle, exchange);
    return { receiptId, grant, bytes, verdict: judge(suite, await verify(bytes), bytes, exchange) };
  };
  return {
    verify,
    check,
    async demand(exchange, call) {
      const receipt = await check(exchange, call);
      requireVerdict(receipt, options.accept ?? "verified");
      return receipt;
    },
  };
}

async function takeTrust({ transport }: Connection): Promise<Trust> {
  return parseTrust(await transport.bytes({ method: "GET", path: "/v1/trust" }, MAX_JSON_BYTES));
}

/** A trust, or what the text of a trust file says. Throws `trust_invalid`. */
export function trustOf(trust: Trust | string | Uint8Array): Trust {
  return typeof trust === "string" || trust instanceof Uint8Array ? parseTrust(trust) : trust;
}

function labelled(verdict: Verdict, pinned: boolean): TextVerdict {
  if (pinned) return { ...verdict, pinned };
  const taken = "The gateway, for the keys themselves: its own trust file was taken on first use and not compared.";
  return { ...verdict, pinned, residualTrust: [...verdict.residualTrust, taken] };
}

/** Rows that must pass before anything is known to come from whom the trust names. */
const SIGNED = ["format", "signature", "keyset", "policy"] as const;

function requireVerdict({ receiptId, verdict }: CheckedReceipt, accept: Acceptance): void {
  if (verdict.status === "verified") return;
  const row = verdict.checks.find(({ code, status }) => code === verdict.code && status !== "pass");
  const hints = [`The receipt is ${receiptId}; its verdict is ${verdict.code}.`];
  if (verdict.status === "failed") {
    throw new ReceiptError("receipt_failed", `The answer's receipt does not hold: ${row?.message ?? verdict.code}`, {
      receiptId,
      verdict,
      hints,
    });
  }
  const signed = SIGNED.every((name) =>
    verdict.checks.some(({ check, status }) => check === name && status === "pass"),
  );
  if (accept === "signed" && signed) return;
  throw new ReceiptError(
    "receipt_inconclusive",
    `The answer's receipt could not be verified in full: ${row?.message ?? verdict.code}`,
    {
      receiptId,
      verdict,
      hints: [
        ...hints,
        ...(signed ? ['Ask again later, wait longer with waitMs, or take what is signed with accept: "signed".'] : []),
      ],
    },
  );
}
