import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import {
  BATCH_SETTLEMENT_ADDRESS,
  BATCH_SETTLEMENT_DOMAIN,
  ERC3009_DEPOSIT_COLLECTOR_ADDRESS,
  PERMIT2_ADDRESS,
  authorizationTypes,
  claimBatchTypes,
  eip3009ABI,
  permit2WitnessTypes,
  refundTypes,
  toFacilitatorEvmSigner,
  uptoPermit2WitnessTypes,
  voucherTypes,
  x402ExactPermit2ProxyABI,
  x402ExactPermit2ProxyAddress,
  x402UptoPermit2ProxyABI,
  x402UptoPermit2ProxyAddress,
} from "@x402/evm";
import { BatchSettlementEvmScheme as BatchClient, computeChannelId } from "@x402/evm/batch-settlement/client";
import { BatchSettlementEvmScheme as BatchFacilitator } from "@x402/evm/batch-settlement/facilitator";
import type { PaymentPayload, PaymentRequirements } from "@x402/core/types";
import {
  concatHex,
  createPublicClient,
  createWalletClient,
  encodeAbiParameters,
  encodeDeployData,
  getContractAddress,
  hashTypedData,
  http,
  keccak256,
  padHex,
  parseAbi,
  publicActions,
  stringToHex,
  toBytes,
  toEventSelector,
  toFunctionSelector,
} from "viem";
import type { Abi, AbiEvent, AbiFunction, Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as contracts from "./index.ts";

const { canonicalAddresses: canonical } = contracts;

/** Selectors of functions with what they return, and topics of events, in order. */
function wire(abi: Abi): string[] {
  const outputs = (entry: AbiFunction): string => JSON.stringify(entry.outputs.map(({ type }) => type));
  return abi
    .flatMap((entry) => {
      if (entry.type === "function") return [`${toFunctionSelector(entry)} ${outputs(entry)} ${entry.stateMutability}`];
      return entry.type === "event" ? [`${toEventSelector(entry as AbiEvent)} ${entry.name}`] : [];
    })
    .sort();
}

type Types = Readonly<Record<string, readonly { readonly name: string; readonly type: string }[]>>;

/** encodeType of EIP-712 for types whose referenced structs refer to no others: the primary one, then those by name. */
function encodeType({ primaryType, types }: { primaryType: string; types: Types }): string {
  const text = (name: string): string =>
    `${name}(${(types[name] ?? []).map((member) => `${member.type} ${member.name}`).join(",")})`;
  const referenced = (types[primaryType] ?? []).map(({ type }) => type).filter((type) => type in types);
  return [primaryType, ...referenced.sort()].map(text).join("");
}

const errorsOf = (abi: Abi): string[] => abi.flatMap((entry) => (entry.type === "error" ? [entry.name] : []));
const bytes = (hash: Hex): Uint8Array => Uint8Array.from(Buffer.from(hash.slice(2), "hex"));
const keccak = (input: Uint8Array): Uint8Array => bytes(keccak256(input));

describe("what is canonical", () => {
  test("addresses are those that clients have built in", () => {
    expect(canonical.permit2).toBe(PERMIT2_ADDRESS.toLowerCase());
    expect(canonical.exactPermit2Proxy).toBe(x402ExactPermit2ProxyAddress.toLowerCase());
    expect(canonical.uptoPermit2Proxy).toBe(x402UptoPermit2ProxyAddress.toLowerCase());
    expect(canonical.batchSettlement).toBe(BATCH_SETTLEMENT_ADDRESS.toLowerCase());
    expect(canonical.erc3009DepositCollector).toBe(ERC3009_DEPOSIT_COLLECTOR_ADDRESS.toLowerCase());
  });

  test("Permit2's init code proves itself by its address", () => {
    const at = (bytecode: Hex): string =>
      getContractAddress({
        opcode: "CREATE2",
        from: contracts.create2Deployer,
        salt: contracts.permit2.salt,
        bytecode,
      }).toLowerCase();
    expect(at(contracts.permit2.bytecode)).toBe(canonical.permit2);
    expect(at(`${contracts.permit2.bytecode}00`)).not.toBe(canonical.permit2);
  });

  test.each([
    ["exact", contracts.exactPermit2Proxy.abi, x402ExactPermit2ProxyABI],
    ["upto", contracts.uptoPermit2Proxy.abi, x402UptoPermit2ProxyABI],
  ] as const)("the %s proxy has the interface that clients expect", (_, ours, theirs) => {
    expect(wire(ours)).toEqual(wire(theirs));
    // A constructor's refusal and a guard's are not ours to have: there is neither.
    const absent = new Set(["InvalidPermit2Address", "ReentrancyGuardReentrantCall"]);
    const expected = errorsOf(theirs).filter((name) => !absent.has(name));
    expect(errorsOf(ours).sort()).toEqual(expected.sort());
  });

  test("test dollars have what clients call on a dollar", () => {
    for (const { abi } of [contracts.testUsdc, contracts.testUsdCoin]) {
      const selectors = abi.flatMap((entry) => (entry.type === "function" ? [toFunctionSelector(entry)] : []));
      expect(selectors).toEqual(expect.arrayContaining(eip3009ABI.map((entry) => toFunctionSelector(entry))));
    }
  });

  test("the channel contract has the interface of the specification", () => {
    const config =
      "(address payer, address payerAuthorizer, address receiver, address receiverAuthorizer, address token, uint40 withdrawDelay, bytes32 salt)";
    const claims = `((${config} channel, uint128 maxClaimableAmount) voucher, bytes signature, uint128 totalClaimed)[]`;
    const specified = parseAbi([
      "function multicall(bytes[] data) returns (bytes[] results)",
      `function deposit(${config} config, uint128 amount, address collector, bytes collectorData)`,
      `function claim(${claims} voucherClaims)`,
      `function claimWithSignature(${claims} voucherClaims, bytes authorizerSignature)`,
      "function settle(address receiver, address token)",
      `function initiateWithdraw(${config} config, uint128 amount)`,
      `function finalizeWithdraw(${config} config)`,
      `function refund(${config} config, uint128 amount)`,
      `function refundWithSignature(${config} config, uint128 amount, uint256 nonce, bytes signature)`,
      `function getChannelId(${config} config) view returns (bytes32)`,
      "function CHANNEL_CONFIG_TYPEHASH() view returns (bytes32)",
      "function channels(bytes32 channelId) view returns (uint128 balance, uint128 totalClaimed)",
      "function pendingWithdrawals(bytes32 channelId) view returns (uint128 amount, uint40 initiatedAt)",
      "function receivers(address receiver, address token) view returns (uint128 totalClaimed, uint128 totalSettled)",
      "function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) view returns (bytes32)",
      "function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) view returns (bytes32)",
      "function refundNonce(bytes32 channelId) view returns (uint256)",
      `function getClaimBatchDigest(${claims} voucherClaims) view returns (bytes32)`,
      "event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount)",
    ]);
    expect(wire(contracts.batchSettlement.abi)).toEqual(expect.arrayContaining(wire(specified)));
  });

  test("what is placed by code alone has no constructor that takes anything", () => {
    for (const artifact of [
      contracts.exactPermit2Proxy,
      contracts.uptoPermit2Proxy,
      contracts.batchSettlement,
      contracts.erc3009DepositCollector,
      contracts.permit2DepositCollector,
      contracts.multicall3,
      contracts.testUsdc,
      contracts.testUsdCoin,
    ]) {
      const inputs = (artifact.abi as Abi).flatMap((entry) => (entry.type === "constructor" ? entry.inputs : []));
      expect(inputs).toEqual([]);
      // The code is the end of what creates it, unchanged: nothing is filled in.
      expect(artifact.bytecode.endsWith(artifact.deployedBytecode.slice(2))).toBe(true);
    }
  });
});

describe("split addresses", () => {
  const payee = { address: padHex("0x01", { size: 20 }), basisPoints: 10_000 };

  test.each([
    ["no payee", []],
    ["seventeen payees", Array.from({ length: 17 }, () => ({ ...payee, basisPoints: 588 }))],
    ["a sum below 10,000", [{ ...payee, basisPoints: 9_999 }]],
    ["a sum above 10,000", [payee, { ...payee, basisPoints: 1 }]],
    ["a share of zero", [payee, { ...payee, basisPoints: 0 }]],
    [
      "a negative share",
      [
        { ...payee, basisPoints: 10_001 },
        { ...payee, basisPoints: -1 },
      ],
    ],
    [
      "half a basis point",
      [
        { ...payee, basisPoints: 9_999.5 },
        { ...payee, basisPoints: 0.5 },
      ],
    ],
    ["the zero address", [{ ...payee, address: padHex("0x", { size: 20 }) }]],
    ["a short address", [{ ...payee, address: "0x01" as const }]],
    ["no hex", [{ ...payee, address: `0x${"g".repeat(40)}` as const }]],
  ])("%s is refused", (_, payees) => {
    expect(() => contracts.splitAddressOf(keccak, payees)).toThrow(RangeError);
  });
});

describe("on a chain", () => {
  const client = privateKeyToAccount(generatePrivateKey());
  const operator = privateKeyToAccount(generatePrivateKey());
  const receiver = privateKeyToAccount(generatePrivateKey());
  const authorizer = privateKeyToAccount(generatePrivateKey());
  const usdc = contracts.developmentProfiles[31337].usdc;
  let node: ChildProcess;
  let wallet: ReturnType<typeof connect>;

  function connect(url: string) {
    return createWalletClient({
      account: operator,
      chain: foundry,
      transport: http(url),
      pollingInterval: 20,
    }).extend(publicActions);
  }

  const cheat = (method: string, ...params: unknown[]): Promise<unknown> => wallet.request({ method, params } as never);

  const read = (address: Hex, abi: Abi, functionName: string, args: readonly unknown[] = []): Promise<unknown> =>
    createPublicClient({ transport: http(wallet.transport["url"] as string) }).readContract({
      address,
      abi,
      functionName,
      args,
    });

  async function send(to: Hex, data: Hex): Promise<void> {
    const hash = await wallet.sendTransaction({ to, data });
    const receipt = await wallet.waitForTransactionReceipt({ hash });
    expect(receipt.status).toBe("success");
  }

  beforeAll(async () => {
    const outer = createRequire(import.meta.url).resolve("@foundry-rs/anvil/package.json");
    const machine = { x64: "amd64", arm64: "arm64" }[process.arch as "x64" | "arm64"];
    const inner = createRequire(outer).resolve(`@foundry-rs/anvil-${process.platform}-${machine}/package.json`);
    node = spawn(join(dirname(inner), "bin/anvil"), ["--host", "127.0.0.1", "--port", "0"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const url = await new Promise<string>((resolve, reject) => {
      let said = "";
      node.once("exit", (code) => reject(new Error(`The chain ended with ${code}: ${said}`)));
      node.stdout?.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        const port = /Listening on 127\.0\.0\.1:(\d+)/.exec(said)?.[1];
        if (port !== undefined) resolve(`http://127.0.0.1:${port}`);
      });
    });
    wallet = connect(url);
    const { permit2: _, ...placed } = canonical;
    const artifacts = {
      exactPermit2Proxy: contracts.exactPermit2Proxy,
      uptoPermit2Proxy: contracts.uptoPermit2Proxy,
      batchSettlement: contracts.batchSettlement,
      erc3009DepositCollector: contracts.erc3009DepositCollector,
      permit2DepositCollector: contracts.permit2DepositCollector,
      multicall3: contracts.multicall3,
    } satisfies Record<keyof typeof placed, contracts.Artifact>;
    for (const key of Object.keys(placed) as (keyof typeof placed)[])
      await cheat("anvil_setCode", placed[key], artifacts[key].deployedBytecode);
    await cheat("anvil_setCode", usdc.address, contracts.testUsdc.deployedBytecode);
    for (const { address } of [operator, receiver]) await cheat("anvil_setBalance", address, "0x56bc75e2d63100000");
    await send(contracts.create2Deployer, concatHex([contracts.permit2.salt, contracts.permit2.bytecode]));
    await send(contracts.create2Deployer, concatHex([contracts.zeroSalt, contracts.splitFactory.bytecode]));
    await send(contracts.create2Deployer, concatHex([contracts.zeroSalt, contracts.testWalletFactory.bytecode]));
    const hash = await wallet.writeContract({
      address: usdc.address,
      abi: contracts.testUsdc.abi,
      functionName: "mint",
      args: [client.address, 1_000_000n],
    });
    await wallet.waitForTransactionReceipt({ hash });
  });

  afterAll(async () => {
    if (node.exitCode !== null) return;
    const ended = new Promise((resolve) => node.once("exit", resolve));
    node.kill("SIGKILL");
    await ended;
  });

  test("factories land where they are said to, and Permit2 too", async () => {
    for (const address of [
      canonical.permit2,
      contracts.splitFactoryAddress,
      contracts.splitImplementationAddress,
      contracts.testWalletFactoryAddress,
    ])
      expect((await wallet.getCode({ address }))?.length).toBeGreaterThan(100);
  });

  test.each([1, 2, 9, 16])("a split of %i payees has the address that is computed without a chain", async (count) => {
    const payees = Array.from({ length: count }, (_, index) => ({
      address: keccak256(stringToHex(`payee ${index}`)).slice(0, 42) as Hex,
      basisPoints: index === 0 ? 10_000 - 7 * (count - 1) : 7,
    }));
    const args = [payees.map(({ address }) => address), payees.map(({ basisPoints }) => basisPoints)];
    const placed = (await read(contracts.splitFactoryAddress, contracts.splitFactory.abi, "splitOf", args)) as Hex;
    expect(contracts.splitAddressOf(keccak, payees)).toBe(placed.toLowerCase());
    // Checksummed ones are the same payees; another order is another split.
    expect(
      contracts.splitAddressOf(
        keccak,
        payees.map((payee) => ({ ...payee, address: payee.address.toUpperCase().replace("0X", "0x") as Hex })),
      ),
    ).toBe(placed.toLowerCase());
    if (count > 1) expect(contracts.splitAddressOf(keccak, payees.toReversed())).not.toBe(placed.toLowerCase());
  });

  test("digests are those of the types that clients sign", async () => {
    const domain = { ...BATCH_SETTLEMENT_DOMAIN, chainId: 31337, verifyingContract: BATCH_SETTLEMENT_ADDRESS };
    expect(contracts.batchSettlementDomain).toEqual(BATCH_SETTLEMENT_DOMAIN);
    const config = channelConfig();
    const channelId = computeChannelId(config, 31337);
    const batch = (functionName: string, args: readonly unknown[]): Promise<unknown> =>
      read(canonical.batchSettlement, contracts.batchSettlement.abi, functionName, args);
    expect(await batch("getChannelId", [config])).toBe(channelId);
    expect(await batch("getVoucherDigest", [channelId, 5n])).toBe(
      hashTypedData({
        domain,
        types: voucherTypes,
        primaryType: "Voucher",
        message: { channelId, maxClaimableAmount: 5n },
      }),
    );
    expect(await batch("getRefundDigest", [channelId, 2n, 7n])).toBe(
      hashTypedData({
        domain,
        types: refundTypes,
        primaryType: "Refund",
        message: { channelId, nonce: 2n, amount: 7n },
      }),
    );
    const entry = { channelId, maxClaimableAmount: 9n, totalClaimed: 8n };
    const claim = { voucher: { channel: config, maxClaimableAmount: 9n }, signature: "0x" as const, totalClaimed: 8n };
    expect(await batch("getClaimBatchDigest", [[claim, claim]])).toBe(
      hashTypedData({ domain, types: claimBatchTypes, primaryType: "ClaimBatch", message: { claims: [entry, entry] } }),
    );
    for (const [address, abi, types] of [
      [canonical.exactPermit2Proxy, contracts.exactPermit2Proxy.abi, permit2WitnessTypes],
      [canonical.uptoPermit2Proxy, contracts.uptoPermit2Proxy.abi, uptoPermit2WitnessTypes],
    ] as const) {
      const witness = encodeType({ primaryType: "Witness", types });
      expect(await read(address, abi, "WITNESS_TYPEHASH")).toBe(keccak256(toBytes(witness)));
      // Permit2 puts its own part before the string; together they are the type that was signed.
      const own =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";
      const whole = encodeType({ primaryType: "PermitWitnessTransferFrom", types });
      expect(`${own}${String(await read(address, abi, "WITNESS_TYPE_STRING"))}`).toBe(whole);
    }
    const transfer = encodeType({ primaryType: "TransferWithAuthorization", types: authorizationTypes });
    expect(await read(usdc.address, contracts.testUsdc.abi, "TRANSFER_WITH_AUTHORIZATION_TYPEHASH")).toBe(
      keccak256(toBytes(transfer)),
    );
  });

  test("an anchored entry's hash is the digest of the exported types", async () => {
    const init = encodeDeployData({
      abi: contracts.receiptAnchor.abi,
      bytecode: contracts.receiptAnchor.bytecode,
      args: [10n ** 18n, 604_800],
    });
    await send(contracts.create2Deployer, concatHex([contracts.zeroSalt, init]));
    const anchor = getContractAddress({
      opcode: "CREATE2",
      from: contracts.create2Deployer,
      salt: contracts.zeroSalt,
      bytecode: init,
    });
    const word = (text: string): Hex => keccak256(stringToHex(text));
    const entry = {
      submitter: operator.address,
      firstLeaf: 3n,
      leafCount: 4n,
      root: word("root"),
      logSize: 2n ** 63n,
      logRoot: word("log"),
      blob: word("blob"),
      prev: word("prev"),
    };
    expect(await read(anchor, contracts.receiptAnchor.abi, "entryHash", [entry])).toBe(
      hashTypedData({
        domain: { ...contracts.anchorDomain, chainId: 31337, verifyingContract: anchor },
        types: contracts.anchorEntryTypes,
        primaryType: "Entry",
        message: entry,
      }),
    );
    const leaf = {
      executionDigest: word("e"),
      serviceDigest: word("s"),
      paymentId: word("p"),
      amountAtomic: 7n,
      logIndex: 8n,
    };
    const encoded = encodeAbiParameters(
      [{ type: "bytes32" }, { type: "bytes32" }, { type: "bytes32" }, { type: "uint256" }, { type: "uint64" }],
      [leaf.executionDigest, leaf.serviceDigest, leaf.paymentId, leaf.amountAtomic, leaf.logIndex],
    );
    expect(await read(anchor, contracts.receiptAnchor.abi, "leafHash", [leaf])).toBe(keccak256(keccak256(encoded)));
  });

  function channelConfig() {
    return {
      payer: client.address,
      payerAuthorizer: client.address,
      receiver: receiver.address,
      receiverAuthorizer: authorizer.address,
      token: usdc.address,
      withdrawDelay: 900,
      salt: contracts.zeroSalt,
    } as const;
  }

  test("the published client and facilitator open, use, claim, settle and refund a channel", async () => {
    const requirements: PaymentRequirements = {
      scheme: "batch-settlement",
      network: "eip155:31337",
      amount: "100",
      asset: usdc.address,
      payTo: receiver.address,
      maxTimeoutSeconds: 900,
      extra: {
        name: "USDC",
        version: "2",
        receiverAuthorizer: authorizer.address,
        withdrawDelay: 900,
        minDeposit: "1000",
      },
    };
    const payer = new BatchClient({
      address: client.address,
      signTypedData: (message) => client.signTypedData(message as never),
      readContract: ({ address, abi, functionName, args }) => read(address, abi as Abi, functionName, args ?? []),
    });
    const facilitator = new BatchFacilitator(
      toFacilitatorEvmSigner({ ...wallet, address: operator.address } as never),
      authorizer as never,
    );
    const payment = (payload: object): PaymentPayload =>
      ({ x402Version: 2, accepted: requirements, payload }) as unknown as PaymentPayload;
    const made = await payer.createPaymentPayload(2, requirements);
    const deposit = payment(made.payload);
    expect(await facilitator.verify(deposit, requirements)).toMatchObject({ isValid: true });
    const opened = await facilitator.settle(deposit, requirements);
    expect(opened).toMatchObject({ success: true, amount: "1000" });
    // A deposit counts once.
    expect((await facilitator.verify(deposit, requirements)).isValid).toBe(false);

    const { channelConfig: config, voucher } = made.payload as unknown as {
      channelConfig: ReturnType<typeof channelConfig>;
      voucher: { channelId: Hex; maxClaimableAmount: string; signature: Hex };
    };
    expect(voucher.maxClaimableAmount).toBe("100");
    const claims = [
      {
        voucher: { channel: config, maxClaimableAmount: voucher.maxClaimableAmount },
        signature: voucher.signature,
        totalClaimed: "60",
      },
    ];
    const refused = await facilitator.settle(
      payment({ type: "claim", claims: claims.map((claim) => ({ ...claim, totalClaimed: "101" })) }),
      requirements,
    );
    expect(refused).toMatchObject({
      success: false,
      errorReason: "invalid_batch_settlement_evm_claim_simulation_failed",
    });
    expect(await facilitator.settle(payment({ type: "claim", claims }), requirements)).toMatchObject({ success: true });
    const sweep = payment({ type: "settle", receiver: receiver.address, token: usdc.address });
    expect(await facilitator.settle(sweep, requirements)).toMatchObject({ success: true, amount: "60" });
    expect(await facilitator.settle(sweep, requirements)).toMatchObject({
      errorReason: "invalid_batch_settlement_evm_nothing_to_settle",
    });
    const later = claims.map((claim) => ({ ...claim, totalClaimed: "70" }));
    const refund = payment({
      type: "refund",
      channelConfig: config,
      voucher,
      amount: "5000",
      refundNonce: "0",
      claims: later,
    });
    expect(await facilitator.settle(refund, requirements)).toMatchObject({ success: true, amount: "930" });
    expect(
      await read(canonical.batchSettlement, contracts.batchSettlement.abi, "channels", [voucher.channelId]),
    ).toEqual([70n, 70n]);
    expect(await read(usdc.address, contracts.testUsdc.abi, "balanceOf", [client.address])).toBe(999_930n);
    expect(await read(usdc.address, contracts.testUsdc.abi, "balanceOf", [receiver.address])).toBe(60n);
    expect((await facilitator.settle(refund, requirements)).success).toBe(false);
  });
});
