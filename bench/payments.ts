// How many payments one core verifies in a second, from the header to the verdict, beside viem's verifyTypedData in the same
// run; and whether both decide alike on payments that were changed at random.
//   npx tsx --conditions=assay-source bench/payments.ts [how many changed payments, default 100000]
import { evmSigner, nativeEvmSuite } from "@assay/driver-chain";
import {
  BATCH_SETTLEMENT,
  EXACT_PERMIT2_PROXY,
  PERMIT2,
  UPTO_PERMIT2_PROXY,
  authorizeExact,
  authorizeUpto,
  authorizeVoucher,
  channelFor,
  checkPayment,
  encodePayment,
  fromHex,
  matchRequirement,
  parsePaymentHeader,
  toHex,
  transferDigest,
} from "@assay/x402";
import type { Address, EvmSuite, Hex, PaymentPayload, PaymentRequirements } from "@assay/x402";
import { nobleEvmSuite } from "@assay/x402/noble";
import { getAddress, hashTypedData, isAddressEqual } from "viem";
import { verifyTypedData } from "viem/utils";

const SECONDS = 3;
const NOW_S = 1_800_000_000;
const PAYERS = 64;
const PER_PAYER = 8;
const USDC: Address = "0x036cbd53842c5426634e7929541ec2318f3dcf7e";
const PAYEE: Address = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const FACILITATOR: Address = "0x90f79bf6eb2c4f870365e785982e1f101e93b906";
const suite = nativeEvmSuite();

const exact: PaymentRequirements = {
  scheme: "exact",
  network: "eip155:84532",
  amount: "1000",
  asset: USDC,
  payTo: PAYEE,
  maxTimeoutSeconds: 900,
  extra: { name: "USDC", version: "2" },
};
const permit2: PaymentRequirements = {
  ...exact,
  asset: "0x5fbdb2315678afecb367f032d93f642f64180aa3",
  extra: { name: "Assay", version: "1", assetTransferMethod: "permit2" },
};
const upto: PaymentRequirements = {
  ...permit2,
  scheme: "upto",
  extra: { ...permit2.extra, facilitatorAddress: FACILITATOR },
};
const batch: PaymentRequirements = {
  ...exact,
  scheme: "batch-settlement",
  extra: { ...exact.extra, receiverAuthorizer: FACILITATOR, withdrawDelay: 900 },
};
const offered = [upto, batch, exact, permit2];

// One generator for everything: the same payments and the same changes in every run.
let state = 0x9e3779b9;
function random(below: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}
function randomBytes(length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random(256));
}

type Kind = "eip3009" | "permit2" | "upto" | "voucher";
const kinds: readonly Kind[] = ["eip3009", "permit2", "upto", "voucher"];
const requirementOf: Readonly<Record<Kind, PaymentRequirements>> = { eip3009: exact, permit2, upto, voucher: batch };

async function signed(kind: Kind): Promise<readonly PaymentPayload[]> {
  const out: PaymentPayload[] = [];
  for (let i = 0; i < PAYERS; i++) {
    const signer = evmSigner(randomBytes(32));
    for (let j = 0; j < PER_PAYER; j++) {
      const from = { suite, signer, requirement: requirementOf[kind], nonce: randomBytes(32), nowS: NOW_S };
      if (kind === "upto") out.push(await authorizeUpto(from));
      else if (kind === "voucher") {
        const channel = channelFor(batch, signer.address);
        out.push(await authorizeVoucher({ ...from, channel, maxClaimable: BigInt(1000 * (j + 1)) }));
      } else out.push(await authorizeExact(from));
    }
  }
  return out;
}

/** From the header to the verdict, as a server does it for a payer that is known to have no code. */
function verdict(text: string, on: EvmSuite): boolean {
  try {
    const payload = parsePaymentHeader("payment-signature", text);
    const matched = matchRequirement(payload, offered);
    if (!matched.ok) return false;
    return checkPayment(on, payload, matched.requirement, NOW_S, { payerCode: "none" }).ok;
  } catch {
    return false;
  }
}

