import { createHash } from "node:crypto";
import { trustView } from "@assay/receipts";
import type { Trust } from "@assay/receipts";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withGateway } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { facts, formatTime, printable } from "../style.ts";
import type { Style } from "../style.ts";
import { loadTrust, trustText } from "../trust-file.ts";

/** `assay trust export`: what a gateway asks to be trusted for, as a trust file. Believing it is the reader's choice. */
export async function exportTrust(cli: Cli, flags: GatewayFlags): Promise<number> {
  const { output, world } = cli;
  const { trust, url } = await withGateway(cli, flags, async ({ client, url: of }) => ({
    trust: await client.trust({ signal: world.interrupt }),
    url: of,
  }));
  output.raw(trustText(trust));
  output.note(
    output.noteStyle.faint(
      `This is what ${url} says of itself. Compare its keys by another way before you rely on them.`,
    ),
  );
  return EXIT.done;
}

/** `assay trust show`: the keys and logs that verification starts from. */
export async function show(cli: Cli, _flags: object, path?: string): Promise<number> {
  const { output, world } = cli;
  const { trust, source } = await loadTrust(world, path);
  output.answer(
    () => trustWords(trust, source, output.style),
    () => ({ trustFile: source ?? null, trust: trustView(trust) }),
  );
  return EXIT.done;
}

function fingerprint(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function trustWords(trust: Trust, source: string | undefined, style: Style): string {
  if (source === undefined)
    return "Nothing is trusted here: every receipt is inconclusive. Start with: assay trust export > trust.json";
  const rows: (readonly [string, string])[] = [
    ["File", source],
    ...trust.identities.map(({ algorithm, publicKey, subject, label }) => {
      const of = subject === undefined ? "any subject" : printable(subject);
      return [
        "Identity",
        `${of} ${style.dash} ${algorithm} ${fingerprint(publicKey)}, labelled ${printable(label)}`,
      ] as const;
    }),
    ...trust.keysets.map((digest) => ["Keyset", digest] as const),
    ...trust.logs.map(({ origin, keys, witnesses, quorum }) => {
      const words = `${keys.length} ${keys.length === 1 ? "key" : "keys, all of which sign"}`;
      const seen = witnesses.length === 0 ? "no witness" : `${quorum} of ${witnesses.length} witnesses`;
      return ["Log", `${printable(origin)} ${style.dash} ${words}; ${seen}`] as const;
    }),
    ...trust.revoked.map(
      ({ key, sinceMs, reason }) => ["Revoked", `${key} since ${formatTime(sinceMs)}: ${printable(reason)}`] as const,
    ),
    ...trust.roots.map(({ kind, der, simulated }) => {
      const digest = fingerprint(Buffer.from(der, "base64"));
      return ["Hardware root", `${printable(kind)} ${digest}${simulated ? ", simulated" : ""}`] as const;
    }),
    ...trust.chains.map(({ chain }) => ["Chain", printable(chain)] as const),
  ];
  return `${style.strong("Trusted")}\n\n${facts(rows, style)}`;
}
