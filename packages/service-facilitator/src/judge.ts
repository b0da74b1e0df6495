import { checkPayment } from "@assay/x402";
import type { EvmSuite } from "@assay/x402";
import { channelJson, diagnose, judgeSums, readChannel, simulate } from "./examine.ts";
import { planPayment, sendersFor } from "./plan.ts";
import type { ServedChain } from "./plan.ts";
import { REASON, refuse } from "./reasons.ts";
import type { Refusal } from "./reasons.ts";
import type { PaymentRequest } from "./request.ts";
import type { JsonObject } from "./types.ts";

export type Judged = { readonly ok: true; readonly payer: string; readonly extra?: JsonObject } | Refusal;

/**
 * Whether a payment would be settled now: the pure checks first, then the chain, which is asked to execute it without
 * effect. `upto` is judged at the most that it permits, whatever is charged of it.
 */
export async function judgePayment(
  suite: EvmSuite,
  served: ServedChain,
  request: PaymentRequest,
  nowS: number,
): Promise<Judged> {
  const { document } = request;
  const { payment } = document;
  const requirement =
    payment.kind === "upto" ? { ...request.requirement, amount: String(payment.permit.amount) } : request.requirement;
  const token = served.tokens.find(({ address }) => address === requirement.asset);
  if (!token) return refuse(REASON.requirements, "The token is not served here.");
  if (served.schemes?.includes(requirement.scheme) === false)
    return refuse(REASON.scheme, "This chain has no contract for the scheme.");
  const [sender] = sendersFor(served, request);
  const options = {
    factories: served.factories ?? [],
    facilitators: served.senders.map(({ address }) => address),
  };
  const checked = checkPayment(suite, document, requirement, nowS, options);
  if (!checked.ok) return refuse(checked.code, checked.message);
  const { payer } = checked;
  if (payment.kind === "eip3009") {
    // What was signed is checked against the requirement's domain; the token's own is what counts.
    if (!token.eip3009) return refuse(REASON.transferUnsupported, undefined, payer);
    if (requirement.extra.name !== token.name) return refuse(REASON.transferName, undefined, payer);
    if (requirement.extra.version !== token.version) return refuse(REASON.transferVersion, undefined, payer);
  }
  if (!sender) return refuse(REASON.facilitator, "Nobody here may settle this payment.", payer);
  if (payment.kind === "voucher" || payment.kind === "refund" || payment.kind === "deposit") {
    const { channel, voucher } = payment;
    const { state, payerCodeBytes } = await readChannel(served, voucher.channelId, channel.payer);
    const wrong = judgeSums(payment, state);
    if (wrong) return wrong;
    // An account with code answers for its signatures itself, whatever its key signed.
    // One that the deposit deploys is asked as if it were there.
    const code = payerCodeBytes > 0 ? "some" : checked.deployment ? "unknown" : "none";
    const again = checkPayment(suite, document, requirement, nowS, { ...options, payerCode: code });
    if (!again.ok) return refuse(again.code, again.message, payer);
    for (const { account, digest, signature } of again.questions) {
      const { deployment } = again;
      const valid = deployment
        ? await served.chain.isValidUndeployed(account, digest, {
            factory: deployment.factory,
            factoryData: deployment.calldata,
            signature,
          })
        : await served.chain.isValidSignature(account, digest, signature);
      if (!valid) return refuse(REASON.voucher, undefined, payer);
    }
    if (payment.kind !== "deposit") return { ok: true, payer, extra: channelJson(voucher.channelId, state) };
    const plan = planPayment(suite, served, request);
    if (!plan.ok) return plan;
    if (plan.call && !(await simulate(served, sender, plan.call))) return diagnose(suite, served, request, plan);
    return { ok: true, payer, extra: channelJson(voucher.channelId, state) };
  }
  const plan = planPayment(suite, served, { ...request, requirement });
  if (!plan.ok) return plan;
  if (plan.call && !(await simulate(served, sender, plan.call))) return diagnose(suite, served, request, plan);
  return { ok: true, payer };
}
