// The service that sent this page: requests, its errors, a key where it asks for one, and whether it is there at all.

import { HEADER_LENGTH, decodeResponse, encodeRequest } from "./protocol.js";

const KEY = "stn-api-key", RETRY_MS = 1000;

/** What the service, or the lack of one, says to a request; `status` is 0 where nothing answered. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Says "gone" and "back" when the service goes and comes, and "key" when it wants an API key. */
export const events = new EventTarget();

let gone = false;

export const isGone = () => gone;
export const apiKey = () => sessionStorage.getItem(KEY) ?? "";

export function setApiKey(key) {
  sessionStorage.setItem(KEY, key);
  events.dispatchEvent(new Event("back"));
}

/** The answer to a request, whatever its status but an error's; paths are relative, so that a prefix changes nothing. */
export async function call(path, options = {}) {
  const headers = { ...options.headers, ...(apiKey() && { "X-API-Key": apiKey() }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    lose();
    throw new Problem(0, "the service does not answer");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) events.dispatchEvent(new Event("key"));
  const document = await answer.json().catch(() => null);
  // While no replica is up, a proxy answers in its place, with a body of its own.
  if (answer.status >= 502 || (answer.status === 503 && document?.type !== "urn:stn:error:overloaded")) lose();
  const problem = new Problem(answer.status, document?.detail ?? `the service answered ${answer.status}`);
  problem.document = document;
  throw problem;
}

export const getJson = async (path) => (await call(path)).json();

/** The outputs of a model, and its answer's parameters. */
export async function infer(model, inputs, outputs, parameters) {
  const request = encodeRequest(inputs, outputs, parameters);
  const answer = await call(`v2/models/${model}/infer`, { method: "POST", ...request });
  return decodeResponse(await answer.arrayBuffer(), answer.headers.get(HEADER_LENGTH));
}

function lose() {
  if (gone) return;
  gone = true;
  events.dispatchEvent(new Event("gone"));
  setTimeout(look, RETRY_MS);
}

async function look() {
  const there = await fetch("v2/health/ready").then((answer) => answer.ok || answer.status === 401, () => false);
  if (!there) {
    setTimeout(look, RETRY_MS);
    return;
  }
  gone = false;
  events.dispatchEvent(new Event("back"));
}
