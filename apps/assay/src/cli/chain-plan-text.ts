import type { JsonValue } from "@assay/core";
import type { DeployPlan, DeployWish } from "@assay/driver-chain";
import { formatUnits } from "@assay/x402";
import { facts, printable, table } from "./style.ts";
import type { Style } from "./style.ts";

const ETHER_DECIMALS = 18;
const GWEI_DECIMALS = 9;

/** Wei as ether. */
export const ether = (wei: bigint): string => formatUnits(wei, ETHER_DECIMALS);

/** A deployment for people: what is there, what is left to do, what it costs. */
export function planText(plan: DeployPlan, wish: DeployWish, file: string | undefined, style: Style): string {
  const { network, steps, contracts, canonical, deployments, withheld } = plan;
  const title = file === undefined ? `${steps.length} transactions to be sent` : "has what a gateway needs";
  const offered = deployments.schemes ?? [];
  return [
    `${style.mark("other", "pass")} ${style.strong(network)} ${title}`,
    "",
    table(
      ["Contract", "Address", "State"],
      [
        ...contracts.map(({ contract, placed }) => [
          contract.name,
          contract.address,
          placed ? "there" : "to be created",
        ]),
        ...canonical.map(({ name, address, state }) => [name, address, state]),
      ],
      style,
    ),
    "",
    ...(steps.length === 0
      ? []
      : [
          table(
            ["Transaction", "Gas", "Ether"],
            steps.map(({ says, gas, valueWei }) => [says, String(gas), valueWei === 0n ? "" : ether(valueWei)]),
            style,
            { right: [1] },
          ),
          "",
        ]),
    facts(
      [
        ["Paid by", wish.deployer],
        ["It has", `${ether(plan.balanceWei)} ether`],
        ...(steps.length === 0
          ? []
          : ([
              [
                "Gas",
                `${plan.gas} at up to ${formatUnits(plan.feeWei, GWEI_DECIMALS)} gwei: ${ether(plan.gasCostWei)} ether`,
              ],
              ["To your accounts", `${ether(plan.transfersWei)} ether, ${ether(wish.bondWei)} of it to be bonded`],
              ["Needed", `${ether(plan.neededWei)} ether, with room for estimates that were too low`],
            ] as const)),
        ["Paid in", deployments.tokens.map(({ symbol, address }) => `${printable(symbol)} ${address}`).join(", ")],
        ["Offered", offered.length === 0 ? "nothing" : offered.join(", ")],
        ...withheld.map(
          ({ scheme, lacks }) =>
            ["Not offered", `${scheme}: ${lacks.map((name) => lackText(plan, name)).join(", ")}`] as const,
        ),
        ...(file === undefined ? [] : ([["Written to", file]] as const)),
      ],
      style,
    ),
  ].join("\n");
}

function lackText({ canonical }: DeployPlan, name: string): string {
  const found = canonical.find((one) => one.name === name);
  return found?.codeHash === undefined
    ? `the chain has no ${name}`
    : `${name} has code that is not known; if you know it to be right: --accept-code ${found.codeHash}`;
}

/** The same for programs. */
export function planJson(plan: DeployPlan, wish: DeployWish, file: string | undefined): JsonValue {
  return {
    network: plan.network,
    chainId: plan.chainId,
    sent: file !== undefined,
    deployer: wish.deployer,
    contracts: plan.contracts.map(({ contract: { name, address }, placed }) => ({ name, address, placed })),
    canonical: plan.canonical.map(({ name, address, state, codeHash }) => ({
      name,
      address,
      state,
      codeHash: codeHash ?? null,
    })),
    schemes: [...(plan.deployments.schemes ?? [])],
    withheld: plan.withheld.map(({ scheme, lacks }) => ({ scheme, lacks: [...lacks] })),
    steps: plan.steps.map(({ says, from, gas, valueWei }) => ({
      says,
      from,
      gas: String(gas),
      valueWei: String(valueWei),
    })),
    gas: String(plan.gas),
    gasCostWei: String(plan.gasCostWei),
    transfersWei: String(plan.transfersWei),
    neededWei: String(plan.neededWei),
    balanceWei: String(plan.balanceWei),
    missingWei: String(plan.neededWei > plan.balanceWei ? plan.neededWei - plan.balanceWei : 0n),
    file: file ?? null,
  };
}
