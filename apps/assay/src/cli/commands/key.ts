import { join } from "node:path";
import { bytesToHex } from "@assay/core";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { ownerKey } from "../gateway.ts";
import { facts } from "../style.ts";

/** Characters of the key that name its namespace on a gateway of somebody else. */
const NAMESPACE_DIGITS = 16;

/** `assay key show`: who this home is to a gateway. The private half is never printed. */
export function show(cli: Cli): Promise<number> {
  const { output, world } = cli;
  const publicKey = bytesToHex(ownerKey(world).publicKey);
  const owner = `ed25519:${publicKey}`;
  const namespace = publicKey.slice(0, NAMESPACE_DIGITS);
  const path = join(world.home, "keys", "owner.key");
  output.answer(
    () =>
      facts(
        [
          ["Owner", owner],
          ["Namespace", `${namespace}, on any gateway; every one on your own`],
          ["Private key", `${path}, readable by you alone`],
        ],
        output.style,
        0,
      ),
    () => ({ owner, publicKey, namespace, path }),
  );
  return Promise.resolve(EXIT.done);
}
