import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import type { ChatMessage } from "@assay/protocol";
import { Assay } from "@assay/sdk";
import type { ChatAnswer, ChatRequest, CheckedReceipt, Payer } from "@assay/sdk";
import type { Cli } from "../command.ts";
import { EXIT, exitOfVerdict } from "../exit-codes.ts";
import { explainingPrice } from "../explain-price.ts";
import { absolute, readWhole, writeWhole } from "../files.ts";
import { ownerKey, withGateway } from "../gateway.ts";
import type { Gateway, GatewayFlags } from "../gateway.ts";
import { saveReceipt } from "../receipt-store.ts";
import { cliError } from "../render-error.ts";
import { routingOf } from "../route-flags.ts";
import type { RouteFlags } from "../route-flags.ts";
import { payerFor, paymentJson, paymentLine } from "../spend.ts";
import type { SpendFlags } from "../spend.ts";
import { printable } from "../style.ts";
import { loadTrust } from "../trust-file.ts";
import { verdictJson, verdictLine } from "../verdict-text.ts";

export type ChatFlags = GatewayFlags &
  RouteFlags &
  SpendFlags & {
    readonly model: string;
    readonly system?: string;
    readonly temperature?: number;
    readonly topP?: number;
    readonly seed?: number;
    readonly maxTokens?: number;
    readonly stop?: readonly string[];
    readonly schema?: string;
    readonly tools?: string;
    readonly retention: "none" | "server-encrypted";
    readonly save?: string;
    readonly trust?: string;
    readonly identify: boolean;
  };

/** A question, a schema or a list of tools: far above what a context holds. */
const MAX_TEXT_BYTES = 4 * 1024 * 1024;

type Turn = {
  readonly answer: ChatAnswer;
  readonly receipt: CheckedReceipt;
  readonly path: string;
  readonly firstMs: number;
  readonly tokensPerSecond: number | undefined;
};

/**
 * `assay chat`: one question, answered as it is made, its receipt kept and verified; without a question a conversation
 * on a terminal, or the question that comes over standard input.
 */
export async function chat(cli: Cli, flags: ChatFlags, question?: string): Promise<number> {
  const { world } = cli;
  const shape = await shapeOf(cli, flags);
  const system: readonly ChatMessage[] = flags.system === undefined ? [] : [{ role: "system", content: flags.system }];
  if (question === undefined && world.readLine) return converse(cli, flags, shape, system, world.readLine);
  const asked = question ?? new TextDecoder().decode(await world.stdin(MAX_TEXT_BYTES)).trim();
  if (asked === "") {
    throw cliError("usage_invalid", "There is no question.", { hints: ['Ask one: assay chat "What is 17 + 25?"'] });
  }
  const messages: readonly ChatMessage[] = [...system, { role: "user", content: asked }];
  const turn = await withGateway(cli, flags, (gateway) =>
    explainingPrice(cli, gateway, flags, async () =>
      ask(cli, gateway, flags, { ...shape, messages }, await payerFor(cli, gateway, flags)),
    ),
  );
  const { trust } = flags;
  const { source } = await loadTrust(world, trust);
  summary(cli, turn, source);
  return exitOfVerdict(turn.receipt.verdict.status);
}

async function converse(
  cli: Cli,
  flags: ChatFlags,
  shape: Partial<ChatRequest>,
  system: readonly ChatMessage[],
  readLine: (prompt: string) => Promise<string | undefined>,
): Promise<number> {
  const { output, world } = cli;
  const { source } = await loadTrust(world, flags.trust);
  return withGateway(cli, flags, async (gateway) => {
    output.note(output.noteStyle.faint(`Talking with ${flags.model}. End with an empty line.`));
    const messages: ChatMessage[] = [...system];
    const payer = await payerFor(cli, gateway, flags);
    let worst: number = EXIT.done;
    for (;;) {
      const line = (await readLine(output.style.faint("> ")))?.trim();
      if (line === undefined || line === "") return worst;
      const said: readonly ChatMessage[] = [...messages, { role: "user", content: line }];
      const turn = await explainingPrice(cli, gateway, flags, () =>
        ask(cli, gateway, flags, { ...shape, messages: said }, payer),
      );
      summary(cli, turn, source);
      worst = Math.max(worst, exitOfVerdict(turn.receipt.verdict.status));
      const { message } = turn.answer;
      messages.push({ role: "user", content: line }, { role: "assistant", content: message.content ?? "" });
    }
  });
}

