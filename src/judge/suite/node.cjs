// Says which test of a file begins and ends while it does: what node:test writes itself comes when there is time for it,
// and is lost when the code under test hangs or ends the process.
'use strict';
const { beforeEach, afterEach } = require('node:test');
const { writeSync } = require('node:fs');
const { stringify } = JSON;

const say = (...words) => {
  try {
    writeSync(1, `\n\u001eassay ${stringify(words)}\n`);
  } catch {
    // a stream that is closed has no reader
  }
};
const first = (error) => String(error?.cause?.message ?? error?.message ?? error).slice(0, 2000);

say('file');
beforeEach((test) => say('begin', test.fullName ?? test.name));
afterEach((test) => say('end', test.fullName ?? test.name, test.passed === true, test.passed === true ? '' : first(test.error)));
