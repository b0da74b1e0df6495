import { AssayError, bytesToHex, decodeCbor, encodeCbor, hexToBytes } from "@assay/core";
import type { CborValue } from "@assay/core";
import type { ListedPayee } from "@assay/protocol";
import type {
  Address,
  ChannelConfig,
  Eip2612Permit,
  Hex,
  Network,
  Payment,
  PaymentPayload,
  PaymentRequirements,
  Permit2Authorization,
  RequirementExtra,
  Scheme,
  Voucher,
} from "@assay/x402";

/** How a paid call's receipt reaches the chain. */
export type SettlementMode = "private" | "batch" | "individual";

/**
 * What the ledger keeps in a record of the log beside a receipt: everything that is needed to settle its payment, and to
 * rebuild its row, when nothing but the log is left.
 */
export type Instruction = {
  /** 32 bytes. */
  readonly paymentId: Hex;
  readonly payer: Address;
  readonly scheme: Scheme;
  readonly network: Network;
  readonly asset: Address;
  /** What is charged, at most the cap. */
  readonly amountAtomic: bigint;
  readonly capAtomic: bigint;
  readonly payTo: Address;
  /** Shares of what arrives at `payTo`, when that is a splitter. */
  readonly payees: readonly ListedPayee[];
  readonly settlement: SettlementMode;
  /** Last second at which the signature can be used, Unix seconds. */
  readonly deadlineS: number;
  /** SHA-256 of the listing's canonical JSON, lower-case hex: what the price's `rateSource` names. */
  readonly listing: string;
  /** What the payment is bound to: SHA-256 of the request. */
  readonly fingerprint: Uint8Array;
  readonly idempotencyKey?: string;
  /** The channel that a voucher or deposit belongs to, 32 bytes. */
  readonly channelId?: Uint8Array;
  /** Boot id of the process that took it, and when. */
  readonly takenBy: string;
  readonly takenAtMs: number;
  /** What was offered and accepted, without what a corrective 402 adds of a channel's state. */
  readonly requirement: PaymentRequirements;
  /** What the payer signed; `accepted` is left out, because the requirement above is the one that counts. */
  readonly payload: PaymentPayload;
};

/** First item of every instruction: a format that changes gets another. */
const DOMAIN = "assay/payment-instruction/1";
/** A signature of a contract account may be long, and headers end at 16 KiB before decoding. */
export const MAX_INSTRUCTION_BYTES = 32 * 1024;
const MAX_TEXT = 256;
/** A splitter has that many at most (SplitFactory). */
const MAX_PAYEES = 16;
const MAX_SIGNATURE_BYTES = 16 * 1024;
const SCHEMES = ["exact", "upto", "batch-settlement"] as const;
const SETTLEMENTS = ["private", "batch", "individual"] as const;
const KINDS = ["eip3009", "permit2", "upto", "deposit", "voucher", "refund"] as const;
const TRANSFER_METHODS = ["eip3009", "permit2"] as const;

/** Deterministic CBOR of an instruction: one array, items in a fixed order, absent ones null. */
export function encodeInstruction(instruction: Instruction): Uint8Array {
  const { payload, requirement } = instruction;
  const bytes = encodeCbor([
    DOMAIN,
    hexBytes(instruction.paymentId),
    hexBytes(instruction.payer),
    instruction.scheme,
    instruction.network,
    hexBytes(instruction.asset),
    uint(instruction.amountAtomic),
    uint(instruction.capAtomic),
    hexBytes(instruction.payTo),
    instruction.payees.map(({ address, basisPoints }) => [hexBytes(address), basisPoints]),
    instruction.settlement,
    instruction.deadlineS,
    hexToBytes(instruction.listing),
    instruction.fingerprint,
    instruction.idempotencyKey ?? null,
    instruction.channelId ?? null,
    instruction.takenBy,
    instruction.takenAtMs,
    [requirement.amount, requirement.maxTimeoutSeconds, ...extraItems(requirement.extra)],
    payload.version,
    payload.identifier ?? null,
    payload.payment.kind,
    paymentItems(payload.payment),
  ]);
  if (bytes.length > MAX_INSTRUCTION_BYTES)
    throw new AssayError("instruction_invalid", `A payment instruction of ${bytes.length} bytes is too large to keep.`);
  return bytes;
}

