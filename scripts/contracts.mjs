// Compiles contracts/solidity into contracts/src/generated, typed and committed. `--check` writes nothing and fails when
// the sources give something else than what is committed.
import { spawnSync } from "node:child_process";
import { mkdtempSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { getContractAddress } from "viem";
import { settings } from "../contracts/solc.mjs";

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL("..", import.meta.url));
const sourceRoot = join(root, "contracts/solidity");
const target = join(root, "contracts/src/generated");

const create2Deployer = "0x4e59b44847b379578588920cA78FbF26c0B4956C";
const zeroSalt = `0x${"00".repeat(32)}`;

// `canonical` ones are placed by code at addresses that are fixed elsewhere: nothing of theirs may come from a constructor.
const contracts = [
  { source: "tokens/TestUSDC.sol", name: "TestUSDC", key: "testUsdc", canonical: true },
  { source: "tokens/TestUSDC.sol", name: "TestUSDCoin", key: "testUsdCoin", canonical: true },
  { source: "tokens/AssayToken.sol", name: "AssayToken", key: "assayToken" },
  {
    source: "x402/X402ExactPermit2Proxy.sol",
    name: "X402ExactPermit2Proxy",
    key: "exactPermit2Proxy",
    canonical: true,
  },
  { source: "x402/X402UptoPermit2Proxy.sol", name: "X402UptoPermit2Proxy", key: "uptoPermit2Proxy", canonical: true },
  { source: "x402/X402BatchSettlement.sol", name: "X402BatchSettlement", key: "batchSettlement", canonical: true },
  {
    source: "x402/ERC3009DepositCollector.sol",
    name: "ERC3009DepositCollector",
    key: "erc3009DepositCollector",
    canonical: true,
  },
  {
    source: "x402/Permit2DepositCollector.sol",
    name: "Permit2DepositCollector",
    key: "permit2DepositCollector",
    canonical: true,
  },
  { source: "assay/PaymentBatcher.sol", name: "PaymentBatcher", key: "paymentBatcher" },
  { source: "assay/ReceiptAnchor.sol", name: "ReceiptAnchor", key: "receiptAnchor" },
  { source: "assay/SplitFactory.sol", name: "SplitFactory", key: "splitFactory" },
  { source: "assay/Split.sol", name: "Split", key: "split" },
  { source: "dev/Multicall3.sol", name: "Multicall3", key: "multicall3", canonical: true },
  { source: "dev/TestWallet1271.sol", name: "TestWallet1271", key: "testWallet1271" },
  { source: "dev/TestWallet1271.sol", name: "TestWalletFactory", key: "testWalletFactory" },
];

function resolveImport(path) {
  try {
    return { contents: readFileSync(path.startsWith("@") ? require.resolve(path) : join(sourceRoot, path), "utf8") };
  } catch (error) {
    return { error: String(error) };
  }
}

// Warning 2394: transient storage must be cleared at the end of a call, which OpenZeppelin's guard does.
const accepted = new Set(["2394"]);

/** Compiles every contract of the list; throws with the compiler's words when it has any to say. */
function compile() {
  const solc = require("solc");
  const sources = Object.fromEntries(
    [...new Set(contracts.map((contract) => contract.source))].map((source) => [
      source,
      { content: readFileSync(join(sourceRoot, source), "utf8") },
    ]),
  );
  const wanted = [
    "abi",
    "evm.bytecode.object",
    "evm.deployedBytecode.object",
    "evm.deployedBytecode.immutableReferences",
  ];
  const outputSelection = {};
  for (const { source, name } of contracts) outputSelection[source] = { ...outputSelection[source], [name]: wanted };
  const input = { language: "Solidity", sources, settings: { ...settings, outputSelection } };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: resolveImport }));
  const words = (output.errors ?? [])
    .filter(({ errorCode }) => !accepted.has(errorCode))
    .map((error) => error.formattedMessage);
  if (words.length > 0) throw new Error(words.join("\n"));
  return contracts.map((contract) => ({ ...contract, output: output.contracts[contract.source][contract.name] }));
}

