// Loads a Node.js function and runs it on what the Lambda Runtime API hands out.
// Behaves as AWS's runtime interface client for Node.js. No `http`: a plain socket is quicker to load and to use.
'use strict';

const fs = require('fs');
const net = require('net');
const path = require('path');
const { Writable } = require('stream');
const { format } = require('util');

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
let taskRoot;
let requestId;

class Fault extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

// HTTP/1.1 over one kept connection: the server is ours, and always says how long its answers are.
class Client {
  constructor() {
    this.waiting = [];
    this.parts = [];
    this.length = 0;
    this.answer = null;
    this.socket = net.connect({ host, port: Number(port), noDelay: true });
    this.socket.on('data', (chunk) => this.take(chunk));
    this.socket.on('error', (error) => this.fail(error));
    this.socket.on('close', () => this.fail(new Error('the Runtime API closed the connection')));
    this.socket.unref();
  }

  fail(error) {
    for (const { reject } of this.waiting.splice(0)) reject(error);
  }

  // The answers come in the order of the calls.
  call(method, suffix, body, headers = '') {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      // Only while there is something to wait for does the connection keep the event loop going.
      this.socket.ref();
      const head = `${method} /2018-06-01/runtime/${suffix} HTTP/1.1\r\nHost: ${host}:${port}\r\n`;
      if (body === undefined) this.socket.write(`${head}\r\n`);
      else {
        const length = Buffer.byteLength(body);
        this.socket.write(`${head}Content-Type: application/json\r\nContent-Length: ${length}\r\n${headers}\r\n${body}`);
      }
    });
  }

  // Begins an answer that is written piece by piece; how it was taken is told by the promise, after `end`. Until then
  // what is written keeps the event loop going, and not that there will be an answer.
  begin(suffix, headers) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.socket.write(`POST /2018-06-01/runtime/${suffix} HTTP/1.1\r\nHost: ${host}:${port}\r\nTransfer-Encoding: chunked\r\n${headers}\r\n`);
    });
  }

  end(text, callback) {
    this.socket.ref();
    this.socket.write(text, callback);
  }

  take(chunk) {
    this.parts.push(chunk);
    this.length += chunk.length;
    for (;;) {
      if (!this.answer) {
        const data = this.parts.length === 1 ? this.parts[0] : Buffer.concat(this.parts);
        this.parts = [data];
        const end = data.indexOf('\r\n\r\n');
        if (end < 0) return;
        const [first, ...lines] = data.toString('utf8', 0, end).split('\r\n');
        const headers = {};
        for (const line of lines) {
          const colon = line.indexOf(':');
          headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
        }
        this.answer = { status: Number(first.split(' ')[1]), headers, from: end + 4, to: end + 4 + Number(headers['content-length'] ?? 0) };
      }
      const { status, headers, from, to } = this.answer;
      if (this.length < to) return;
      const data = this.parts.length === 1 ? this.parts[0] : Buffer.concat(this.parts);
      const rest = data.subarray(to);
      this.answer = null;
      this.parts = rest.length > 0 ? [rest] : [];
      this.length = rest.length;
      const { resolve } = this.waiting.shift();
      if (this.waiting.length === 0) this.socket.unref();
      resolve({ status, headers, body: data.toString('utf8', from, to) });
      if (rest.length === 0) return;
    }
  }
}

// A carriage return keeps the lines of one record together.
function writeLine(text) {
  let bytes = Buffer.from(text.replace(/\n/g, '\r') + '\n', 'utf8');
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(fs.writeSync(1, bytes));
    } catch (error) {
      if (error.code !== 'EAGAIN') return;
    }
  }
}

const levels = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
let json;
let leastLevel;

// What the function's environment says of how it runs.
function configure() {
  taskRoot = process.env.LAMBDA_TASK_ROOT;
  json = (process.env.AWS_LAMBDA_LOG_FORMAT ?? '').toUpperCase() === 'JSON';
  leastLevel = levels.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL ?? 'TRACE').toUpperCase());
}

function describeError(error) {
  return {
    errorType: error?.constructor?.name ?? 'UnknownError',
    errorMessage: error.message,
    stackTrace: typeof error.stack === 'string' ? error.stack.split('\n') : [],
  };
}

// Errors have nothing that JSON would show by itself.
const showErrors = (key, value) => (value instanceof Error ? { ...describeError(value), ...value } : value);

