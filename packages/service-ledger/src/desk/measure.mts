import { randomBytes } from "node:crypto";
import { authorizeExact, authorizeUpto, authorizeDeposit, authorizeVoucher, channelFor } from "@assay/x402";
import { openDatabase } from "../settle/testing/host.ts";
import { approvePermit2, openWorld, payer, suite } from "../settle/testing/world.ts";
import { createDeskChain } from "./chain.ts";
import { headersOf, openShop } from "./testing/shop.ts";
const world = await openWorld();
const { server, database } = await openDatabase(world);
const shop = await openShop(database, { modules: { suite, chain: createDeskChain(world.chain, world.embedded.deployments), now: () => Date.now() }, options: { deployments: world.embedded.deployments, payTo: world.receiver.address, receiverAuthorizer: world.operator.address } });
const N = 300;
const p = (a: number[]) => { a.sort((x, y) => x - y); return `p50 ${a[a.length >> 1]!.toFixed(2)} p95 ${a[Math.floor(a.length * 0.95)]!.toFixed(2)} ms`; };
for (const scheme of ["exact", "upto"] as const) {
  const from = await payer(world, 100_000_000n); await approvePermit2(world, from.address);
  const ps = []; for (let i = 0; i < N; i++) ps.push(headersOf(await (scheme === "exact" ? authorizeExact : authorizeUpto)({ suite, signer: from.signer, requirement: shop.offer(shop.quote(), scheme), nonce: new Uint8Array(randomBytes(32)), nowS: Math.floor(Date.now() / 1000) })));
  const take: number[] = [], charge: number[] = [];
  for (const h of ps) { const q = shop.quote(); const t = performance.now(); const o = await shop.take(q, h, randomBytes(8).toString("hex")); take.push(performance.now() - t); if (o.kind !== "open") throw new Error(JSON.stringify(o).slice(0,300)); const t2 = performance.now(); await shop.finish(o); charge.push(performance.now() - t2); }
  console.log(scheme, "take", p(take), "charge+durable", p(charge));
}
const from = await payer(world, 100_000_000n);
const requirement = shop.offer(shop.quote(), "batch-settlement"); const channel = channelFor(requirement, from.address);
const c = { suite, signer: from.signer, requirement, nowS: Math.floor(Date.now() / 1000), channel };
let max = 2000n;
const d = await shop.take(shop.quote(), headersOf(await authorizeDeposit({ ...c, maxClaimable: max, payer: from.signer, nonce: new Uint8Array(randomBytes(32)) }, 50_000_000n)), "d");
if (d.kind !== "open") throw new Error(JSON.stringify(d)); await shop.finish(d, { outputTokens: 1000 });
const take: number[] = [], charge: number[] = [], vs = []; for (let i = 0; i < N; i++) { max += 2000n; vs.push(headersOf(await authorizeVoucher({ ...c, maxClaimable: max }))); }
for (const h of vs) { const q = shop.quote(); const t = performance.now(); const o = await shop.take(q, h, randomBytes(8).toString("hex")); take.push(performance.now() - t); if (o.kind !== "open") throw new Error(JSON.stringify(o).slice(0,300)); const t2 = performance.now(); await shop.finish(o, { outputTokens: 1000 }); charge.push(performance.now() - t2); }
console.log("voucher take", p(take), "charge+durable", p(charge));
// throughput: 200 payers at once, vouchers
await shop.desk.ingested(shop.log.size());
const t0 = performance.now(); const many = 2000; const payers = []; for (let i = 0; i < 50; i++) { const f = await payer(world, 1_000_000n); payers.push(f); }
const heads = []; for (let i = 0; i < many; i++) heads.push(headersOf(await authorizeExact({ suite, signer: payers[i % 50]!.signer, requirement: shop.offer(shop.quote(), "exact"), nonce: new Uint8Array(randomBytes(32)), nowS: Math.floor(Date.now() / 1000) })));
const t1 = performance.now(); let at = 0; let ok = 0;
await Promise.all(Array.from({ length: 64 }, async () => { while (at < many) { const h = heads[at++]!; const o = await shop.take(shop.quote(), h, String(at)); if (o.kind === "open") { ok++; await shop.finish(o); } } }));
console.log("64 at once:", (many / ((performance.now() - t1) / 1000)).toFixed(0), "takes/s", ok);
console.log("load", (await import("node:os")).loadavg());
await shop.desk.close(); await database.close(); await server.close(); await world.close();