/** Reads an instruction. Throws `instruction_invalid`: these bytes are our own, so anything unexpected is damage. */
export function decodeInstruction(bytes: Uint8Array): Instruction {
  let value: CborValue;
  try {
    value = decodeCbor(bytes, { maxBytes: MAX_INSTRUCTION_BYTES, maxDepth: 6, maxItems: 256 });
  } catch (cause) {
    throw damaged("is not deterministic CBOR", cause);
  }
  const items = new Items(value);
  if (items.text() !== DOMAIN) throw damaged("has another format");
  const paymentId = items.hex(32);
  const payer = items.address();
  const scheme = items.oneOf(SCHEMES);
  const network = items.network();
  const asset = items.address();
  const amountAtomic = items.uint();
  const capAtomic = items.uint();
  const payTo = items.address();
  const payees = items.list(MAX_PAYEES, (payee) => ({ address: payee.address(), basisPoints: payee.integer() }));
  const settlement = items.oneOf(SETTLEMENTS);
  const deadlineS = items.integer();
  const listing = bytesToHex(items.bytes(32));
  const fingerprint = items.bytes(32);
  const idempotencyKey = items.optional(() => items.text());
  const channelId = items.optional(() => items.bytes(32));
  const takenBy = items.text();
  const takenAtMs = items.integer();
  const offered = items.nested();
  const amount = offered.decimal();
  const maxTimeoutSeconds = offered.integer();
  const extra = readExtra(offered);
  offered.end();
  const version = items.integer();
  if (version !== 1 && version !== 2) throw damaged("names an unknown version of the headers");
  const identifier = items.optional(() => items.text());
  const kind = items.oneOf(KINDS);
  const signed = items.nested();
  const payment = readPayment(kind, signed);
  signed.end();
  items.end();
  if (amountAtomic > capAtomic) throw damaged("charges more than its cap");
  return {
    paymentId,
    payer,
    scheme,
    network,
    asset,
    amountAtomic,
    capAtomic,
    payTo,
    payees,
    settlement,
    deadlineS,
    listing,
    fingerprint,
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    ...(channelId === undefined ? {} : { channelId }),
    takenBy,
    takenAtMs,
    requirement: { scheme, network, amount, asset, payTo, maxTimeoutSeconds, extra },
    payload: { version, scheme, network, payment, ...(identifier === undefined ? {} : { identifier }) },
  };
}

function extraItems(extra: RequirementExtra): CborValue[] {
  return [
    extra.name,
    extra.version,
    extra.assetTransferMethod ?? null,
    extra.facilitatorAddress ? hexBytes(extra.facilitatorAddress) : null,
    extra.receiverAuthorizer ? hexBytes(extra.receiverAuthorizer) : null,
    extra.withdrawDelay ?? null,
    extra.minDeposit ?? null,
  ];
}

function readExtra(items: Items): RequirementExtra {
  const name = items.text();
  const version = items.text();
  const assetTransferMethod = items.optional(() => items.oneOf(TRANSFER_METHODS));
  const facilitatorAddress = items.optional(() => items.address());
  const receiverAuthorizer = items.optional(() => items.address());
  const withdrawDelay = items.optional(() => items.integer());
  const minDeposit = items.optional(() => items.decimal());
  return {
    name,
    version,
    ...(assetTransferMethod === undefined ? {} : { assetTransferMethod }),
    ...(facilitatorAddress === undefined ? {} : { facilitatorAddress }),
    ...(receiverAuthorizer === undefined ? {} : { receiverAuthorizer }),
    ...(withdrawDelay === undefined ? {} : { withdrawDelay }),
    ...(minDeposit === undefined ? {} : { minDeposit }),
  };
}

function paymentItems(payment: Payment): CborValue[] {
  switch (payment.kind) {
    case "eip3009": {
      const { from, to, value, validAfter, validBefore, nonce } = payment.authorization;
      return [hexBytes(from), hexBytes(to), uint(value), uint(validAfter), uint(validBefore), nonce, payment.signature];
    }
    case "permit2":
      return [
        permitItems(payment.permit),
        hexBytes(payment.witness.to),
        uint(payment.witness.validAfter),
        payment.signature,
        sponsoredItems(payment.sponsored),
      ];
    case "upto":
      return [
        permitItems(payment.permit),
        hexBytes(payment.witness.to),
        hexBytes(payment.witness.facilitator),
        uint(payment.witness.validAfter),
        payment.signature,
        sponsoredItems(payment.sponsored),
      ];
    case "deposit": {
      const { by } = payment;
      return [
        channelItems(payment.channel),
        voucherItems(payment.voucher),
        uint(payment.amount),
        by.kind === "eip3009"
          ? ["eip3009", uint(by.validAfter), uint(by.validBefore), by.salt, by.signature]
          : ["permit2", permitItems(by.permit), by.signature, sponsoredItems(by.sponsored)],
      ];
    }
    case "voucher":
      return [channelItems(payment.channel), voucherItems(payment.voucher)];
    case "refund":
      return [
        channelItems(payment.channel),
        voucherItems(payment.voucher),
        payment.amount === undefined ? null : uint(payment.amount),
      ];
  }
}