const address = (name: string) => ({ name, type: "address" });
const uint256 = (name: string) => ({ name, type: "uint256" });
const outer = [
  { name: "permitted", type: "TokenPermissions" },
  address("spender"),
  uint256("nonce"),
  uint256("deadline"),
  { name: "witness", type: "Witness" },
];
const tokenPermissions = [address("token"), uint256("amount")];
const types = {
  eip3009: {
    TransferWithAuthorization: [
      address("from"),
      address("to"),
      uint256("value"),
      uint256("validAfter"),
      uint256("validBefore"),
      { name: "nonce", type: "bytes32" },
    ],
  },
  permit2: {
    PermitWitnessTransferFrom: outer,
    TokenPermissions: tokenPermissions,
    Witness: [address("to"), uint256("validAfter")],
  },
  upto: {
    PermitWitnessTransferFrom: outer,
    TokenPermissions: tokenPermissions,
    Witness: [address("to"), address("facilitator"), uint256("validAfter")],
  },
  channel: {
    ChannelConfig: [
      ...["payer", "payerAuthorizer", "receiver", "receiverAuthorizer", "token"].map(address),
      { name: "withdrawDelay", type: "uint40" },
      { name: "salt", type: "bytes32" },
    ],
  },
  voucher: {
    Voucher: [
      { name: "channelId", type: "bytes32" },
      { name: "maxClaimableAmount", type: "uint128" },
    ],
  },
} as const;

// A payment's document as JSON gives it; the straightforward verifier reads it without a schema, as SDKs do.
type Wire = {
  readonly payload: {
    readonly signature: Hex;
    readonly authorization?: Record<string, string>;
    readonly permit2Authorization?: {
      readonly from: Address;
      readonly permitted: { readonly token: Address; readonly amount: string };
      readonly spender: Address;
      readonly nonce: string;
      readonly deadline: string;
      readonly witness: { readonly to: Address; readonly facilitator: Address; readonly validAfter: string };
    };
    readonly channelConfig?: Record<string, string> & { readonly withdrawDelay: number };
    readonly voucher?: { readonly channelId: Hex; readonly maxClaimableAmount: string; readonly signature: Hex };
  };
};

const HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;
/** What tokens' contracts take: 65 bytes, v 27 or 28, s in the lower half. viem alone would take more. */
function taken(signature: string): boolean {
  if (!/^0x[0-9a-fA-F]{130}$/.test(signature)) return false;
  const v = Number.parseInt(signature.slice(130), 16);
  return (v === 27 || v === 28) && BigInt(`0x${signature.slice(66, 130)}`) <= HALF_ORDER;
}

// viem insists on checksums of mixed case, which x402 does not: addresses are spelt anew, as the stock facilitator does.
const spelt = (value: string | undefined): Address => getAddress(value ?? "");
const same = (a: string | undefined, b: string): boolean => isAddressEqual(spelt(a), b as Address);

type Question = Parameters<typeof verifyTypedData>[0];

/** What viem is to verify of a payment, once everything else about it was found right. Throws for what it cannot read. */
function question(kind: Kind, text: string): Question | false {
  const { payload } = JSON.parse(Buffer.from(text, "base64").toString("utf8")) as Wire;
  const chainId = 84_532;
  const now = BigInt(NOW_S);
  if (kind === "voucher") {
    const { channelConfig, voucher } = payload;
    if (!channelConfig || !voucher) return false;
    const domain = { name: "x402 Batch Settlement", version: "1", chainId, verifyingContract: BATCH_SETTLEMENT };
    const { receiver, receiverAuthorizer, token, payer, payerAuthorizer, withdrawDelay } = channelConfig;
    const message = {
      ...channelConfig,
      payer: spelt(payer),
      payerAuthorizer: spelt(payerAuthorizer),
      receiver: spelt(receiver),
      receiverAuthorizer: spelt(receiverAuthorizer),
      token: spelt(token),
    } as never;
    const id = hashTypedData({ domain, types: types.channel, primaryType: "ChannelConfig", message });
    if (id !== voucher.channelId.toLowerCase() || !taken(voucher.signature)) return false;
    if (!same(receiver, PAYEE) || !same(receiverAuthorizer, FACILITATOR) || !same(token, USDC)) return false;
    if (withdrawDelay !== 900) return false;
    return {
      address: spelt(payerAuthorizer),
      domain,
      types: types.voucher,
      primaryType: "Voucher",
      message: { channelId: voucher.channelId, maxClaimableAmount: BigInt(voucher.maxClaimableAmount) },
      signature: voucher.signature,
    };
  }
  const { signature } = payload;
  if (!taken(signature)) return false;
  if (kind === "eip3009") {
    const a = payload.authorization;
    if (!a || !same(a["to"], PAYEE) || BigInt(a["value"] ?? "") !== 1000n) return false;
    if (BigInt(a["validBefore"] ?? "") < now + 6n || BigInt(a["validAfter"] ?? "") > now) return false;
    return {
      address: spelt(a["from"]),
      domain: { name: "USDC", version: "2", chainId, verifyingContract: USDC },
      types: types.eip3009,
      primaryType: "TransferWithAuthorization",
      message: { ...a, from: spelt(a["from"]), to: spelt(a["to"]) },
      signature,
    };
  }
  const p = payload.permit2Authorization;
  if (!p || !same(p.spender, kind === "upto" ? UPTO_PERMIT2_PROXY : EXACT_PERMIT2_PROXY)) return false;
  if (!same(p.witness.to, PAYEE) || !same(p.permitted.token, permit2.asset)) return false;
  if (kind === "upto" && !same(p.witness.facilitator, FACILITATOR)) return false;
  if (BigInt(p.permitted.amount) !== 1000n || BigInt(p.deadline) < now + 6n) return false;
  if (BigInt(p.witness.validAfter) > now) return false;
  return {
    address: spelt(p.from),
    domain: { name: "Permit2", chainId, verifyingContract: PERMIT2 },
    types: types[kind],
    primaryType: "PermitWitnessTransferFrom",
    message: {
      ...p,
      spender: spelt(p.spender),
      permitted: { ...p.permitted, token: spelt(p.permitted.token) },
      witness: {
        ...p.witness,
        to: spelt(p.witness.to),
        ...(kind === "upto" ? { facilitator: spelt(p.witness.facilitator) } : {}),
      },
    },
    signature,
  };
}

