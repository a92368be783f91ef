// A prewarmed node waits here for its program (docs/SPEED.md). NODE_OPTIONS preloads this file, so node itself then runs
// the main script, as in a cold start.
'use strict';
const fs = require('fs');
const READY = 1022;
const ORDER = 1023;

function isWaiting() {
  try {
    return [READY, ORDER].every((fd) => fs.fstatSync(fd).isFIFO());
  } catch {
    // worker threads of a program load this file as well
    return false;
  }
}

function read(data, end) {
  const piece = Buffer.alloc(65536);
  while (end === undefined || !data.includes(end)) {
    const n = fs.readSync(ORDER, piece);
    if (n === 0) break;
    data = Buffer.concat([data, piece.subarray(0, n)]);
  }
  return data;
}

function wait() {
  // the order may already follow the first line
  const first = read(Buffer.alloc(0), 10);
  const end = first.indexOf(10);
  const names = first.toString('utf8', 0, end).split('\0').filter((name) => name !== '');
  try {
    // not process.stdout: opening it makes the pipe non-blocking, which a program could notice
    names.forEach((name) => require(name));
  } catch (error) {
    fs.writeSync(READY, `load: ${error}`.slice(0, 1000));
    process.exit(1);
  }
  fs.writeSync(READY, 'ready');
  fs.closeSync(READY);

  const fields = read(first.subarray(end + 1)).toString('utf8').split('\0');
  fs.closeSync(ORDER);
  if (fields[0] !== 'go') process.exit(1);
  process.argv.push(...fields.slice(1, -1));
  delete process.env.NODE_OPTIONS;
}

if (isWaiting()) wait();
// remove all traces of this file
process._preload_modules.length = 0;
delete require.cache[__filename];
delete require('module')._pathCache[`${__filename}\0`];
