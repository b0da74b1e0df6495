import { equalBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { encodeBundle, openField, receiptJson } from "@assay/receipts";
import type { FieldOpening, ReceiptView } from "@assay/receipts";
import { GatewayError } from "@assay/sdk";
import type { ListedReceipt } from "@assay/sdk";
import { formatTlogProof } from "@assay/tlog";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { absolute, writeWhole } from "../files.ts";
import { withGateway } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { findReceipt, listReceiptIds, noteOf, viewOf } from "../receipt-store.ts";
import type { StoredReceipt } from "../receipt-store.ts";
import { receiptText } from "../receipt-text.ts";
import { cliError } from "../render-error.ts";
import { formatTime, printable, table } from "../style.ts";

export type ListFlags = GatewayFlags & { readonly limit: number; readonly remote: boolean; readonly model?: string };

type Listed = { readonly receiptId: string; readonly model: string; readonly mode: string; readonly time: string };

/** `assay receipt ls`: those kept here, or with `--remote` those the gateway has of this owner. */
export async function list(cli: Cli, flags: ListFlags): Promise<number> {
  const { output } = cli;
  const rows = flags.remote ? await remoteRows(cli, flags) : await localRows(cli, flags);
  output.answer(
    () =>
      rows.length === 0
        ? "No receipts yet. The first one: assay run demo/digits --input image=@seven.png"
        : table(
            ["Issued", "Model", "Mode", "Receipt"],
            rows.map(({ time, model, mode, receiptId }) => [time, printable(model), printable(mode), receiptId]),
            output.style,
          ),
    () => ({ receipts: rows }),
  );
  return EXIT.done;
}

async function localRows({ world }: Cli, flags: ListFlags): Promise<Listed[]> {
  const rows: Listed[] = [];
  for (const id of listReceiptIds(world)) {
    if (rows.length >= flags.limit) break;
    const stored = await findReceipt(world, id);
    if (!stored) continue;
    const { claims } = viewOf(stored.bytes, stored.path).execution;
    const model = claims.modelName ?? claims.kind;
    if (flags.model !== undefined && model !== flags.model) continue;
    rows.push({ receiptId: id, model, mode: claims.mode, time: formatTime(claims.issuedAtMs) });
  }
  return rows;
}

/** Pages that are asked for one list: releases and keysets stand among receipts, so a page may hold few of these. */
const MAX_PAGES = 20;

async function remoteRows(cli: Cli, flags: ListFlags): Promise<Listed[]> {
  const { limit, model } = flags;
  return withGateway(cli, { ...flags, needsDatabase: true }, async ({ client }) => {
    const rows: Listed[] = [];
    let before: number | undefined;
    for (let page = 0; page < MAX_PAGES && rows.length < limit; page++) {
      const { receipts, next } = await client.receipts({
        limit: 100,
        ...(before === undefined ? {} : { before }),
        ...(model === undefined ? {} : { model }),
        signal: cli.world.interrupt,
      });
      for (const row of receipts) if (row.kind === "execution") rows.push(listed(row));
      if (next === null) break;
      before = next;
    }
    return rows.slice(0, limit);
  });
}

function listed({ receiptId, model, mode, issuedAt }: ListedReceipt): Listed {
  const time = formatTime(typeof issuedAt === "number" ? issuedAt : Date.parse(issuedAt));
  return { receiptId, model: model ?? "", mode: mode ?? "", time };
}

/** `assay receipt show`: what the receipt states, in words. Whether it holds is for `assay verify`. */
export async function show(cli: Cli, flags: GatewayFlags, given: string): Promise<number> {
  const { output } = cli;
  const stored = await obtain(cli, flags, given);
  const view = viewOf(stored.bytes, stored.path);
  output.answer(
    () => receiptText(view, stored, output.style),
    () => receiptJson(view),
  );
  return EXIT.done;
}

/**
 * `assay receipt refresh`: fetches what a gateway has learned of a receipt since it was kept (settlement, anchor, audits,
 * a checkpoint with cosignatures) and puts it into the file, beside what only its holder has. Throws `receipt_replaced`
 * when what the gateway gives is about another execution.
 */
export async function refresh(
  cli: Cli,
  flags: GatewayFlags & { readonly save?: string },
  given: string,
): Promise<number> {
  const { world, output } = cli;
  const stored = await findReceipt(world, given);
  if (!stored) throw unknown(given);
  const before = viewOf(stored.bytes, stored.path);
  const note = await noteOf(world, stored.id);
  const fresh = await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
    client.bundle(stored.id, { ...(note ? { grant: note.grant } : {}), signal: world.interrupt }),
  );
  const after = viewOf(fresh, "the gateway's answer");
  if (!equalBytes(before.execution.statement.digest, after.execution.statement.digest))
    throw cliError("receipt_replaced", "The gateway has another receipt under this id; the file was left as it is.", {
      hints: ["Keep the file: two signed receipts of one id convict whoever signed both."],
    });
  const { openings, fields, evidence } = before.bundle;
  const bytes = encodeBundle({
    ...after.bundle,
    ...(openings ? { openings } : {}),
    ...(fields ? { fields } : {}),
    ...(evidence ? { evidence } : {}),
  });
  const path = flags.save === undefined ? stored.path : absolute(world, flags.save);
  writeWhole(path, bytes);
  const gained = {
    supplements: after.supplements.length - before.supplements.length,
    anchors: (after.bundle.anchors?.length ?? 0) - (before.bundle.anchors?.length ?? 0),
  };
  output.answer(
    () =>
      gained.supplements + gained.anchors === 0
        ? `${path}\nNothing is known of it that it does not have.`
        : `${path}\n${counted(gained.supplements, "more statement")} about it, ${counted(gained.anchors, "more anchor")}.`,
    () => ({ path, receiptId: stored.id, ...gained }),
  );
  return EXIT.done;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

export const EXPORT_FORMATS = ["receipt", "json", "tlog-proof", "cose", "air"] as const;
export type ExportFlags = GatewayFlags & {
  readonly format: (typeof EXPORT_FORMATS)[number];
  readonly save?: string;
};

/** `assay receipt export`: the receipt in another form, to stdout or a file. */
export async function exportReceipt(cli: Cli, flags: ExportFlags, given: string): Promise<number> {
  const stored = await obtain(cli, flags, given);
  await deliver(cli, flags, await exported(cli, flags, stored), ["json", "tlog-proof"].includes(flags.format));
  return EXIT.done;
}

async function exported(cli: Cli, flags: ExportFlags, stored: StoredReceipt): Promise<Uint8Array | string> {
  const { world } = cli;
  switch (flags.format) {
    case "receipt":
      return stored.bytes;
    case "json":
      return `${JSON.stringify(receiptJson(viewOf(stored.bytes, stored.path)), null, 2)}\n`;
    case "tlog-proof":
      return tlogProof(viewOf(stored.bytes, stored.path));
    case "cose":
    case "air": {
      const note = await noteOf(world, stored.id);
      const access = { ...(note ? { grant: note.grant } : {}), signal: world.interrupt };
      return withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
        flags.format === "air" ? client.air(stored.id, access) : client.proof(stored.id, "cose", access),
      );
    }
  }
}

