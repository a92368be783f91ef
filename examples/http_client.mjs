#!/usr/bin/env node
// A client of assay's HTTP API in plain Node: hands a program in with tests, follows it, prints the verdict.
//
//     http_client.mjs LANGUAGE FILE INPUT=EXPECTED...
//     http_client.mjs python double.py 21=42 -4=-8
//
// ASSAY_URL is the listener, http://127.0.0.1:9464 or unix:/run/assay/http.sock; ASSAY_TOKEN a token of `assay token add`.
// The submission has an id of the client's own (ASSAY_ID, or a random one), so a connection that breaks costs nothing: the
// client connects again, hands the same thing in under the same id, and goes on with the first event that it has not seen.
// Exit status: 0 accepted, 1 not accepted, 2 refused.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const url = process.env.ASSAY_URL || "http://127.0.0.1:9464";
const token = process.env.ASSAY_TOKEN ?? "";
const patience = 60_000; // milliseconds without any progress

/** A problem+json answer. `code` is a word of a closed list, `retryAfter` are seconds, or undefined: not worth another try. */
class Refused extends Error {
  constructor(response, body) {
    const isProblem = response.headers["content-type"] === "application/problem+json";
    const problem = isProblem ? JSON.parse(body) : {};
    super(problem.detail ?? `status ${response.statusCode}`);
    this.code = problem.code ?? "internal";
    this.retryAfter = response.headers["retry-after"] && Number(response.headers["retry-after"]);
  }
}

async function text(response) {
  response.setEncoding("utf8");
  let all = "";
  for await (const piece of response) all += piece;
  return all;
}

/** The response of a request that was not refused. */
async function ask(agent, method, path, body, more = {}) {
  const headers = { host: "localhost", authorization: `Bearer ${token}`, ...more };
  if (body) headers["content-type"] = "application/json";
  const { request } = url.startsWith("https:") ? https : http;
  const where = url.startsWith("unix:") ? { socketPath: url.slice("unix:".length) } : {};
  if (!where.socketPath) {
    const { hostname, port } = new URL(url);
    Object.assign(where, { host: hostname.replace(/^\[|\]$/g, ""), port: port || undefined });
    headers.host = new URL(url).host;
  }
  const response = await new Promise((resolve, reject) => {
    const asked = request({ ...where, agent, method, path, headers, timeout: patience }, resolve);
    asked.on("timeout", () => asked.destroy(new Error("the daemon says nothing")));
    asked.on("error", reject);
    asked.end(body && JSON.stringify(body));
  });
  if (response.statusCode >= 400) throw new Refused(response, await text(response));
  return response;
}

/** The events of a stream: each is some `name: value` lines and an empty one. After `done` there is none; a broken stream is an
 * error. */
async function* events(response) {
  response.setEncoding("utf8");
  let rest = "";
  let isDone = false;
  for await (const piece of response) {
    const blocks = (rest + piece).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      if (lines.includes("event: done")) isDone = true;
      const data = lines.filter((line) => line.startsWith("data:"));
      if (data.length && !isDone) yield JSON.parse(data.map((line) => line.slice("data:".length)).join("\n"));
    }
  }
  if (!isDone) throw new Error("the stream ended before its last event");
}

/** The report, whatever happens to the connection meanwhile. */
async function judge(submission) {
  let lastSeq;
  let deadline = Date.now() + patience;
  const path = `/api/v1/submissions/${encodeURIComponent(submission.id)}`;
  for (;;) {
    const { Agent } = url.startsWith("https:") ? https : http;
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      await text(await ask(agent, "POST", "/api/v1/submissions?wait=false", submission));
      const from = lastSeq === undefined ? {} : { "last-event-id": String(lastSeq) };
      for await (const event of events(await ask(agent, "GET", `${path}/events`, undefined, from))) {
        lastSeq = event.seq;
        deadline = Date.now() + patience;
        show(event);
      }
      const state = JSON.parse(await text(await ask(agent, "GET", `${path}?wait_ms=10000`)));
      if (state.state === "done") return state.report;
    } catch (error) {
      if (error instanceof Refused) {
        if (error.retryAfter === undefined || Date.now() > deadline) throw error;
        console.error(`refused (${error.code}), trying again`);
        await sleep(Math.min(error.retryAfter, 2) * 1000);
      } else {
        if (Date.now() > deadline) throw error;
        console.error(`connection lost (${error.message}), connecting again`);
        await sleep(200);
      }
    } finally {
      agent.destroy();
    }
  }
}

function show({ kind, test, data, data_b64: bytes }) {
  if (bytes !== undefined) data = Buffer.from(bytes, "base64").toString(); // output that is no UTF-8
  if (kind === "stdout" || kind === "stderr") console.error(`  ${test ?? kind}: ${data.trimEnd()}`);
  else if (kind === "test") console.error(`test ${test}: ${data}`);
  else if (data === undefined) console.error(kind);
  else console.error(`${kind}: ${typeof data === "string" ? data : JSON.stringify(data)}`);
}

const [language, path, ...pairs] = process.argv.slice(2);
if (!pairs.length) {
  console.error("usage: http_client.mjs LANGUAGE FILE INPUT=EXPECTED...");
  process.exit(2);
}
const tests = pairs.map((pair) => {
  const [stdin, ...expect] = pair.split("=");
  return { stdin: `${stdin}\n`, expect: expect.join("=") };
});
const name = basename(path);
const submission = {
  id: process.env.ASSAY_ID || randomUUID(),
  language,
  entry: name,
  files: [{ path: name, content: await readFile(path, "utf8") }],
  tests,
};
try {
  const report = await judge(submission);
  for (const test of report.tests) console.log(test.name, test.verdict);
  console.log(report.verdict, `${report.score.passed}/${report.score.total}`);
  process.exitCode = report.verdict === "accepted" ? 0 : 1;
} catch (error) {
  console.error(error instanceof Refused ? `refused: ${error.code}: ${error.message}` : error);
  process.exitCode = 2;
}
