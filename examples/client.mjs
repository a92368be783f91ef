#!/usr/bin/env node
// A client of assay's socket protocol in plain Node: hands a program in with tests, follows it, prints the verdict.
//
//     client.mjs LANGUAGE FILE INPUT=EXPECTED...
//     client.mjs python double.py 21=42 -4=-8
//
// The submission has an id of the client's own (ASSAY_ID, or a random one), so a connection that breaks costs nothing: the
// client connects again, hands the same thing in under the same id, and goes on with the first event that it has not seen.
// Exit status: 0 accepted, 1 not accepted, 2 refused.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createConnection } from "node:net";
import { basename } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const path = process.env.ASSAY_SOCKET || "/run/assay/assay.sock";
const patience = 60_000; // milliseconds without any progress

/** An error reply. `code` is a word of a closed list, `retryAfterMs` says when it is worth another try. */
class Refused extends Error {
  constructor({ message, data = {} }) {
    super(data.message ?? message);
    this.code = data.code ?? "internal";
    this.retryAfterMs = data.retry_after_ms;
  }
}

/** One connection; calls may overlap, each has its own id. */
class Connection {
  #socket;
  #calls = new Map();
  #lastId = 0;

  /** Connects and answers when the server has said hello: it speaks first. */
  static async open(path) {
    const connection = new Connection();
    const socket = (connection.#socket = createConnection(path));
    await new Promise((resolve, reject) => {
      const end = (error) => {
        error ??= new Error("the daemon closed the connection");
        reject(error);
        for (const call of connection.#calls.values()) call.reject(error);
        connection.#calls.clear();
      };
      socket.on("error", end);
      socket.on("close", () => end());
      socket.setTimeout(patience, () => socket.destroy(new Error("the daemon says nothing")));
      const lines = createInterface({ input: socket, crlfDelay: Infinity });
      lines.on("error", () => {}); // the socket's own errors, which are handled above
      lines.on("line", (line) => {
        let message;
        try {
          message = JSON.parse(line);
        } catch {
          return; // the end of a line that was cut
        }
        if (message.method === "server.hello") {
          connection.hello = message.params;
          resolve();
        } else if (message.method === undefined) {
          // one with too many connections says an error, to no id, instead of hello
          const call = connection.#calls.get(message.id);
          connection.#calls.delete(message.id);
          if (message.error) (call?.reject ?? reject)(new Refused(message.error));
          else call?.resolve(message.result);
        } else if (message.method === "submission.event") {
          for (const call of connection.#calls.values()) {
            if (call.follows === message.params.id) call.onEvent?.(message.params);
          }
        }
      });
    });
    if (connection.hello.protocol !== 1) throw new Refused({ message: `protocol ${connection.hello.protocol}` });
    return connection;
  }

  /** The result; events that come before it go to `onEvent`. */
  call(method, params, onEvent) {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject, onEvent, follows: params.id });
      this.#socket.write(JSON.stringify({ jsonrpc: "2.0", id, method, params }) + "\n");
    });
  }

  close() {
    this.#calls.clear();
    this.#socket.destroy();
  }
}

/** The report, whatever happens to the connection meanwhile. */
async function judge(submission) {
  let nextSeq = 0;
  let deadline = Date.now() + patience;
  const onEvent = (event) => {
    nextSeq = event.seq + 1;
    deadline = Date.now() + patience;
    show(event);
  };
  for (;;) {
    let connection;
    try {
      connection = await Connection.open(path);
      await connection.call("submission.submit", submission);
      return await connection.call("submission.wait", { id: submission.id, stream: true, from_seq: nextSeq }, onEvent);
    } catch (error) {
      const refused = error instanceof Refused;
      if ((refused && error.retryAfterMs === undefined) || Date.now() > deadline) throw error;
      console.error(refused ? `refused (${error.code}), trying again` : `connection lost (${error.message}), connecting again`);
      await sleep(refused ? Math.min(error.retryAfterMs, 2000) : 200);
    } finally {
      connection?.close();
    }
  }
}

function show({ kind, test, data, data_b64 }) {
  if (data_b64 !== undefined) data = Buffer.from(data_b64, "base64").toString(); // output that is no UTF-8
  if (kind === "stdout" || kind === "stderr") console.error(`  ${test ?? kind}: ${data.trimEnd()}`);
  else if (kind === "test") console.error(`test ${test}: ${data}`);
  else console.error(data === undefined ? kind : `${kind}: ${typeof data === "string" ? data : JSON.stringify(data)}`);
}

const [language, file, ...pairs] = process.argv.slice(2);
if (pairs.length === 0) {
  console.error("usage: client.mjs LANGUAGE FILE INPUT=EXPECTED...");
  process.exit(2);
}
const name = basename(file);
const submission = {
  id: process.env.ASSAY_ID || randomUUID(),
  language,
  entry: name,
  files: [{ path: name, content: await readFile(file, "utf8") }],
  tests: pairs.map((pair) => {
    const at = pair.indexOf("=");
    return { stdin: pair.slice(0, at) + "\n", expect: pair.slice(at + 1) };
  }),
};
try {
  const report = await judge(submission);
  for (const test of report.tests) console.log(`${test.name} ${test.verdict}`);
  console.log(`${report.verdict} ${report.score.passed}/${report.score.total}`);
  process.exitCode = report.verdict === "accepted" ? 0 : 1;
} catch (error) {
  console.error(error instanceof Refused ? `refused: ${error.code}: ${error.message}` : error.message);
  process.exitCode = 2;
}
