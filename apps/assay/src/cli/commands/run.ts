import { canonicalJson, hexToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import type { Verdict } from "@assay/receipts";
import { judgePayment } from "@assay/sdk";
import type { InferAnswer, InferRequest, ModelDetail } from "@assay/sdk";
import { createVerifier } from "@assay/verifier";
import {
  encodePreprocessing,
  formatOutputs,
  loadInputs,
  outputsToJson,
  parsePreprocessing,
  readFileBytes,
} from "../../inputs/index.ts";
import type { Cli } from "../command.ts";
import { exitOfVerdict } from "../exit-codes.ts";
import { explainingPrice } from "../explain-price.ts";
import { absolute, writeWhole } from "../files.ts";
import { withGateway } from "../gateway.ts";
import type { Gateway } from "../gateway.ts";
import { saveReceipt } from "../receipt-store.ts";
import { payerFor, paymentJson, paymentLine } from "../spend.ts";
import type { SpendFlags } from "../spend.ts";
import { printable, wrap } from "../style.ts";
import { loadTrust } from "../trust-file.ts";
import { verdictJson, verdictLine } from "../verdict-text.ts";

export type RunFlags = SpendFlags & {
  readonly input?: readonly string[];
  readonly output?: readonly string[];
  readonly profile: "native" | "portable";
  readonly nonce?: string;
  readonly retention: "none" | "server-encrypted";
  readonly save?: string;
  readonly trust?: string;
  /** Whether the receipt names this home's owner as who asked. */
  readonly identify: boolean;
  readonly url?: string;
};

/** One inference with everything that is shown of it. */
export type RunResult = {
  readonly answer: InferAnswer;
  readonly model: ModelDetail;
  readonly verdict: Verdict;
  readonly path: string;
  readonly trustSource: string | undefined;
  readonly text: string;
};

/** `assay run`: an answer, its receipt on disk, and what the receipt is worth here. */
export async function run(cli: Cli, flags: RunFlags, name: string): Promise<number> {
  const { output } = cli;
  const result = await withGateway(cli, flags, (gateway) =>
    explainingPrice(cli, gateway, flags, () => runOnce(cli, gateway, flags, name)),
  );
  const { answer, verdict, path, trustSource } = result;
  const { style } = output;
  output.answer(
    () =>
      [
        result.text,
        "",
        ...(answer.payment ? [`${style.faint("Payment")}  ${paymentLine(answer.payment, style)}`] : []),
        `${style.faint("Receipt")}  ${answer.receiptId}`,
        `${style.faint("Kept at")}  ${path}`,
        verdictLine(verdict, style),
      ].join("\n"),
    () => ({
      model: answer.modelName,
      version: answer.modelVersion ?? null,
      outputs: outputsToJson(answer.outputs),
      receiptId: answer.receiptId,
      executionDigest: answer.executionDigest,
      logIndex: answer.logIndex ?? null,
      payment: paymentJson(answer.payment),
      path,
      verdict: verdictJson(verdict, { extra: [], trustSource }),
    }),
  );
  return exitOfVerdict(verdict.status);
}

/** Asks once, keeps the opened receipt, and verifies it with what this home trusts. */
export async function runOnce(cli: Cli, gateway: Gateway, flags: RunFlags, name: string): Promise<RunResult> {
  const { world, output } = cli;
  const { client } = gateway;
  output.progress(`asking for ${name}`);
  const model = await client.model(name, { signal: world.interrupt });
  const document = model.preprocessing;
  const preprocessing = document ? parsePreprocessing(canonicalJson(document as JsonValue)) : undefined;
  const specs = flags.input ?? [];
  const loaded = await loadInputs(specs, {
    // An input that the graph can do without counts only when it is given.
    signature: model.signature.inputs.filter(
      (input) => input.optional !== true || specs.some((spec) => spec.startsWith(`${input.name}=`)),
    ),
    ...(preprocessing ? { preprocessing } : {}),
    readFile: (path, limit) => readFileBytes(absolute(world, path), limit),
    stdin: world.stdin,
  });
  const request: InferRequest = {
    model: name,
    inputs: loaded.tensors,
    ...(flags.output && flags.output.length > 0 ? { outputs: flags.output } : {}),
    profile: flags.profile,
    retention: flags.retention,
    ...(flags.nonce === undefined ? {} : { nonce: hexToBytes(flags.nonce) }),
    ...(loaded.preprocessing
      ? {
          preprocessing: {
            digest: loaded.preprocessing.digest,
            bytes: encodePreprocessing(loaded.preprocessing.document),
          },
        }
      : {}),
    // A private model answers its owner alone, so there is nothing to hide by not saying who asks.
    identify: flags.identify || model.visibility === "private",
    verify: false,
    signal: world.interrupt,
  };
  const payer = await payerFor(cli, gateway, flags);
  output.progress(`running ${name}`);
  const paying = payer ? gateway.paidBy(payer) : client;
  const answer = await paying.infer(request);
  output.progress("waiting for the log's next checkpoint");
  const bytes = await client.receiptOf(request, answer);
  const path = saveReceipt(world, answer.receiptId, bytes, { url: gateway.url, grant: answer.grant });
  if (flags.save !== undefined) writeWhole(absolute(world, flags.save), bytes, 0o644);
  const { trust, source } = await loadTrust(world, flags.trust);
  const policy = flags.nonce === undefined ? {} : { policy: { clientNonce: flags.nonce } };
  const found = await createVerifier({ trust, suite: nodeSuite, ...policy })(bytes, world.now());
  const verdict = judgePayment(nodeSuite, found, bytes, answer.payment);
  const { width } = output.style;
  const outputs = formatOutputs(answer.outputs, {
    width,
    ...(preprocessing ? { document: preprocessing.document } : {}),
  });
  // Lists of values are one line each; bars and labels below them begin with spaces and already fit.
  const text = outputs.replaceAll(/^\S.*$/gm, (line) => wrap(line, width, 2));
  const version = answer.modelVersion === undefined ? "" : ` version ${printable(answer.modelVersion)}`;
  const title = `${output.style.strong(printable(answer.modelName))}${version}`;
  return { answer, model, verdict, path, trustSource: source, text: `${title}\n\n${text}` };
}
