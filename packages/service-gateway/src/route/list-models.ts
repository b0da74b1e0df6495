import type { Price } from "@assay/routing";
import type { ListedTextModel } from "../openai/models.ts";
import { nodeSources, ownOf } from "./resolve.ts";
import type { RouterModules } from "./sources.ts";
import type { UpstreamLists } from "./upstream-lists.ts";

const TEXT = ["chat", "completion", "embedding"] as const;

/** Models under names that are not this hub's: contracts, upstreams', and what remote nodes offer beyond them. */
export async function listTextModels(
  modules: RouterModules,
  lists: UpstreamLists,
): Promise<readonly ListedTextModel[]> {
  const upstreams = modules.upstreams();
  await lists.settled(upstreams);
  const listed = new Map<string, ListedTextModel>();
  const add = (model: ListedTextModel): void => {
    if (!listed.has(model.name)) listed.set(model.name, model);
  };
  for (const { name, kinds, changedAt } of modules.contracts())
    add({ name, kinds: kinds ?? TEXT, ownedBy: "contract", createdS: Math.floor(Date.parse(changedAt) / 1000) });
  for (const upstream of upstreams) {
    for (const model of lists.known(upstream)) {
      const price = ownOf(upstream.prices, model.name);
      add({
        ...model,
        name: `${upstream.name}/${model.name}`,
        ownedBy: model.ownedBy ?? upstream.name,
        ...(price ? { price: priceTexts(price) } : {}),
      });
    }
  }
  for (const source of nodeSources(modules, (_, { model }) => !modules.hub.has(model))) {
    const kinds = TEXT.filter((kind) => source.kinds.includes(kind));
    if (kinds.length === 0) continue;
    add({
      name: source.fullName,
      kinds,
      ownedBy: source.at === "node" ? source.node.subject : "node",
      ...(source.contextTokens === undefined ? {} : { contextTokens: source.contextTokens }),
      ...(source.price ? { price: priceTexts(source.price) } : {}),
    });
  }
  return [...listed.values()];
}

function priceTexts(price: Price): NonNullable<ListedTextModel["price"]> {
  const { decimals: _, ...texts } = price;
  return texts;
}