/** The proof of the execution's entry as a C2SP `.tlog-proof`, from the receipt alone. Throws `proof_missing`. */
export function tlogProof({ bundle }: ReceiptView): string {
  const [proof] = bundle.log ?? [];
  const checkpoint = proof && bundle.checkpoints?.[proof.checkpoint];
  if (!proof || checkpoint === undefined) {
    throw cliError("proof_missing", "The receipt does not show that a log holds it.", {
      hints: ["It was saved before the log's next checkpoint; fetch the rest of it with `assay receipt refresh ID`."],
    });
  }
  return formatTlogProof({ index: proof.index, path: proof.path, checkpoint, extra: proof.entry });
}

export type OpenFlags = GatewayFlags & { readonly field: readonly string[]; readonly save?: string };

/** `assay receipt open`: the receipt with only the named fields disclosed, for somebody who may see no more. */
export async function open(cli: Cli, flags: OpenFlags, given: string): Promise<number> {
  const stored = await obtain(cli, flags, given);
  const view = viewOf(stored.bytes, stored.path);
  const fields = flags.field.flatMap((name) => fieldsNamed(view, name));
  const { openings: _openings, ...rest } = view.bundle;
  const unique = [...new Map(fields.map((field) => [`${field.side}:${field.name}`, field])).values()];
  // Documents that a claim names by digest stay only where their field does: the preprocessing says what was sent.
  await deliver(cli, flags, encodeBundle({ ...rest, fields: unique }), false);
  return EXIT.done;
}

