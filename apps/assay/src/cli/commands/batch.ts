import { batchDocument, batchList, batchVerdict, read } from "@assay/sdk";
import type { BatchDocument } from "@assay/sdk";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withMoney } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { asJson } from "../money-text.ts";
import { cliError } from "../render-error.ts";
import { facts, formatTime, pad, printable, table } from "../style.ts";

export type BatchListFlags = GatewayFlags & { readonly limit: number };

const STATES: Record<BatchDocument["state"], string> = {
  built: "to be posted",
  posting: "being posted",
  posted: "on the chain",
  failed: "not posted",
};

/** `assay batch ls`: batches of receipts, the latest first. */
export async function list(cli: Cli, flags: BatchListFlags): Promise<number> {
  const { world, output } = cli;
  const answer = await withMoney(cli, flags, ({ client }) =>
    client.admin({ method: "GET", path: `/v1/batches?limit=${flags.limit}`, signal: world.interrupt }),
  );
  const page = read(batchList, answer, "list of batches");
  const { style } = output;
  output.answer(
    () =>
      page.batches.length === 0
        ? "No batch yet: receipts of paid calls are put into one."
        : table(
            ["Batch", "State", "Receipts", "Root", "Transaction", "When"],
            page.batches.map((one) => [
              String(one.number),
              `${mark(one, cli)} ${STATES[one.state]}`,
              String(one.leafCount),
              style.id(one.root),
              one.transaction === null ? "" : style.id(one.transaction),
              formatTime(one.createdAtMs),
            ]),
            style,
            { right: [0, 2] },
          ),
    () => asJson(page),
  );
  return EXIT.done;
}

/** `assay batch show N`. */
export async function show(cli: Cli, flags: GatewayFlags, number: string): Promise<number> {
  const { world, output } = cli;
  const answer = await withMoney(cli, flags, ({ client }) =>
    client.admin({ method: "GET", path: `/v1/batches/${batchNumber(number)}`, signal: world.interrupt }),
  );
  const batch = read(batchDocument, answer, "batch");
  const { error } = batch;
  output.answer(
    () =>
      [
        output.style.strong(`Batch ${batch.number}`),
        "",
        facts(
          [
            ["State", `${mark(batch, cli)} ${STATES[batch.state]}`],
            ["Receipts", `${batch.leafCount}, from leaf ${batch.firstLeaf}`],
            ["Root", batch.root],
            ["Log", `${batch.logSize} entries under ${batch.logRoot}`],
            ["Blob", batch.blob],
            ["Network", batch.network],
            ["Transaction", batch.transaction ?? "none yet"],
            ...(batch.blockNumber === null ? [] : ([["Block", String(batch.blockNumber)]] as const)),
            ...(error === null ? [] : ([["Failure", printable(`${error.message} (${error.code})`)]] as const)),
          ],
          output.style,
        ),
      ].join("\n"),
    () => asJson(batch),
  );
  return EXIT.done;
}

/** `assay batch verify N`: made again from its blob and compared with the chain. */
export async function verify(cli: Cli, flags: GatewayFlags, number: string): Promise<number> {
  const { world, output } = cli;
  output.progress(`making batch ${number} again`);
  const answer = await withMoney(cli, flags, ({ client }) =>
    client.admin({ method: "POST", path: `/v1/batches/${batchNumber(number)}/verify`, signal: world.interrupt }),
  );
  const verdict = read(batchVerdict, answer, "verdict on the batch");
  const { style } = output;
  const columns = Math.max(0, ...verdict.checks.map(({ check }) => check.length)) + 2;
  output.answer(
    () =>
      [
        verdict.status === "verified"
          ? style.seal(`Batch ${verdict.number} is what the chain has.`)
          : style.strong(
              `Batch ${verdict.number} is ${verdict.status === "failed" ? "not what it should be" : "not decided"}.`,
            ),
        "",
        ...verdict.checks.map(
          (row) => `${style.mark("other", row.status)} ${pad(printable(row.check), columns)}${printable(row.message)}`,
        ),
      ].join("\n"),
    () => asJson(verdict),
  );
  if (verdict.status === "verified") return EXIT.done;
  return verdict.status === "failed" ? EXIT.evidenceFailed : EXIT.inconclusive;
}

function mark({ state }: BatchDocument, { output }: Cli): string {
  return output.style.mark("other", state === "posted" ? "pass" : state === "failed" ? "fail" : "inconclusive");
}

function batchNumber(text: string): string {
  if (/^\d{1,15}$/.test(text)) return String(Number(text));
  throw cliError("usage_invalid", `${JSON.stringify(text)} is no number of a batch.`, {
    hints: ["List them: `assay batch ls`."],
  });
}
