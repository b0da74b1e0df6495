import { bytesToHex } from "@assay/core";
import { isDatatype } from "@assay/protocol";
import { disclosed } from "@assay/receipts";
import type { ReceiptView } from "@assay/receipts";
import { formatUnits } from "@assay/x402";
import { formatOutputs } from "../inputs/index.ts";
import type { StoredReceipt } from "./receipt-store.ts";
import { facts, formatTime, printable } from "./style.ts";
import type { Style } from "./style.ts";

/** What a receipt states, in words, with what it discloses. Nothing here says that it holds. */
export function receiptText(view: ReceiptView, { id, path }: StoredReceipt, style: Style): string {
  const { claims, statement } = view.execution;
  const model =
    claims.modelName === undefined
      ? claims.kind
      : `${claims.modelName}${claims.modelVersion === undefined ? "" : ` version ${claims.modelVersion}`}`;
  const runtime = claims.runtime ?? {};
  const engine = ["profile", "engine", "engineVersion"].flatMap((key) => {
    const value = runtime[key];
    return typeof value === "string" ? [value] : [];
  });
  const asked = claims.principal;
  const opened = disclosed(view);
  const rows: (readonly [string, string])[] = [
    ["Model", printable(model)],
    ...(claims.modelDigest
      ? ([["Manifest", `${bytesToHex(claims.modelDigest)} (${claims.modelDigestCheck ?? "declared"})`]] as const)
      : []),
    ["Mode", claims.mode],
    [
      "Issued",
      `${formatTime(claims.issuedAtMs)} by ${printable(statement.header.issuer)}, statement ${statement.header.seq}`,
    ],
    ["Asked by", asked ? printable(`${asked.caller} (${asked.authentication})`) : "an anonymous caller"],
    ...(engine.length > 0 ? ([["Runtime", printable(engine.join(", "))]] as const) : []),
    ...(claims.engineUs === undefined
      ? []
      : ([["In the engine", `${(claims.engineUs / 1000).toFixed(3)} ms`]] as const)),
    ...(claims.clientNonce ? ([["Nonce", bytesToHex(claims.clientNonce)]] as const) : []),
    ["Request", `${claims.requestFields} fields under ${bytesToHex(claims.requestRoot)}`],
    ["Response", `${claims.responseFields} fields under ${bytesToHex(claims.responseRoot)}`],
    ...(view.service ? ([["Served by", printable(view.service.statement.header.issuer)]] as const) : []),
    ...priceRows(view),
    ["Log", logWords(view)],
    ["Supplements", view.supplements.map(({ claims: of }) => of.kind).join(", ") || "none"],
  ];
  const shown = [
    ...opened.tensors.map((tensor) => ({ side: tensor.side, text: tensorText(tensor, style) })),
    ...opened.texts.map(({ side, name, text }) => ({ side, text: `${printable(name)}  ${printable(text)}` })),
    ...(view.bundle.fields ?? []).map(({ side, name, value }) => ({
      side,
      text: `${printable(name)}  ${value.length} bytes, opened alone`,
    })),
  ];
  const sides = (["request", "response"] as const).flatMap((side) => {
    const texts = shown.filter((item) => item.side === side).map(({ text }) => text);
    return texts.length === 0
      ? []
      : ["", style.strong(side === "request" ? "Request" : "Response"), ...texts.map(indent)];
  });
  return [
    `${style.faint("Receipt")} ${id}`,
    "",
    facts(rows, style),
    ...(sides.length === 0
      ? ["", style.faint("Request and response are committed to and not disclosed here.")]
      : sides),
    "",
    style.faint("This is what it says. Whether it holds:"),
    `  assay verify ${path}`,
  ].join("\n");
}

/** What the gateway says that was charged and paid, and for what. */
function priceRows({ service }: ReceiptView): readonly (readonly [string, string])[] {
  const { price, payment } = service?.claims ?? {};
  if (!price) return [];
  const parts = price.parts?.map((part) => `${amountWords(price, part)} for ${printable(part.subject)}`);
  return [
    ["Price", `${amountWords(price, price)}${parts ? `: ${parts.join(", ")}` : ""}`],
    ...(payment
      ? ([["Payment", printable(`${payment.scheme} by ${payment.payer}, ${payment.paymentId}`)]] as const)
      : []),
  ];
}

type Price = NonNullable<NonNullable<ReceiptView["service"]>["claims"]["price"]>;

/** An amount times its unit, where that is a power of ten: `0.002 USDC`. */
function amountWords({ unit, asset }: Price, { amountAtomic }: { readonly amountAtomic: string }): string {
  const decimals = unit === undefined ? undefined : /^1e-(\d{1,2})$/.exec(unit)?.[1];
  const isNumber = /^\d{1,78}$/.test(amountAtomic);
  const amount =
    decimals !== undefined && isNumber
      ? formatUnits(BigInt(amountAtomic), Number(decimals))
      : `${amountAtomic}${unit === undefined ? "" : ` times ${unit}`}`;
  return printable(`${amount} ${asset}`);
}

function tensorText(
  { name, datatype, shape, data }: ReturnType<typeof disclosed>["tensors"][number],
  style: Style,
): string {
  return isDatatype(datatype)
    ? formatOutputs([{ name, datatype, shape, data }], { width: style.width - 2 })
    : `${printable(name)}  ${printable(datatype)} [${shape.join(",")}]`;
}

function indent(text: string): string {
  return text
    .split("\n")
    .map((line) => `  ${line}`)
    .join("\n");
}

function logWords({ bundle }: ReceiptView): string {
  const [proof] = bundle.log ?? [];
  const origin = bundle.checkpoints?.[proof?.checkpoint ?? 0]?.split("\n", 1)[0];
  return proof && origin !== undefined ? `index ${proof.index} of ${printable(origin)}` : "not shown yet";
}