function jsonLine(level, timestamp, args) {
  const line = { timestamp, level, requestId };
  if (args.length === 1) {
    try {
      return JSON.stringify({ ...line, message: args[0] }, showErrors);
    } catch {
      // It refers to itself, or has numbers that JSON has not.
    }
  }
  const error = args.length > 1 && args.find((arg) => arg instanceof Error);
  return JSON.stringify({ ...line, message: format(...args), ...(error ? describeError(error) : {}) });
}

function log(level, args) {
  if (levels.indexOf(level) < leastLevel) return;
  const timestamp = new Date().toISOString();
  if (json) writeLine(jsonLine(level, timestamp, args));
  else writeLine(`${timestamp}\t${requestId ?? 'undefined'}\t${level}\t${format(...args)}`);
}

// What nobody caught: in JSON as an error, in text with its object.
function logError(what, object) {
  if (json) log('ERROR', [{ errorType: object.errorType, errorMessage: object.errorMessage, stackTrace: object.trace }]);
  else log('ERROR', [what, JSON.stringify(object)]);
}

console.log = (...args) => log('INFO', args);
console.info = (...args) => log('INFO', args);
console.debug = (...args) => log('DEBUG', args);
console.trace = (...args) => log('TRACE', [new Error(format(...args)).stack]);
console.warn = (...args) => log('WARN', args);
console.error = (...args) => log('ERROR', args);
console.fatal = (...args) => log('FATAL', args);

// Streaming: the handler writes its answer itself.
const streams = Symbol.for('aws.lambda.runtime.handler.streaming');
const bufferSize = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const integration = 'application/vnd.awslambda.http-integration-response';

class ResponseStream extends Writable {
  #client;
  #id;
  #contentType = 'application/octet-stream';
  #prelude;
  #told;

  constructor(client, id, highWaterMark) {
    super(highWaterMark === undefined ? {} : { highWaterMark });
    this.#client = client;
    this.#id = id;
  }