async function ask(
  cli: Cli,
  gateway: Gateway,
  flags: ChatFlags,
  request: Partial<ChatRequest> & Pick<ChatRequest, "messages">,
  payer: Payer | undefined,
): Promise<Turn> {
  const { output, world } = cli;
  const { trust } = await loadTrust(world, flags.trust);
  const assay = new Assay({
    url: gateway.url,
    fetch: gateway.watched.fetch,
    now: world.now,
    sleep: world.sleep,
    suite: nodeSuite,
    trust,
    signer: ownerKey(world),
    ...(payer ? { payer } : {}),
    ...(payer && flags.maxSpend !== undefined ? { maxSpend: flags.maxSpend } : {}),
    // The verdict is shown whatever it is, so nothing is thrown for it here.
    verify: "off",
  });
  output.progress(`asking ${flags.model}`);
  const startedMs = performance.now();
  let firstMs: number | undefined;
  let lastMs = startedMs;
  const stream = assay.chat.stream(
    { ...request, model: flags.model, assay: routingOf(flags) },
    { retention: flags.retention, identify: flags.identify, signal: world.interrupt },
  );
  let wrote = false;
  for await (const { text } of stream) {
    if (text === "") continue;
    lastMs = performance.now();
    firstMs ??= lastMs - startedMs;
    if (output.isJson) continue;
    output.raw(shown(text));
    wrote = true;
  }
  const answer = await stream.final();
  if (wrote) output.raw("\n");
  if (!output.isJson)
    for (const call of answer.toolCalls) output.raw(`${shown(`${call.function.name}(${call.function.arguments})`)}\n`);
  output.progress("waiting for the log's next checkpoint");
  const receipt = await answer.receipt({ signal: world.interrupt });
  const path = saveReceipt(world, receipt.receiptId, receipt.bytes, { url: gateway.url, grant: receipt.grant });
  if (flags.save !== undefined) writeWhole(absolute(world, flags.save), receipt.bytes, 0o644);
  const first = firstMs ?? performance.now() - startedMs;
  const seconds = (lastMs - startedMs - first) / 1000;
  const tokens = answer.usage.completion_tokens;
  return {
    answer,
    receipt,
    path,
    firstMs: first,
    tokensPerSecond: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : undefined,
  };
}

function summary({ output }: Cli, turn: Turn, trustSource: string | undefined): void {
  const { answer, receipt, path } = turn;
  const { style } = output;
  const { usage } = answer;
  const rate = turn.tokensPerSecond === undefined ? [] : [`${Math.round(turn.tokensPerSecond)} tokens/s`];
  const numbers = [
    `${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out`,
    ...rate,
    `first after ${Math.round(turn.firstMs)} ms`,
    ...(answer.finishReason === "stop" ? [] : [`ended: ${answer.finishReason}`]),
  ].join(", ");
  output.answer(
    () =>
      [
        "",
        `${style.strong(printable(answer.model))}  ${style.faint(numbers)}`,
        ...(answer.payment ? [`${style.faint("Payment")}  ${paymentLine(answer.payment, style)}`] : []),
        `${style.faint("Receipt")}  ${answer.receiptId}`,
        `${style.faint("Kept at")}  ${path}`,
        verdictLine(receipt.verdict, style),
      ].join("\n"),
    () => ({
      model: answer.model,
      text: answer.text,
      message: { ...answer.message } as unknown as JsonValue,
      finishReason: answer.finishReason,
      usage: { ...usage } as unknown as JsonValue,
      firstMs: Math.round(turn.firstMs),
      tokensPerSecond: turn.tokensPerSecond === undefined ? null : Math.round(turn.tokensPerSecond),
      receiptId: answer.receiptId,
      payment: paymentJson(answer.payment),
      path,
      verdict: verdictJson(receipt.verdict, { extra: [], trustSource }),
    }),
  );
}

/** Text of a model as it may be written to a terminal: line breaks and tabs stay, other control characters do not. */
function shown(text: string): string {
  return text.replaceAll(/(?![\n\t])\p{Cc}/gu, "\ufffd");
}

async function shapeOf({ world }: Cli, flags: ChatFlags): Promise<Partial<ChatRequest>> {
  const document = async (path: string): Promise<JsonValue> =>
    parseJson(await readWhole(absolute(world, path), MAX_TEXT_BYTES, "document"), { maxBytes: MAX_TEXT_BYTES });
  const schema = flags.schema === undefined ? undefined : await document(flags.schema);
  const tools = flags.tools === undefined ? undefined : await document(flags.tools);
  return {
    ...(flags.temperature === undefined ? {} : { temperature: flags.temperature }),
    ...(flags.topP === undefined ? {} : { top_p: flags.topP }),
    ...(flags.seed === undefined ? {} : { seed: flags.seed }),
    ...(flags.maxTokens === undefined ? {} : { max_tokens: flags.maxTokens }),
    ...(flags.stop && flags.stop.length > 0 ? { stop: flags.stop } : {}),
    ...(schema === undefined
      ? {}
      : {
          response_format: {
            type: "json_schema",
            json_schema: { name: "answer", schema: schema as Record<string, never>, strict: true },
          },
        }),
    ...(tools === undefined ? {} : { tools: tools as unknown as NonNullable<ChatRequest["tools"]> }),
  };
}