/** The same decision written straightforwardly on viem. */
async function viemVerdict(kind: Kind, text: string): Promise<boolean> {
  try {
    const asked = question(kind, text);
    return asked !== false && (await verifyTypedData(asked));
  } catch {
    return false;
  }
}

type Place = { readonly at: Record<string, unknown>; readonly name: string };

function leaves(value: Record<string, unknown>, out: Place[] = []): Place[] {
  for (const [name, member] of Object.entries(value)) {
    if (typeof member === "object" && member !== null) leaves(member as Record<string, unknown>, out);
    else out.push({ at: value, name });
  }
  return out;
}

/** The header with one leaf of its payload changed; one in 16 is left as it was. */
function changed(text: string): string {
  if (random(16) === 0) return text;
  const document = JSON.parse(Buffer.from(text, "base64").toString("utf8")) as { payload: Record<string, unknown> };
  const places = leaves(document.payload).filter(({ name }) => name !== "type");
  // Every second change is of a signature or of a nonce, where only the recovered address tells.
  const deep = places.filter(({ name }) => name === "signature" || name === "nonce" || name === "salt");
  const from = random(2) === 0 ? deep : places;
  const place = from[random(from.length)];
  if (place === undefined) throw new Error("The payment has no members.");
  const value = place.at[place.name];
  if (typeof value === "number") place.at[place.name] = value + random(3) - 1;
  else if (typeof value === "string" && value.startsWith("0x")) {
    const digit = 2 + random(value.length - 2);
    const bit = (Number.parseInt(value.charAt(digit), 16) ^ (1 << random(4))).toString(16);
    const cut = [value.slice(0, -2), `${value}00`, "0x", value.toUpperCase().replace("0X", "0x")];
    place.at[place.name] =
      random(8) === 0 ? cut[random(cut.length)] : `${value.slice(0, digit)}${bit}${value.slice(digit + 1)}`;
  } else if (typeof value === "string") {
    const number = BigInt(value);
    const others = [number + 1n, number - 1n, number * 2n, 0n, 1n << 256n, (1n << 53n) + number, number];
    place.at[place.name] = others[random(others.length)]?.toString();
  }
  return Buffer.from(JSON.stringify(document)).toString("base64");
}

/** Runs `step` for about `seconds` of processor time, warm, and returns the rate per second of it. */
async function rate(seconds: number, step: (i: number) => unknown): Promise<number> {
  await run(seconds / 2, step);
  return run(seconds, step);
}

async function run(seconds: number, step: (i: number) => unknown): Promise<number> {
  const start = process.cpuUsage();
  let done = 0;
  let used = 0;
  while (used < seconds) {
    for (let i = 0; i < 50; i++) {
      const result = step(done++);
      if (result instanceof Promise) await result;
    }
    const { user, system } = process.cpuUsage(start);
    used = (user + system) / 1e6;
  }
  return done / used;
}

