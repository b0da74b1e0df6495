import { parseJson } from "@assay/core";
import { CHECKS, MODES } from "@assay/receipts";
import type { Policy } from "@assay/receipts";
import { z } from "zod";
import { absolute, readWhole } from "./files.ts";
import { cliError } from "./render-error.ts";
import type { World } from "./world.ts";

/** A policy is a handful of choices. */
const MAX_POLICY_BYTES = 64 * 1024;

const policySchema = z.strictObject({
  modes: z.array(z.enum(MODES)).min(1).optional(),
  modelDigest: z
    .string()
    .regex(/^[0-9a-f]{64}$/, "must be 64 hexadecimal digits")
    .optional(),
  clientNonce: z
    .string()
    .regex(/^(?:[0-9a-f]{2}){8,64}$/, "must be 8 to 64 bytes in hexadecimal")
    .optional(),
  maxAgeMs: z.int().nonnegative().optional(),
  labels: z.array(z.string().min(1)).min(1).optional(),
  require: z.array(z.enum(CHECKS)).optional(),
});

/** Reads what a verifier demands beyond validity. Throws `policy_invalid` listing every fault, or `file_unreadable`. */
export async function loadPolicy(world: World, path: string): Promise<Policy> {
  const bytes = await readWhole(absolute(world, path), MAX_POLICY_BYTES, "policy file");
  let parsed;
  try {
    parsed = policySchema.safeParse(parseJson(bytes, { maxBytes: MAX_POLICY_BYTES, maxDepth: 4 }));
  } catch (cause) {
    throw cliError("policy_invalid", "The policy file is not JSON.", { cause });
  }
  if (!parsed.success) {
    throw cliError("policy_invalid", "The policy file asks for things that cannot be asked for.", {
      hints: parsed.error.issues.map(({ path: at, message }) => `${at.join(".") || "the file"}: ${message}.`),
      cause: parsed.error,
    });
  }
  // Absent and undefined differ in a policy's type, and the parser only ever leaves keys out.
  return parsed.data as Policy;
}