function readPayment(kind: Payment["kind"], items: Items): Payment {
  switch (kind) {
    case "eip3009":
      return {
        kind,
        authorization: {
          from: items.address(),
          to: items.address(),
          value: items.uint(),
          validAfter: items.uint(),
          validBefore: items.uint(),
          nonce: items.bytes(32),
        },
        signature: items.signature(),
      };
    case "permit2": {
      const permit = readPermit(items.nested());
      const witness = { to: items.address(), validAfter: items.uint() };
      const signature = items.signature();
      return { kind, permit, witness, signature, ...readSponsored(items) };
    }
    case "upto": {
      const permit = readPermit(items.nested());
      const witness = { to: items.address(), facilitator: items.address(), validAfter: items.uint() };
      const signature = items.signature();
      return { kind, permit, witness, signature, ...readSponsored(items) };
    }
    case "deposit": {
      const channel = readChannel(items.nested());
      const voucher = readVoucher(items.nested());
      const amount = items.uint();
      const by = items.nested();
      if (by.oneOf(TRANSFER_METHODS) === "eip3009") {
        const [validAfter, validBefore] = [by.uint(), by.uint()];
        const salt = by.bytes(32);
        const signature = by.signature();
        by.end();
        return { kind, channel, voucher, amount, by: { kind: "eip3009", validAfter, validBefore, salt, signature } };
      }
      const permit = readPermit(by.nested());
      const signature = by.signature();
      const sponsored = readSponsored(by);
      by.end();
      return { kind, channel, voucher, amount, by: { kind: "permit2", permit, signature, ...sponsored } };
    }
    case "voucher":
      return { kind, channel: readChannel(items.nested()), voucher: readVoucher(items.nested()) };
    case "refund": {
      const channel = readChannel(items.nested());
      const voucher = readVoucher(items.nested());
      const amount = items.optional(() => items.uint());
      return { kind, channel, voucher, ...(amount === undefined ? {} : { amount }) };
    }
  }
}

function permitItems(permit: Permit2Authorization): CborValue[] {
  const { from, token, amount, spender, nonce, deadline } = permit;
  return [hexBytes(from), hexBytes(token), uint(amount), hexBytes(spender), uint(nonce), uint(deadline)];
}

function readPermit(items: Items): Permit2Authorization {
  const permit = {
    from: items.address(),
    token: items.address(),
    amount: items.uint(),
    spender: items.address(),
    nonce: items.uint(),
    deadline: items.uint(),
  };
  items.end();
  return permit;
}

function sponsoredItems(permit: Eip2612Permit | undefined): CborValue {
  if (!permit) return null;
  const { owner, spender, asset, amount, nonce, deadline, signature } = permit;
  return [hexBytes(owner), hexBytes(spender), hexBytes(asset), uint(amount), uint(nonce), uint(deadline), signature];
}

function readSponsored(items: Items): { readonly sponsored?: Eip2612Permit } {
  return (
    items.optional(() => {
      const permit = items.nested();
      const sponsored = {
        owner: permit.address(),
        spender: permit.address(),
        asset: permit.address(),
        amount: permit.uint(),
        nonce: permit.uint(),
        deadline: permit.uint(),
        signature: permit.signature(),
      };
      permit.end();
      return { sponsored };
    }) ?? {}
  );
}

function channelItems(channel: ChannelConfig): CborValue[] {
  return [
    hexBytes(channel.payer),
    hexBytes(channel.payerAuthorizer),
    hexBytes(channel.receiver),
    hexBytes(channel.receiverAuthorizer),
    hexBytes(channel.token),
    channel.withdrawDelay,
    channel.salt,
  ];
}

function readChannel(items: Items): ChannelConfig {
  const channel = {
    payer: items.address(),
    payerAuthorizer: items.address(),
    receiver: items.address(),
    receiverAuthorizer: items.address(),
    token: items.address(),
    withdrawDelay: items.integer(),
    salt: items.bytes(32),
  };
  items.end();
  return channel;
}

