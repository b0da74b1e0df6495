import { createHash } from "node:crypto";
import { AssayError, canonicalJson } from "@assay/core";
import { DEFAULT_ASSURANCE_POLICY, checkAssurancePolicy } from "@assay/routing";
import type { AssurancePolicy } from "@assay/routing";
import { openDocument } from "./document.ts";
import type { DocumentFile } from "./document.ts";
import { assurancePolicyBody, issuesOf } from "./schemas.ts";

export type AssurancePolicyStore = {
  readonly get: () => AssurancePolicy;
  /** SHA-256 of the policy's canonical JSON, 32 bytes: what service statements name. */
  readonly digest: () => Uint8Array;
  readonly isDefault: () => boolean;
  /** Throws `assurance_policy_invalid`. */
  readonly put: (body: unknown) => Promise<AssurancePolicy>;
};

/** Opens the store; without a file the default policy holds. Throws `route_document_invalid`. */
export async function openAssurancePolicyStore(file: DocumentFile): Promise<AssurancePolicyStore> {
  const document = await openDocument<AssurancePolicy>(file, "assurance policy", decode, DEFAULT_ASSURANCE_POLICY);
  let digest = digestOf(document.get());
  return {
    get: document.get,
    digest: () => digest,
    isDefault: () => document.get() === DEFAULT_ASSURANCE_POLICY,
    async put(body) {
      const policy = decode(body);
      await document.update(() => policy);
      digest = digestOf(policy);
      return policy;
    },
  };
}

function decode(body: unknown): AssurancePolicy {
  const result = assurancePolicyBody.safeParse(body);
  if (!result.success)
    throw new AssayError("assurance_policy_invalid", `The policy does not fit: ${issuesOf(result.error).join("; ")}.`);
  const policy = result.data as AssurancePolicy;
  checkAssurancePolicy(policy);
  return policy;
}

function digestOf(policy: AssurancePolicy): Uint8Array {
  const bytes = canonicalJson(policy);
  return new Uint8Array(createHash("sha256").update(bytes).digest());
}