const count = Number(process.argv[2] ?? 100_000);
if (!Number.isSafeInteger(count) || count < 1) throw new Error("Say how many payments are to be changed.");
const headers = new Map<Kind, readonly string[]>();
for (const kind of kinds) {
  const payloads = await signed(kind);
  headers.set(
    kind,
    payloads.map((payload) => encodePayment(suite, payload).value),
  );
}
const pick = (kind: Kind, i: number): string => {
  const all = headers.get(kind) ?? [];
  const text = all[i % all.length];
  if (text === undefined) throw new Error("There are no payments.");
  return text;
};
for (const kind of kinds) {
  for (let i = 0; i < PAYERS * PER_PAYER; i++) {
    if (!verdict(pick(kind, i), suite)) throw new Error(`A good payment of kind ${kind} is refused.`);
  }
  if (!(await viemVerdict(kind, pick(kind, 0)))) throw new Error(`viem refuses a good payment of kind ${kind}.`);
}

console.log(`node ${process.version}, ${suite.backend}, per second of processor time`);
const line = (name: string, perSecond: number, more: string): void =>
  console.log(`${name.padEnd(60)} ${perSecond.toFixed(0).padStart(7)}/s   ${more}`);
const digest = fromHex(`0x${"5a".repeat(32)}`);
const one = await evmSigner(fromHex(`0x${"11".repeat(32)}`)).signDigest(digest);
const recovered = await rate(SECONDS, () => suite.recover(digest, one.subarray(0, 64), one[64] === 28 ? 1 : 0));
line("floor: recovering the key alone, native", recovered, "");
const authorization = {
  from: PAYEE,
  to: PAYEE,
  value: 1000n,
  validAfter: 0n,
  validBefore: 1_800_000_900n,
  nonce: digest,
};
const domain = { name: "USDC", version: "2", chainId: 84_532, verifyingContract: USDC };
const digests = await rate(1, () => transferDigest(suite, domain, authorization));
const viemDigests = await rate(1, () =>
  hashTypedData({
    domain,
    types: types.eip3009,
    primaryType: "TransferWithAuthorization",
    message: { ...authorization, nonce: toHex(digest) },
  }),
);
line(
  "digest of an authorization by EIP-3009",
  digests,
  `${(digests / viemDigests).toFixed(1)} x viem's ${viemDigests.toFixed(0)}/s`,
);
let slowest = Number.POSITIVE_INFINITY;
let lowest = Number.POSITIVE_INFINITY;
for (const kind of kinds) {
  // viem's verifyTypedData and nothing else: the payments were read and checked before.
  const questions = (headers.get(kind) ?? []).map((text) => question(kind, text));
  const theirs = await rate(SECONDS, (i) => {
    const asked = questions[i % questions.length];
    if (!asked) throw new Error(`There is nothing to verify in a good payment of kind ${kind}.`);
    return verifyTypedData(asked);
  });
  const ours = await rate(SECONDS, (i) => verdict(pick(kind, i), suite));
  slowest = Math.min(slowest, ours);
  lowest = Math.min(lowest, ours / theirs);
  line(
    `${kind}: header to verdict, native`,
    ours,
    `${(ours / theirs).toFixed(1)} x verifyTypedData ${theirs.toFixed(0)}/s, ${(ours / recovered).toFixed(2)} of the floor`,
  );
}
line(
  "eip3009: header to verdict, pure JavaScript",
  await rate(SECONDS, (i) => verdict(pick("eip3009", i), nobleEvmSuite)),
  "",
);
console.log(`least: ${slowest.toFixed(0)}/s (goal 5000), ${lowest.toFixed(1)} x verifyTypedData (goal 10)`);

let differing = 0;
let accepted = 0;
for (let i = 0; i < count; i++) {
  const kind = kinds[i % kinds.length] ?? "eip3009";
  const text = changed(pick(kind, random(PAYERS * PER_PAYER)));
  const ours = verdict(text, suite);
  const theirs = await viemVerdict(kind, text);
  if (ours) accepted++;
  if (ours !== theirs) {
    differing++;
    if (differing <= 5)
      console.log(`differs (${kind}): ours ${ours}, viem ${theirs}: ${Buffer.from(text, "base64").toString("utf8")}`);
  }
}
console.log(
  `${count} changed payments: ${accepted} taken, ${count - accepted} refused, ${differing} decided otherwise than by viem (goal 0)`,
);
if (differing > 0) process.exitCode = 1;