function voucherItems(voucher: Voucher): CborValue[] {
  return [voucher.channelId, uint(voucher.maxClaimable), voucher.signature];
}

function readVoucher(items: Items): Voucher {
  const voucher = { channelId: items.bytes(32), maxClaimable: items.uint(), signature: items.signature() };
  items.end();
  return voucher;
}

/** Bytes of `0x…`, whatever case its digits have. */
function hexBytes(hex: string): Uint8Array {
  return hexToBytes(hex.slice(2).toLowerCase());
}

/** Up to 256 bits, big-endian without leading zeros: CBOR's own integers end at 64 bits. */
function uint(value: bigint): Uint8Array {
  if (value < 0n || value >> 256n !== 0n)
    throw new AssayError(
      "instruction_invalid",
      "An amount in a payment instruction is not an unsigned 256-bit number.",
    );
  if (value === 0n) return new Uint8Array();
  const digits = value.toString(16);
  return hexToBytes(digits.length % 2 === 0 ? digits : `0${digits}`);
}

/** Takes an array's items one after the other, each as what it has to be. */
class Items {
  readonly #items: readonly CborValue[];
  #at = 0;

  constructor(value: CborValue | undefined) {
    if (!Array.isArray(value)) throw damaged("has a value where a list belongs");
    this.#items = value as readonly CborValue[];
  }

  #next(): CborValue {
    const item = this.#items[this.#at++];
    if (item === undefined) throw damaged("ends too early");
    return item;
  }

  end(): void {
    if (this.#at !== this.#items.length) throw damaged("has more items than belong");
  }

  nested(): Items {
    return new Items(this.#next());
  }

  optional<T>(read: () => T): T | undefined {
    if (this.#items[this.#at] !== null) return read();
    this.#at++;
    return undefined;
  }

  text(): string {
    const item = this.#next();
    if (typeof item !== "string" || item.length > MAX_TEXT) throw damaged("has no text where one belongs");
    return item;
  }

  integer(): number {
    const item = this.#next();
    if (typeof item !== "number" || !Number.isSafeInteger(item) || item < 0)
      throw damaged("has no count where one belongs");
    return item;
  }

  bytes(length: number): Uint8Array {
    const item = this.#next();
    if (!(item instanceof Uint8Array) || item.length !== length)
      throw damaged(`has no ${length} bytes where they belong`);
    return item;
  }

  signature(): Uint8Array {
    const item = this.#next();
    if (!(item instanceof Uint8Array) || item.length > MAX_SIGNATURE_BYTES)
      throw damaged("has no signature where one belongs");
    return item;
  }

  uint(): bigint {
    const item = this.#next();
    if (!(item instanceof Uint8Array) || item.length > 32 || item[0] === 0)
      throw damaged("has no amount where one belongs");
    return item.length === 0 ? 0n : BigInt(`0x${bytesToHex(item)}`);
  }

  decimal(): string {
    const text = this.text();
    if (!/^(0|[1-9][0-9]{0,77})$/.test(text)) throw damaged("has no decimal amount where one belongs");
    return text;
  }

  hex(length: number): Hex {
    return `0x${bytesToHex(this.bytes(length))}`;
  }

  address(): Address {
    return this.hex(20);
  }

  network(): Network {
    const match = /^eip155:([1-9][0-9]{0,15})$/.exec(this.text());
    if (!match) throw damaged("names no EVM chain");
    return `eip155:${Number(match[1])}`;
  }

  oneOf<const T extends string>(names: readonly T[]): T {
    const text = this.text();
    const found = names.find((name) => name === text);
    if (found === undefined) throw damaged(`has ${JSON.stringify(text)}, which this program does not know`);
    return found;
  }

  list<T>(max: number, read: (items: Items) => T): readonly T[] {
    const nested = this.nested();
    if (nested.#items.length > max) throw damaged("has too many payees");
    return nested.#items.map((item) => {
      const items = new Items(item);
      const value = read(items);
      items.end();
      return value;
    });
  }
}

function damaged(why: string, cause?: unknown): AssayError<"instruction_invalid"> {
  return new AssayError("instruction_invalid", `A payment instruction beside the log ${why}.`, {
    hints: ["Run `assay doctor`; if the disk is sound, restore the log's directory from a copy."],
    ...(cause === undefined ? {} : { cause }),
  });
}
