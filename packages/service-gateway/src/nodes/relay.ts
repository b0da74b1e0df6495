import { hexToBytes, merkleRoot, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { ExecutedText, Frame } from "@assay/protocol";
import { PROFILE, commitFields, encodeClaims, receiptSubject, transcriptLeaf, transcriptSalt } from "@assay/receipts";
import type { Relayed, TextFields } from "./executor.ts";

/**
 * What the gateway's own node can truthfully say when a remote one was lost in the middle of its answer: these frames
 * passed through here, from that node, and then it fell silent. Unsigned: the recorder signs for the local node.
 */
export function createRelayStatement({
  suite,
  fields,
  now,
}: {
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly fields: TextFields;
  readonly now: () => number;
}): (relayed: Relayed) => Promise<ExecutedText> {
  return ({ request, node, frames }) => {
    const { parsed, target, masterSalt, receiptId } = request;
    const issuedAtMs = now();
    const requestFields = fields.request(request.body);
    const responseFields = fields.response(parsed.dialect, parsed.stream, frames);
    const asked = commitFields(suite, masterSalt, "request", requestFields);
    const answered = commitFields(suite, masterSalt, "response", responseFields);
    const digest = target.model.files?.manifestDigest;
    const claims = encodeClaims("execution", {
      profile: PROFILE.execution,
      receiptId,
      ...(request.clientNonce ? { clientNonce: request.clientNonce } : {}),
      modelName: target.modelName,
      ...(target.modelVersion === undefined ? {} : { modelVersion: target.modelVersion }),
      // Nothing here saw the weights: which model answered is the lost node's word.
      ...(digest === undefined
        ? {}
        : {
            modelDigest: hexToBytes(digest),
            modelDigestScheme: "sha256-manifest" as const,
            modelDigestCheck: "declared" as const,
          }),
      requestRoot: asked.root,
      responseRoot: answered.root,
      requestFields: asked.count,
      responseFields: answered.count,
      mode: "vanilla",
      kind: parsed.kind,
      issuedAtMs,
      ...(request.principal ? { principal: request.principal } : {}),
      runtime: { profile: "upstream" },
      ...(parsed.stream ? { transcript: transcriptOf(suite, masterSalt, frames) } : {}),
      finishReason: "incomplete",
      upstream: { provider: "node", modelReported: target.modelName, facts: { node } },
    });
    return Promise.resolve({
      subject: receiptSubject(receiptId),
      issuedAtMs,
      claims,
      requestFields,
      responseFields,
      modelName: target.modelName,
      manifestDigest: digest ?? null,
      finish: "incomplete",
      // Nobody counted: the node that did is gone.
      usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, estimated: true },
      engineMs: 0,
    });
  };
}

function transcriptOf(
  suite: Pick<CryptoSuite, "sha256">,
  masterSalt: Uint8Array,
  frames: readonly Frame[],
): { readonly root: Uint8Array; readonly frames: number } {
  const salt = transcriptSalt(suite, masterSalt);
  const leaves = frames.map(({ data }) => transcriptLeaf(suite, salt, utf8ToBytes(data)));
  return { root: merkleRoot(suite.sha256, leaves), frames: frames.length };
}
