import { AssayError } from "@assay/core";
import type { Auth } from "./auth.ts";

/** Lets the operator's token pass. Throws `token_required` without a token, `operator_required` for anybody else's. */
export async function requireOperator(
  auth: Pick<Auth, "caller" | "isOperator">,
  authorization: string | undefined,
): Promise<void> {
  const caller = await auth.caller(authorization);
  if (!caller)
    throw new AssayError("token_required", "This needs the operator's token.", {
      hints: ["Sign a challenge at /v1/auth/challenge with the operator's key and send the token as a bearer."],
    });
  if (!auth.isOperator(caller.owner))
    throw new AssayError("operator_required", "Only the operator of this gateway may do this.");
}