function fieldsNamed({ bundle }: ReceiptView, given: string): FieldOpening[] {
  const openings = bundle.openings ?? [];
  if (openings.length === 0) {
    throw cliError("opening_missing", "The receipt discloses nothing, so nothing of it can be picked.", {
      hints: ["Only who asked has the opening: the receipt that `assay run` saved holds it."],
    });
  }
  const [, side, name = given] = /^(request|response):(.+)$/s.exec(given) ?? [];
  // `input/image` stands for both fields of the tensor.
  const wanted = (of: string): boolean => of === name || of === `${name}/meta` || of === `${name}/data`;
  const found = openings
    .filter((opening) => side === undefined || opening.side === side)
    .map((opening) => ({ opening, names: opening.fields.map((field) => field.name).filter(wanted) }))
    .filter(({ names }) => names.length > 0);
  const [first, second] = found;
  if (!first) {
    const names = openings.flatMap((opening) => opening.fields.map((field) => `${opening.side}:${field.name}`));
    throw cliError("usage_invalid", `The receipt has no field ${given}.`, { hints: [`It has: ${names.join(", ")}.`] });
  }
  if (second) {
    throw cliError("field_ambiguous", `Request and response both have a field ${given}.`, {
      hints: [`Say which: request:${given} or response:${given}.`],
    });
  }
  return first.names.map((of) => openField(nodeSuite, first.opening, of));
}

async function deliver(
  { world, output }: Cli,
  { save }: { readonly save?: string },
  bytes: Uint8Array | string,
  isText: boolean,
): Promise<void> {
  if (save !== undefined) {
    const path = absolute(world, save);
    writeWhole(path, bytes, 0o644);
    output.answer(
      () => path,
      () => ({ path, sizeBytes: Buffer.byteLength(bytes) }),
    );
    return;
  }
  if (world.stdout.isTerminal && !isText) {
    throw cliError("stdout_is_terminal", "These are bytes that a terminal cannot show.", {
      hints: ["Send them to a file: add `> file` or --save FILE."],
    });
  }
  output.raw(bytes);
}

/** A receipt kept here, a file, or the gateway's. Throws `receipt_unknown`. */
async function obtain(cli: Cli, flags: GatewayFlags, given: string): Promise<StoredReceipt> {
  const { world } = cli;
  const stored = await findReceipt(world, given);
  if (stored) return stored;
  if (!/^[0-9a-f]{32}$/.test(given)) throw unknown(given);
  try {
    const bytes = await withGateway(cli, { ...flags, needsDatabase: true }, ({ client }) =>
      client.bundle(given, { signal: world.interrupt }),
    );
    return { id: given, path: given, bytes };
  } catch (cause) {
    if (cause instanceof GatewayError && [401, 403, 404].includes(cause.status)) throw unknown(given, cause);
    throw cause;
  }
}

function unknown(given: string, cause?: unknown): Error {
  return cliError(
    "receipt_unknown",
    `There is no receipt ${JSON.stringify(given.slice(0, 80))} here, and none that you may read.`,
    {
      hints: ["Give an id, its first characters, or a file; see those you have with `assay receipt ls`."],
      ...(cause === undefined ? {} : { cause }),
    },
  );
}
