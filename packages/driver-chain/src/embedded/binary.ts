import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { AssayError } from "@assay/core";

/** Node's names of platforms and processors as the packages of the binary have them. */
const PROCESSORS: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** Path of the development node's binary for this machine, out of its npm package. Throws `chain_binary_missing`. */
export function findChainBinary(platform: string = process.platform, processor: string = process.arch): string {
  const name = `${platform}-${PROCESSORS[processor] ?? processor}`;
  try {
    // The platform's package is a dependency of the outer one, so it is looked up from there.
    const outer = createRequire(import.meta.url).resolve("@foundry-rs/anvil/package.json");
    const inner = createRequire(outer).resolve(`@foundry-rs/anvil-${name}/package.json`);
    return join(dirname(inner), "bin", platform === "win32" ? "anvil.exe" : "anvil");
  } catch (cause) {
    throw new AssayError("chain_binary_missing", `No development chain is installed for ${name}.`, {
      hints: [
        "Install without omitting optional dependencies, or give the RPC address of a chain of your own.",
        "Everything but payments works without a chain.",
      ],
      cause,
    });
  }
}
