import type { IncomingMessage, ServerResponse } from "node:http";
import { AssayError, isAssayError } from "@assay/core";
import type { TextDialect } from "@assay/protocol";
import type { Logger } from "pino";
import { describe } from "../describe.ts";
import { isFailure } from "../http-errors.ts";
import { createBodyBudget } from "../read-body.ts";
import { handleText } from "./handle-text.ts";
import type { TextAnswered, TextLimits, TextModules } from "./handle-text.ts";
import { TEXT_DEFAULTS } from "./limits.ts";
import type { TextOptions } from "./limits.ts";
import { refundText } from "./pay.ts";
import { openAiProblem } from "./problem.ts";
import type { OpenAiProblem } from "./problem.ts";

/** The text API as the server dispatches to it. */
export type TextSurface = {
  /** Why no request can be taken now; undefined when one can. */
  readonly full: () => AssayError | undefined;
  /** Requests under way, until their last byte was handed to the system. */
  readonly inFlight: () => number;
  /** Answers a request, or refuses it in OpenAI's shape; never throws. */
  readonly serve: (
    request: IncomingMessage,
    response: ServerResponse,
    dialect: TextDialect,
    requestId: string,
  ) => Promise<void>;
};

/** Makes the text API over its modules. */
export function createTextSurface(modules: TextModules, logger: Logger, options: TextOptions = {}): TextSurface {
  const limits: TextLimits = { ...TEXT_DEFAULTS, ...options };
  const budget = createBodyBudget(limits.maxBodiesBytes);
  const { metrics } = modules;
  let inFlight = 0;
  const answer = async (
    request: IncomingMessage,
    response: ServerResponse,
    dialect: TextDialect,
    requestId: string,
    startedMs: number,
  ): Promise<void> => {
    try {
      if (request.method === "GET" && modules.payments) {
        try {
          await refundText(modules.payments, request, response);
        } catch (error) {
          if (isAssayError(error) && error.code === "method_not_allowed") response.setHeader("allow", "POST");
          throw error;
        }
        metrics.textRequests.inc({ dialect, status: "200" });
        logger.info({ requestId, dialect, latencyMs: round(performance.now() - startedMs) }, "channel refunded");
        return;
      }
      if (request.method !== "POST") {
        response.setHeader("allow", "POST");
        throw new AssayError("method_not_allowed", `This route takes POST, not ${request.method ?? "nothing"}.`);
      }
      const answered = await handleText(modules, limits, budget, request, response, dialect, requestId);
      metrics.textRequests.inc({ dialect, status: "200" });
      metrics.requests.inc({ route: "text", status: "200" });
      if (answered.kind === "replayed") {
        const { receiptId } = answered;
        logger.info(
          { requestId, dialect, receiptId, latencyMs: round(performance.now() - startedMs) },
          "text replayed",
        );
        return;
      }
      const { failure } = answered;
      const fields = fieldsOf(answered, requestId, dialect, performance.now() - startedMs);
      if (failure === undefined) logger.info(fields, "text");
      else {
        const problem = openAiProblem(failure);
        metrics.refusals.inc({ code: problem.body.code });
        if (problem.status >= 500) logger.error({ ...fields, err: describe(failure) }, "text broken off");
        else logger.info({ ...fields, code: problem.body.code }, "text broken off");
      }
    } catch (error) {
      const problem = sendTextProblem(response, error, requestId);
      const status = String(problem.status);
      metrics.textRequests.inc({ dialect, status });
      metrics.requests.inc({ route: "text", status });
      metrics.refusals.inc({ code: problem.body.code });
      const fields = {
        requestId,
        dialect,
        code: problem.body.code,
        status: problem.status,
        latencyMs: round(performance.now() - startedMs),
      };
      if (isFailure(problem)) logger.error({ ...fields, err: describe(error) }, "text failed");
      else logger.info(fields, "text refused");
    }
  };
  return {
    full: () =>
      inFlight < limits.maxConcurrent
        ? undefined
        : new AssayError("engine_overloaded", `${inFlight} requests to language models are under way already.`, {
            hints: ["Send the request again after the time in retry-after."],
          }),
    inFlight: () => inFlight,
    async serve(request, response, dialect, requestId) {
      const startedMs = performance.now();
      inFlight++;
      const sent = new Promise<void>((resolve) => {
        response.once("close", resolve);
      });
      await answer(request, response, dialect, requestId, startedMs);
      void sent.then(() => inFlight--);
    },
  };
}

/** Writes a problem in OpenAI's shape on a response that has not begun; cuts one that has. */
export function sendTextProblem(response: ServerResponse, error: unknown, requestId: string): OpenAiProblem {
  const problem = openAiProblem(error);
  if (response.headersSent) response.destroy();
  else {
    response.writeHead(problem.status, {
      ...problem.headers,
      "content-type": "application/json",
      "x-request-id": requestId,
    });
    response.end(JSON.stringify({ ...problem.more, ...problem.body }));
  }
  return problem;
}

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** An answer's log line. One literal: gathering it from spreads took 1.6 % of a request, as much as writing it. */
function fieldsOf(answered: TextAnswered, requestId: string, dialect: TextDialect, latencyMs: number): object {
  const { engineMs, receiptMs } = answered;
  return {
    requestId,
    dialect,
    status: answered.status,
    receiptId: answered.receiptId,
    model: answered.model,
    node: answered.node,
    stream: answered.stream,
    frames: answered.frames,
    tries: answered.tries,
    paymentId: answered.paymentId,
    firstFrameMs: round(answered.firstFrameMs),
    engineMs: engineMs === undefined ? undefined : round(engineMs),
    receiptMs: receiptMs === undefined ? undefined : round(receiptMs),
    finish: answered.finish,
    latencyMs: round(latencyMs),
  };
}