  setContentType(type) {
    if (this.#told) throw new Error("Cannot set content-type, too late.");
    this.#contentType = String(type).replace(/[^\x20-\x7e]/g, ' ');
  }

  // What comes before everything else: the head of an HTTP answer.
  setPrelude(text) {
    this.#prelude = Buffer.concat([Buffer.from(text), Buffer.alloc(8)]);
  }

  // When the answer has been taken; nothing if it was never begun.
  get told() {
    return this.#told;
  }

  #begin() {
    if (this.#told) return;
    const headers = `Content-Type: ${this.#contentType}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTrailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n`;
    this.#told = this.#client.begin(`invocation/${this.#id}/response`, headers);
    if (this.#prelude) this.#chunk(this.#prelude);
  }

  #chunk(data, callback) {
    const { socket } = this.#client;
    socket.cork();
    socket.write(`${data.length.toString(16)}\r\n`);
    socket.write(data);
    socket.write('\r\n', callback);
    socket.uncork();
  }

  _write(data, encoding, callback) {
    this.#begin();
    if (data.length === 0) callback();
    else this.#chunk(data, callback);
  }

  _final(callback) {
    this.#begin();
    this.#client.end('0\r\n\r\n', callback);
  }

  // Ends what was begun with an error.
  fail(error) {
    const body = Buffer.from(JSON.stringify(error)).toString('base64');
    this.#client.end(`0\r\n${errorHeaders(error)}Lambda-Runtime-Function-Error-Body: ${body}\r\n\r\n`);
    return this.#told;
  }
}

globalThis.awslambda = {
  streamifyResponse(handler, options) {
    handler[streams] = 'response';
    if (options?.highWaterMark !== undefined) handler[bufferSize] = parseInt(options.highWaterMark, 10);
    return handler;
  },
  HttpResponseStream: class HttpResponseStream {
    static from(stream, metadata) {
      stream.setContentType(integration);
      stream.setPrelude(JSON.stringify(metadata ?? {}));
      return stream;
    }
  },
};

// Runs a streaming handler, and sees its answer to its end.
async function runStreaming(client, handler, event, context) {
  const stream = new ResponseStream(client, requestId, handler[bufferSize]);
  let finished;
  try {
    finished = new Promise((resolve, reject) => {
      stream.once('finish', resolve);
      stream.once('error', reject);
      stream.once('close', () => (stream.writableFinished ? resolve() : reject(new Error('The response stream was destroyed'))));
    });
    finished.catch(() => {});
    await Promise.race([handler(event, stream, context), new Promise((_, reject) => finished.catch(reject))]);
    // Something may still be piped into it; when nothing is left that could be, it ends.
    if (!stream.writableEnded) onEmptyLoop = () => stream.end();
    await finished;
    onEmptyLoop = null;
  } catch (caught) {
    onEmptyLoop = null;
    const error = errorObject(caught);
    logError('Invoke Error', { ...error, stack: error.trace });
    if (stream.writableFinished) return stream.told;
    stream.removeAllListeners('error').on('error', () => {});
    stream.destroy();
    if (stream.told) return stream.fail(error);
    return client.call('POST', `invocation/${requestId}/error`, JSON.stringify(error), errorHeaders(error));
  }
  return stream.told;
}

function errorObject(error) {
  if (error instanceof Error || (error && typeof error === 'object' && 'stack' in error && 'message' in error)) {
    return {
      errorType: error.name ?? 'Error',
      errorMessage: String(error.message ?? ''),
      trace: String(error.stack ?? '').split('\n'),
    };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

function errorHeaders(error) {
  return `Lambda-Runtime-Function-Error-Type: ${String(error.errorType).replace(/[^\x20-\x7e]/g, ' ')}\r\n`;
}

// As Lambda decides: by the file's name, then by the nearest package.json.
function isModule(file) {
  if (!file.endsWith('.js')) return file.endsWith('.mjs');
  for (let directory = path.dirname(file); ; directory = path.dirname(directory)) {
    let text;
    try {
      text = fs.readFileSync(path.join(directory, 'package.json'), 'utf8');
    } catch {
      if (directory === taskRoot || directory === path.dirname(directory)) return false;
      continue;
    }
    return JSON.parse(text).type === 'module';
  }
}

async function loadFile(file) {
  if (!isModule(file)) {
    try {
      return require(file);
    } catch (error) {
      // A module after all, by its contents.
      if (error?.code !== 'ERR_REQUIRE_ESM' && error?.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error;
    }
  }
  return import(require('url').pathToFileURL(file).href);
}

async function load(name) {
  if (name.includes('..')) {
    throw new Fault('Runtime.MalformedHandlerName', `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(name);
  const match = /^([^.]*)\.(.+)$/.exec(base);
  if (!match) throw new Fault('Runtime.MalformedHandlerName', 'Bad handler');
  const [, module, member] = match;
  const stem = path.resolve(taskRoot, path.dirname(name), module);
  const file = ['.js', '.mjs', '.cjs'].map((end) => stem + end).find((file) => fs.existsSync(file));
  const directory = !file && fs.existsSync(path.join(stem, 'index.js')) ? path.join(stem, 'index.js') : file;
  if (!directory) {
    throw new Fault('Runtime.ImportModuleError', `Error: Cannot find module '${module}'\nRequire stack:\n- /var/runtime/index.mjs`);
  }
  let loaded;
  try {
    loaded = await loadFile(directory);
  } catch (error) {
    if (error instanceof SyntaxError) throw new Fault('Runtime.UserCodeSyntaxError', String(error.stack ?? error));
    if (error?.code === 'MODULE_NOT_FOUND' || error?.code === 'ERR_MODULE_NOT_FOUND') {
      throw new Fault('Runtime.ImportModuleError', `Error: ${error.message}`);
    }
    throw error;
  }
  const find = (root) => member.split('.').reduce((value, key) => value?.[key], root);
  const handler = find(loaded) ?? find(loaded?.default);
  if (handler === undefined) throw new Fault('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  if (typeof handler !== 'function') throw new Fault('Runtime.HandlerNotFound', `${name} is not a function`);
  return handler;
}

// The answer of one event: at once, or when the event loop is empty, as Lambda does for callbacks.
let onEmptyLoop = null;
process.on('beforeExit', () => {
  const then = onEmptyLoop;
  onEmptyLoop = null;
  if (then) setImmediate(then);
});

function run(handler, event, context) {
  return new Promise((resolve, reject) => {
    let waits = true;
    let over = false;
    const settle = (error, result) => {
      if (over) return;
      over = true;
      const finish = () => (error !== undefined && error !== null ? reject(error) : resolve(result));
      if (waits) onEmptyLoop = finish;
      else {
        onEmptyLoop = null;
        finish();
      }
    };
    Object.defineProperty(context, 'callbackWaitsForEmptyEventLoop', {
      enumerable: true,
      get: () => waits,
      set: (value) => {
        waits = Boolean(value);
      },
    });
    context.succeed = (result) => settle(null, result);
    context.fail = (error) => settle(error ?? 'handled', null);
    context.done = (error, result) => settle(error, result);
    // An empty loop without an answer is an answer: null.
    onEmptyLoop = () => resolve(null);
    let returned;
    try {
      returned = handler(event, context, settle);
    } catch (error) {
      onEmptyLoop = null;
      over = true;
      reject(error);
      return;
    }
    if (typeof returned?.then === 'function') {
      const now = (then) => (value) => {
        if (over) return;
        over = true;
        onEmptyLoop = null;
        then(value);
      };
      returned.then(now(resolve), now(reject));
    }
  });
}

function makeContext(headers) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const parse = (text) => (text ? JSON.parse(text) : undefined);
  return {
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parse(headers['lambda-runtime-client-context']),
    identity: parse(headers['lambda-runtime-cognito-identity']),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    getRemainingTimeInMillis: () => Math.max(deadline - Date.now(), 0),
  };
}

async function fatal(error, kind) {
  const object = errorObject(error);
  if (kind) {
    object.errorType = kind;
    object.errorMessage = `${error?.name ?? 'Error'}: ${error?.message ?? error}`;
  }
  logError(kind === 'Runtime.UnhandledPromiseRejection' ? 'Unhandled Promise Rejection' : 'Uncaught Exception', object);
  const suffix = requestId ? `invocation/${requestId}/error` : 'init/error';
  try {
    // The usual connection may be waiting for the next event.
    await new Client().call('POST', suffix, JSON.stringify(object), errorHeaders(object));
  } finally {
    process.exit(kind === 'Runtime.UnhandledPromiseRejection' ? 128 : 129);
  }
}

process.on('uncaughtException', (error) => fatal(error));
process.on('unhandledRejection', (error) => fatal(error, 'Runtime.UnhandledPromiseRejection'));

// Waits for a function and takes its environment over. Until then nothing of any function is here.
async function standReady(word) {
  const line = Number.parseInt(word, 10);
  const client = new Client();
  client.socket.ref();
  await new Promise((resolve) => client.socket.once('connect', resolve));
  client.socket.unref();
  await import(require('url').pathToFileURL(path.join(__dirname, 'warm.mjs')).href);
  // Where the kernel shows the environment, that of the function will be written: nothing may point there any more.
  for (const name of Object.keys(process.env)) delete process.env[name];
  fs.writeSync(line, 'r');
  const environment = fs.readFileSync(line).toString('utf8');
  fs.closeSync(line);
  for (const entry of environment.split('\0').slice(0, -1)) {
    const equals = entry.indexOf('=');
    process.env[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
  process.chdir(process.env.LAMBDA_TASK_ROOT);
  return client;
}

async function main() {
  const ready = process.env.HAWKER_READY;
  const client = ready === undefined ? new Client() : await standReady(ready);
  configure();
  let handler;
  try {
    handler = await load(process.env._HANDLER);
  } catch (error) {
    const object = errorObject(error);
    logError('Uncaught Exception', object);
    await client.call('POST', 'init/error', JSON.stringify(object), errorHeaders(object));
    process.exit(1);
  }

  let next = client.call('GET', 'invocation/next');
  for (;;) {
    const { status, headers, body } = await next;
    if (status !== 200) throw new Error(`the Runtime API answered ${status}: ${body}`);
    requestId = headers['lambda-runtime-aws-request-id'];
    process.env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'] ?? '';
    if (handler[streams]) {
      await runStreaming(client, handler, JSON.parse(body), makeContext(headers));
      next = client.call('GET', 'invocation/next');
      continue;
    }
    let answer;
    let error;
    try {
      const result = await run(handler, JSON.parse(body), makeContext(headers));
      answer = JSON.stringify(result === undefined ? null : result);
      if (answer === undefined) answer = 'null';
    } catch (caught) {
      error = errorObject(caught);
      logError('Invoke Error', { ...error, stack: error.trace });
    }
    const told = error
      ? client.call('POST', `invocation/${requestId}/error`, JSON.stringify(error), errorHeaders(error))
      : client.call('POST', `invocation/${requestId}/response`, answer);
    // In the same breath: what is said to the answer changes nothing.
    next = client.call('GET', 'invocation/next');
    await told;
  }
}

main().catch((error) => fatal(error));