/** Addresses that follow from init code alone: through the CREATE2 deployer with a salt of zero. */
function addressesText(compiled) {
  const initCode = (key) => `0x${compiled.find((contract) => contract.key === key).output.evm.bytecode.object}`;
  const placed = (key) =>
    getContractAddress({ opcode: "CREATE2", from: create2Deployer, salt: zeroSalt, bytecode: initCode(key) });
  const factory = placed("splitFactory");
  const lines = [
    [
      "splitFactoryAddress",
      "Where SplitFactory is once it is deployed through the CREATE2 deployer with a salt of zero.",
      factory,
    ],
    // A contract's first creation has nonce 1 (EIP-161).
    [
      "splitImplementationAddress",
      "The code of every split: what SplitFactory creates when it is deployed.",
      getContractAddress({ opcode: "CREATE", from: factory, nonce: 1n }),
    ],
    [
      "testWalletFactoryAddress",
      "Where TestWalletFactory is, likewise. Development only.",
      placed("testWalletFactory"),
    ],
  ];
  return [
    "// Generated by scripts/contracts.mjs from the contracts' init code. Do not edit.",
    ...lines.flatMap(([name, words, address]) => [
      `/** ${words} */`,
      `export const ${name}: \`0x\${string}\` = "${address.toLowerCase()}";`,
    ]),
    "",
  ].join("\n");
}

const kebab = (key) => key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

function moduleText({ key, name, source, canonical, output }) {
  const { bytecode, deployedBytecode } = output.evm;
  const immutables = Object.keys(deployedBytecode.immutableReferences ?? {}).length;
  if (canonical && immutables > 0) throw new Error(`${name} has immutables: its code alone would not work.`);
  return [
    `// Generated by scripts/contracts.mjs from contracts/solidity/${source}. Do not edit.`,
    `/** ${name}: its interface, what creates it${immutables > 0 ? ", and its code with immutables left zero" : ", and its code"}. */`,
    `export const ${key} = {`,
    `  name: ${JSON.stringify(name)},`,
    `  abi: ${JSON.stringify(output.abi.map(withoutInternalTypes))},`,
    // Widened, so that the code does not stand in the declarations a second time.
    `  bytecode: "0x${bytecode.object}" as \`0x\${string}\`,`,
    `  deployedBytecode: "0x${deployedBytecode.object}" as \`0x\${string}\`,`,
    `} as const;`,
    "",
  ].join("\n");
}

/** The ABI without the compiler's own type names, which say nothing about the wire. */
function withoutInternalTypes(value) {
  if (Array.isArray(value)) return value.map(withoutInternalTypes);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== "internalType")
      .map(([key, inner]) => [key, withoutInternalTypes(inner)]),
  );
}

/** Formats as the rest of the repository is. */
function format(directory) {
  const formatted = spawnSync(join(root, "node_modules/.bin/oxfmt"), ["-c", join(root, ".oxfmtrc.json"), directory], {
    cwd: root,
    encoding: "utf8",
  });
  if (formatted.status !== 0) throw new Error(`oxfmt failed: ${formatted.stderr}`);
}

const started = Date.now();
const compiled = compile();
const modules = compiled.map((contract) => ({ file: `${kebab(contract.key)}.ts`, text: moduleText(contract) }));
modules.push({ file: "addresses.ts", text: addressesText(compiled) });
const scratch = mkdtempSync(join(tmpdir(), "assay-contracts-"));
try {
  for (const { file, text } of modules) writeFileSync(join(scratch, file), text);
  format(scratch);
  const check = process.argv.includes("--check");
  const faults = [];
  mkdirSync(target, { recursive: true });
  // Permit2 is not compiled here: its init code proves itself by the address that it is placed at.
  const known = new Set([...modules.map(({ file }) => file), "permit2.ts"]);
  for (const file of readdirSync(target)) if (!known.has(file)) faults.push(`${file} belongs to no contract`);
  for (const { file } of modules) {
    const text = readFileSync(join(scratch, file), "utf8");
    if (!check) writeFileSync(join(target, file), text);
    else if (readIfThere(join(target, file)) !== text) faults.push(`${file} is not what its source compiles to`);
  }
  if (faults.length > 0) throw new Error(`${faults.join("\n")}\nRun: node scripts/contracts.mjs`);
  process.stdout.write(
    `${compiled.length} contracts ${check ? "are as committed" : "compiled"} in ${((Date.now() - started) / 1000).toFixed(1)} s\n`,
  );
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function readIfThere(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
