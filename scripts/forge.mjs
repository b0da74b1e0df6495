// Runs forge offline with npm's solc: `node scripts/forge.mjs test` runs the contracts' tests, `snapshot` compares their gas
// with contracts/.gas-snapshot, and `snapshot --write` writes it. Further arguments go to forge.
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const room = join(root, "contracts");

/**
 * The native program. It is no dependency, because npm has it for some platforms only and it is larger than everything
 * else here: `npm run test:system` installs it apart and names the folder in ASSAY_FORGE_DIRECTORY.
 */
function binary() {
  const folder = process.env.ASSAY_FORGE_DIRECTORY;
  const from = folder ? join(folder, "package.json") : import.meta.url;
  const platform = { linux: "linux", darwin: "darwin", win32: "win32" }[process.platform];
  const machine = { x64: "amd64", arm64: "arm64" }[process.arch];
  const ending = process.platform === "win32" ? ".exe" : "";
  const name = `@foundry-rs/forge-${platform}-${machine}/bin/forge${ending}`;
  try {
    return createRequire(from).resolve(name);
  } catch {
    throw new Error(
      `${name} is not installed. Run: npm install --prefix FOLDER @foundry-rs/forge@1.7.1, and set ASSAY_FORGE_DIRECTORY=FOLDER.`,
    );
  }
}

/** Fuzz and invariant tests use another amount of gas on every machine's seed: they stay out of the snapshot. */
const fixed = ["--no-match-test", "^(testFuzz|invariant)"];

function argumentsOf([command, ...rest]) {
  const common = ["--root", root, "--use", join(room, "solc.mjs"), "--offline"];
  if (command === "test") return ["test", ...common, ...rest];
  if (command === "snapshot") {
    const others = rest.filter((argument) => argument !== "--write");
    const file = join(room, ".gas-snapshot");
    return ["snapshot", ...common, ...fixed, ...(write ? ["--snap", file] : ["--check", file]), ...others];
  }
  throw new Error("Say `test` or `snapshot`.");
}

/** Forge ends these files without a line break. */
function endLines(directory) {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const text = readFileSync(path, "utf8");
    if (!text.endsWith("\n")) writeFileSync(path, `${text}\n`);
  }
}

const write = process.argv.includes("--write");
try {
  const { status, error } = spawnSync(binary(), argumentsOf(process.argv.slice(2)), {
    stdio: "inherit",
    cwd: root,
    // Nothing of a developer's own configuration, and no colour where nobody looks.
    env: {
      ...process.env,
      FOUNDRY_PROFILE: "default",
      FOUNDRY_CONFIG: join(room, "foundry.toml"),
      // The figures in contracts/gas are compared, and rewritten only on demand.
      FORGE_SNAPSHOT_CHECK: String(!write),
      FORGE_SNAPSHOT_EMIT: String(write),
      FOUNDRY_DISABLE_NIGHTLY_WARNING: "1",
    },
    timeout: 900_000,
  });
  if (error !== undefined) throw error;
  if (write && status === 0) endLines(join(room, "gas"));
  process.exitCode = status ?? 1;
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
