// A node that was started ahead of its program waits here for it (docs/SPEED.md): preloaded by NODE_OPTIONS, so that the main
// script is then run by node itself, as ever.
'use strict';
const fs = require('fs');
const READY = 1022;
const ORDER = 1023;

function isWaiting() {
  try {
    return [READY, ORDER].every((fd) => fs.fstatSync(fd).isFIFO());
  } catch {
    // a worker of a program's comes by here as well
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
  // the order may be there already, behind the line
  const first = read(Buffer.alloc(0), 10);
  const end = first.indexOf(10);
  const names = first.toString('utf8', 0, end).split('\0').filter((name) => name !== '');
  try {
    // not process.stdout: opening it makes the pipe non-blocking, which a program can tell
    names.forEach((name) => require(name));
  } catch (error) {
    fs.writeSync(READY, `load: ${error}`.slice(0, 1000));
    process.exit(1);
  }
  fs.writeSync(READY, 'ready');
  fs.closeSync(READY);

  const words = read(first.subarray(end + 1)).toString('utf8').split('\0');
  fs.closeSync(ORDER);
  if (words[0] !== 'go') process.exit(1);
  process.argv.push(...words.slice(1, -1));
  delete process.env.NODE_OPTIONS;
}

if (isWaiting()) wait();
// it was never here
process._preload_modules.length = 0;
delete require.cache[__filename];
delete require('module')._pathCache[`${__filename}\0`];
